// bulkhead run and demo with a real guest on a real KVM.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { firstLightGuest } from "../../build/bench/first-light.js";
import { BULKHEAD, bulkhead, ENTROPY_GUEST, jsonLines, whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";

const scratch = mkdtempSync(path.join(os.tmpdir(), "bulkhead-run-"));
const sleeper = path.join(scratch, "sleep.elf");
writeFileSync(sleeper, firstLightGuest("sleep"));
test.after(() => rmSync(scratch, { recursive: true }));

/** A test that runs a guest, and is skipped where none can run. */
function guestTest(name: string, body: () => Promise<void> | void): void {
  test(name, () => {
    const reason = whyNoKvm();
    return reason === undefined ? body() : skip(reason);
  });
}

guestTest("bulkhead run shows the guest's serial output and leaves with status 0", () => {
  const { status, stdout, stderr } = bulkhead(["run", ENTROPY_GUEST, "--rng"]);
  assert.match(stdout, /^entropy guest, entered by /);
  assert.match(stdout, "1 passed, 0 failed: PASS");
  const granted =
    /^# rng0: source=\/dev\/urandom \(file, read\) → process \d+: \d+ system calls, /m;
  assert.match(stderr, granted);
  assert.match(stderr, /^# the guest powered off$/m);
  assert.is(status, 0);
});

guestTest("bulkhead run says what it granted to whom before the guest's first word", () => {
  const both = 'exec "$@" 2>&1';
  const devices = ["--rng", "--device", "rng,source=/dev/random"];
  const { stdout } = bulkhead(["run", ENTROPY_GUEST, ...devices], { shell: both });
  const lines = stdout.split("\n");
  assert.equal(
    lines
      .slice(0, 2)
      .map((line) => line.slice(0, line.indexOf("→")))
      .sort(),
    ["# rng0: source=/dev/urandom (file, read) ", "# rng1: source=/dev/random (file, read) "],
  );
  assert.match(lines[2]!, /^entropy guest, entered by /);
});

guestTest("bulkhead run --quiet says only why it ended", () => {
  for (const option of ["-q", "--quiet"]) {
    const { stderr, stdout } = bulkhead(["run", ENTROPY_GUEST, "--rng", option]);
    assert.is(stderr, "# the guest powered off\n");
    assert.match(stdout, "1 passed, 0 failed: PASS");
  }
});

guestTest("bulkhead run --json prints events in order, each with its time", () => {
  const { status, stdout } = bulkhead(["run", ENTROPY_GUEST, "--rng", "--json"]);
  const events = jsonLines(stdout);
  const names = events.map(({ event }) => event).filter((name) => name !== "serial");
  assert.equal(names, ["device-ready", "vmm-ready", "guest-exit"]);
  assert.ok(events.every(({ time }) => typeof time === "number" && time > 1e12));
  const text = events.map(({ text: part }) => part ?? "").join("");
  assert.match(text, "1 passed, 0 failed: PASS");
  assert.is(events.at(-1)?.reason, "poweroff");
  assert.is(status, 0);
});

guestTest("bulkhead run --json tells how each device is confined", () => {
  const args = ["run", ENTROPY_GUEST, "--rng", "--device", "rng,source=/dev/random", "--json"];
  const ready = jsonLines(bulkhead(args).stdout).filter(({ event }) => event === "device-ready");
  assert.equal(ready.map(({ id }) => id).sort(), ["rng0", "rng1"]);
  for (const event of ready) {
    assert.is(event.isolation, "process");
    assert.is(event.wxPages, 0);
    assert.ok(Number(event.syscalls) <= 12, `${event.syscalls} system calls`);
    assert.type(event.startMs, "number");
    assert.type(event.fds, "number");
  }
  assert.is.not(ready[0]?.pid, ready[1]?.pid);
});

guestTest("bulkhead run --serial puts the serial output into a file alone", () => {
  const file = path.join(scratch, "serial.log");
  const { status, stdout } = bulkhead(["run", ENTROPY_GUEST, "--rng", "--serial", file]);
  assert.is(status, 0);
  assert.is(stdout, "");
  assert.match(readFileSync(file, "utf8"), "1 passed, 0 failed: PASS");
});

guestTest("bulkhead run --json --serial keeps events and serial output apart", () => {
  const file = path.join(scratch, "events.log");
  const { stdout } = bulkhead(["run", ENTROPY_GUEST, "--rng", "--json", "--serial", file]);
  const names = jsonLines(stdout).map(({ event }) => event);
  assert.equal(names, ["device-ready", "vmm-ready", "guest-exit"]);
  assert.match(readFileSync(file, "utf8"), "1 passed, 0 failed: PASS");
});

guestTest("bulkhead run --isolation inline says that nothing confines the device", () => {
  const args = ["run", ENTROPY_GUEST, "--rng", "--isolation", "inline"];
  const { status, stdout, stderr } = bulkhead(args);
  assert.match(stderr, "→ inside the VMM process, not confined");
  assert.match(stdout, "1 passed, 0 failed: PASS");
  assert.is(status, 0);
});

guestTest("bulkhead run leaves with status 4 when the guest crashes", () => {
  const { status, stderr } = bulkhead(["run", ENTROPY_GUEST, "--rng", "-p", "exit=triplefault"]);
  assert.match(stderr, "# the guest crashed: triple fault");
  assert.is(status, 4);
});

guestTest("bulkhead run takes a reboot as an end like any other", () => {
  const { status, stderr } = bulkhead(["run", ENTROPY_GUEST, "--rng", "-p", "exit=reset"]);
  assert.match(stderr, "# the guest rebooted");
  assert.is(status, 0);
});

/** Processes that have `pid` as their parent. */
function childrenOf(pid: number): number[] {
  const { stdout } = spawnSync("ps", ["-o", "pid=", "--ppid", `${pid}`], { encoding: "utf8" });
  return stdout.split("\n").filter(Boolean).map(Number);
}

/** Resolves when `pid` is gone; the test's own time limit ends it when that never happens. */
async function gone(pid: number): Promise<void> {
  while (existsSync(`/proc/${pid}`)) await new Promise((resolve) => setTimeout(resolve, 10));
}

guestTest("bulkhead run ends on SIGTERM with status 143 and leaves no process behind", async () => {
  const child = spawn(process.execPath, [BULKHEAD, "run", sleeper, "--rng"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exit = once(child, "close");
  await Promise.race([once(child.stdout, "data"), exit]);
  const children = childrenOf(child.pid!);
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  child.kill("SIGTERM");
  assert.is(children.length, 2, "a device and the warden");
  assert.equal(await exit, [143, null]);
  assert.match(said, "# the guest was stopped (SIGTERM)\n");
  for (const pid of children) await gone(pid);
});

guestTest("bulkhead run leaves at once on the second signal, and says so", async () => {
  const child = spawn(process.execPath, [BULKHEAD, "run", sleeper, "--rng"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exit = once(child, "close");
  await Promise.race([once(child.stdout, "data"), exit]);
  const children = childrenOf(child.pid!);
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  child.kill("SIGTERM");
  child.kill("SIGINT");
  const [status] = await exit;
  // Of two that wait either may come first.
  const [, first] = /# left at once: \w+ after (SIGTERM|SIGINT)\n/.exec(said) ?? [];
  assert.is(status, first === "SIGTERM" ? 143 : 130, said);
  assert.ok(first, said);
  for (const pid of children) await gone(pid);
});

guestTest("bulkhead demo shows what confines its devices", () => {
  const { status, stdout } = bulkhead(["demo"]);
  assert.is(status, 0);
  assert.match(stdout, "2 passed, 0 failed: PASS");
  assert.match(stdout, /^rng0 +\d+ +process +\d+ +\d+ +0 +\d+\.\d MiB +\d+ ms$/m);
  assert.match(stdout, /^rng1 +\d+ +process +\d+ +\d+ +0 +\d+\.\d MiB +\d+ ms$/m);
  assert.match(stdout, /^The VMM itself has \d+ system calls left, and none that opens/m);
});

guestTest("bulkhead demo --json prints the proof of each device as an object", () => {
  const { status, stdout } = bulkhead(["demo", "--json"]);
  assert.is(status, 0);
  const proofs = jsonLines(stdout).filter(({ event }) => event === "proof");
  assert.equal(
    proofs.map(({ id }) => id),
    ["rng0", "rng1"],
  );
  for (const proof of proofs) {
    assert.is(proof.seccomp, 2);
    assert.is(proof.noNewPrivs, true);
    assert.is(proof.wxPages, 0);
  }
});

test.run();
