// Death is normal: a device may be killed at any instant and the guest sees a slow request; a
// device that never comes back is killed and named; and nothing outlives the VMM.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceConfig } from "../../host/machine/config.js";
import { moduleWith } from "../runtime/support.js";
import { BULKHEAD, ENTROPY_GUEST, jsonLines, whyNoKvm } from "../support/bulkhead.js";
import { note, skip } from "../support/skip.js";
import { config, Run } from "../support/vm.js";

const KILLS = Number(process.env.BULKHEAD_TEST_KILLS ?? 200);
const SEED = Number(process.env.BULKHEAD_TEST_SEED ?? 1);
/** Between two kills at most this long after the device is back. */
const KILL_DELAY_MS_MAX = 40;

const death = suite("death");

/** Pseudo-random numbers in [0, 1), the same for the same seed (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Milliseconds from each `device-exit` to the `device-ready` that followed it. */
function downTimes(run: Run): number[] {
  const ready = run.all("device-ready").map((event) => event.time);
  const exits = run.all("device-exit").map((event) => event.time);
  return exits.map((time, i) => (ready[i + 1] ?? Number.NaN) - time);
}

death(
  `a device killed ${KILLS} times under load costs the guest no request and no byte`,
  async () => {
    // The guest checks what it gets: lengths, canaries behind every buffer, one answer a request.
    const run = await Run.create(config("bench seconds=600 depth=16 request=4096 timeout=60"));
    const done = run.vm.run();
    const next = random(SEED);
    for (let kills = 1; kills <= KILLS; kills++) {
      await run.until(() => run.all("device-ready").length === kills);
      await sleep(next() * KILL_DELAY_MS_MAX);
      process.kill(run.all("device-ready").at(-1)?.pid ?? 0, "SIGKILL");
    }
    await run.until(() => run.all("device-ready").length === KILLS + 1);
    await sleep(200);
    assert.not.match(run.text, /rng0: (?!at|bench)/, "the guest found something wrong");
    run.vm.stop("enough");
    assert.is((await done).reason, "stopped");
    const exits = run.all("device-exit");
    assert.is(exits.length, KILLS);
    assert.ok(exits.every(({ reason }) => /SIGKILL/.test(reason)));
    const down = downTimes(run);
    note(`back after ${median(down).toFixed(0)} ms (median of ${down.length} kills, seed ${SEED})`);
  },
);

death("a guest that counts what it reads gets every byte across kills", async () => {
  const run = await Run.create(config("bytes=20000000 depth=32 request=4096 timeout=60"));
  const done = run.vm.run();
  const next = random(SEED + 1);
  for (let kills = 1; !run.text.includes("passed"); kills++) {
    await run.until(() => run.all("device-ready").length === kills || run.text.includes("passed"));
    await sleep(next() * KILL_DELAY_MS_MAX);
    if (run.text.includes("passed")) break;
    process.kill(run.all("device-ready").at(-1)?.pid ?? 0, "SIGKILL");
  }
  assert.is((await done).status, 0);
  assert.match(run.text, /20000000 bytes in .*\r?\n.*looks random\r?\n.*1 passed, 0 failed: PASS/);
  note(`${run.all("device-exit").length} kills while 20 MB were read`);
});

/** A device of somebody else's, whose serve() is `serve` in text format. */
function foreignDevice(directory: string, serve: string): DeviceConfig {
  const module = path.join(directory, "foreign.wasm");
  writeFileSync(module, moduleWith({ serve }));
  return { id: "foreign0", module, grants: {}, isolation: "process", seccomp: "enforce" };
}

const LOOP =
  '(func (export "serve") (param i32 i32 i32 i32 i32) (result i32) (loop br 0) i32.const 0)';

death("an endless loop in an inline device ends the VM, and names the device", async () => {
  const directory = mkdtempSync(path.join(os.tmpdir(), "bulkhead-death-"));
  try {
    const devices = [{ ...foreignDevice(directory, LOOP), isolation: "inline" as const }];
    const run = await Run.create(config("timeout=600", { devices }));
    const exit = await run.vm.run();
    assert.is(exit.status, 5);
    assert.match(exit.detail ?? "", /^foreign0 ended, .*: an endless loop: \d+ ms of processor/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

death("an endless loop in a device is found, named and killed; the VM lives", async () => {
  const directory = mkdtempSync(path.join(os.tmpdir(), "bulkhead-death-"));
  try {
    const devices = [foreignDevice(directory, LOOP)];
    const run = await Run.create(config("timeout=600", { devices }));
    const done = run.vm.run();
    await run.until(() => run.all("device-exit").length > 0);
    const [log] = run.all("log").filter(({ text }) => text.startsWith("killed"));
    assert.match(log?.text ?? "", /an endless loop in message \d+: \d+ ms of processor time/);
    assert.is(log?.id, "foreign0");
    assert.match(run.all("device-exit")[0]?.reason ?? "", /^was killed for an endless loop/);
    run.vm.stop("seen");
    assert.is((await done).reason, "stopped");
  } finally {
    rmSync(directory, { recursive: true });
  }
});

function isAlive(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, "latin1").includes(") Z ");
  } catch {
    return false;
  }
}

death("a VMM killed by SIGKILL leaves no device behind", async () => {
  const args = ["run", ENTROPY_GUEST, "--rng", "--rng", "-p", "exit=hang bytes=64", "--json"];
  const vmm = spawn(process.execPath, [BULKHEAD, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  vmm.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const events = () => jsonLines(output.slice(0, output.lastIndexOf("\n") + 1));
  const text = () =>
    events()
      .map((event) => event.text ?? "")
      .join("");
  while (!text().includes("hangs")) await sleep(5);
  const ready = events().filter(({ event }) => event === "device-ready");
  const pids = ready.map(({ pid }) => Number(pid));
  assert.equal(pids.map(isAlive), [true, true]);
  vmm.kill("SIGKILL");
  await new Promise((resolve) => vmm.once("exit", resolve));
  while (pids.some(isAlive)) await sleep(1); // a device that stays is a hang, which the runner ends
  assert.equal(pids.map(isAlive), [false, false]);
});

const noKvm = whyNoKvm();
if (noKvm === undefined) death.run();
else skip(noKvm);
