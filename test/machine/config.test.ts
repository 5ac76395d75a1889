// A guest that writes to a config space and reads what the device makes of it, on this machine's
// own /dev/kvm: it gets the answer, whatever becomes of the device meanwhile.

import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { guestPath } from "../../build/guest.js";
import type { DeviceConfig } from "../../host/machine/config.js";
import { CONFIG_ANSWER_MS_MAX } from "../../host/virtio/config-writes.js";
import { whyNoKvm } from "../support/bulkhead.js";
import { DEADLY, writeSelector } from "../support/selector.js";
import { note, skip } from "../support/skip.js";
import { config, Run } from "../support/vm.js";

const selecting = suite("config space of a VM");
const directory = mkdtempSync(path.join(os.tmpdir(), "bulkhead-config-"));
const module = path.join(directory, "selector.wasm");

selecting.before(() => writeSelector(module));
selecting.after(() => rmSync(directory, { recursive: true }));

function start(cmdline: string, changes: Partial<DeviceConfig> = {}): Promise<Run> {
  const device = { id: "selector0", module, grants: {}, isolation: "process" as const };
  const devices = [{ ...device, seccomp: "enforce" as const, ...changes }];
  return Run.create(config(cmdline, { kernel: guestPath("config"), devices }));
}

for (const isolation of ["process", "inline"] as const) {
  selecting(`a guest reads the answer to each of its writes: ${isolation}`, async () => {
    const run = await start("rounds=2000", { isolation });
    assert.is((await run.vm.run()).status, 0);
    assert.match(run.text, /2000 rounds in \d+ ns, 0 stale\r?\nconfig guest: 1 passed, 0 failed/);
    assert.equal(run.all("log"), []);
    const ns = Number(/rounds in (\d+) ns/.exec(run.text)?.[1]);
    note(`${isolation}: ${(ns / 2000 / 1000).toFixed(0)} µs a round of a write and three reads`);
  });
}

selecting("a guest gets its answers from a device killed again and again", async () => {
  const run = await start("rounds=3000");
  const done = run.vm.run();
  let kills = 0;
  for (; !run.text.includes("passed"); kills++) {
    await run.until(
      () => run.all("device-ready").length === kills + 1 || run.text.includes("passed"),
    );
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (run.text.includes("passed")) break;
    process.kill(run.all("device-ready").at(-1)?.pid ?? 0, "SIGKILL");
  }
  assert.is((await done).status, 0);
  assert.match(run.text, /3000 rounds in \d+ ns, 0 stale\r?\nconfig guest: 1 passed, 0 failed/);
  assert.ok(kills > 0, "the guest was done before the first kill");
  note(`${kills} kills`);
});

for (const isolation of ["process", "inline"] as const) {
  selecting(
    `a device that dies of a write is given up, and the guest goes on: ${isolation}`,
    async () => {
      const frail = path.join(directory, "frail.wasm");
      await writeSelector(frail, { frail: true });
      const run = await start(`rounds=${DEADLY + 200}`, { isolation, module: frail });
      assert.is((await run.vm.run()).status, 0);
      assert.match(run.text, /300 rounds in \d+ ns, 201 stale/);
      const logs = run.all("log").map(({ text }) => text);
      assert.ok(logs.some((text) => text.startsWith("failed for good: ")));
      assert.ok(logs.some((text) => text.endsWith("device says: configure: unreachable")));
    },
  );
}

selecting("a device that never answers is ended, and the guest goes on with what was", async () => {
  const run = await start("rounds=100000000");
  const done = run.vm.run();
  await run.until(() => run.text.includes("config0: at"));
  const [first] = run.all("device-ready");
  process.kill(first?.pid ?? 0, "SIGSTOP");
  await run.until(() => run.all("device-ready").length === 2);
  const logs = run.all("log").map(({ id, text }) => `${id}: ${text}`);
  const why = `no answer to a write of its config space in ${CONFIG_ANSWER_MS_MAX} ms`;
  assert.equal(logs, [`selector0: killed: ${why}`]);
  assert.is(run.all("device-exit")[0]?.reason, `was killed for ${why}`);
  run.vm.stop("seen");
  assert.is((await done).reason, "stopped");
});

const noKvm = whyNoKvm();
if (noKvm === undefined) selecting.run();
else skip(noKvm);
