import { test } from "uvu";
import * as assert from "uvu/assert";
import { describeEvent } from "../../host/cli/events.js";
import { printable } from "../../host/cli/output.js";
import type { DeviceConfig } from "../../host/machine/config.js";

const READY = {
  time: 0,
  event: "device-ready",
  id: "rng0",
  pid: 42,
  isolation: "process",
  syscalls: 10,
  fds: 6,
  wxPages: 0,
  startMs: 38.4,
} as const;

test("describeEvent() says what was granted to which device, and how it is confined", () => {
  const confined = "process 42: 10 system calls, 6 descriptors, 0 W+X pages";
  assert.is(describeEvent(READY), `rng0: nothing → ${confined}`);
  const grants: DeviceConfig["grants"] = {
    image: { kind: "file", what: "disk.img", rights: ["read", "write"] },
    time: { kind: "clock", what: "monotonic", rights: ["read"] },
  };
  const granted = "image=disk.img (file, read, write), time=monotonic (clock, read)";
  assert.is(describeEvent(READY, grants), `rng0: ${granted} → ${confined}`);
});

test("describeEvent() says when there is no filter, and when a device is not confined", () => {
  assert.match(describeEvent({ ...READY, syscalls: null }) ?? "", "no filter");
  assert.match(describeEvent({ ...READY, isolation: "inline" }) ?? "", "not confined");
});

test("describeEvent() says how a guest ended, with the detail that there is", () => {
  const exit = { time: 0, event: "guest-exit", reason: "poweroff" } as const;
  assert.is(describeEvent(exit), "the guest powered off");
  const crash = { ...exit, reason: "triple-fault", detail: "rip 0x10" } as const;
  assert.is(describeEvent(crash), "the guest crashed: triple fault (rip 0x10)");
});

test("describeEvent() leaves the guest's own words to the terminal", () => {
  assert.is(describeEvent({ time: 0, event: "serial", text: "hello" }), undefined);
});

test("printable() keeps text and line breaks, and shows what could drive a terminal", () => {
  assert.is(printable("héllo\n"), "héllo\n");
  assert.is(printable("\x1b[2J\r\x07\x9b"), "\\x1b[2J\\x0d\\x07\\x9b");
});

test.run();
