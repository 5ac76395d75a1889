// A whole VMM and devices that do it no good for long: one that reads nothing, and one that dies
// again and again. It goes on, and keeps no descriptor and no memory of them.

import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { whyNoKvm } from "../support/bulkhead.js";
import { note, skip } from "../support/skip.js";
import { config, Run, rng } from "../support/vm.js";

/** Enough for a leak to stand out from what V8 keeps, which was up to 2.5 MB. */
const RESTARTS = 100;
/** Restarts after which everything is loaded, compiled and cached. */
const WARM_UP_RESTARTS = 10;
/**
 * A channel that stays mapped costs twice as much at each restart; without a leak, 5 to 45 KiB.
 */
const BYTES_A_RESTART_MAX = 64 * 1024;

/** What the VMM may come to hold while it cannot get rid of requests; the guest has 64 MiB. */
const DEAF_BYTES_MAX = 16 * 1024 * 1024;

const endurance = suite("endurance");

interface Held {
  fds: number;
  threads: number;
  bytes: number;
}

/** What this process, which is the VMM, holds: anonymous memory outside V8's heap (proc(5)). */
function held(): Held {
  const status = fs.readFileSync("/proc/self/status", "latin1");
  const bytes = Number(status.match(/^VmData:\s+(\d+) kB$/m)?.[1]) * 1024;
  const count = (directory: string) => fs.readdirSync(`/proc/self/${directory}`).length;
  const { heapTotal } = process.memoryUsage();
  return { fds: count("fd"), threads: count("task"), bytes: bytes - heapTotal };
}

/** Kills the device of `run` when it is back from the last kill, `count` times. */
async function killAgain(run: Run, count: number): Promise<void> {
  const back = () => run.all("device-ready").length === run.all("device-restart").length + 1;
  for (let i = 0; i < count; i += 1) {
    const restarts = run.all("device-restart").length;
    process.kill(run.all("device-ready").at(-1)?.pid ?? 0, "SIGKILL");
    await run.until(() => run.all("device-restart").length === restarts + 1 && back());
    await sleep(10);
  }
}

endurance(`a VMM holds as much after ${RESTARTS} restarts of a device as before`, async () => {
  const run = await Run.create(config("bench seconds=600 depth=16 request=4096 timeout=60"));
  const done = run.vm.run();
  await killAgain(run, WARM_UP_RESTARTS);
  const before = held();
  await killAgain(run, RESTARTS);
  const after = held();
  const grown = (after.bytes - before.bytes) / RESTARTS;
  note(`${(grown / 1024).toFixed(1)} KiB a restart`);
  run.vm.stop("enough");
  await done;
  assert.is(after.fds, before.fds);
  assert.is(after.threads, before.threads);
  assert.ok(grown < BYTES_A_RESTART_MAX, `${grown} bytes a restart`);
});

endurance("a device that reads nothing keeps no other waiting, nor the VMM", async () => {
  const devices = [rng("rng0"), rng("rng1")];
  const run = await Run.create(config("bytes=1000000 depth=32 timeout=3", { devices }));
  const deaf = run.all("device-ready").find(({ id }) => id === "rng0")?.pid ?? 0;
  process.kill(deaf, "SIGSTOP");
  const before = held();
  const exit = await run.vm.run();
  assert.match(run.text, /rng1: 1000000 bytes in /, "the guest waits for the other device");
  assert.match(run.text, /1 passed, 1 failed/);
  assert.is(exit.reason, "poweroff");
  assert.ok(held().bytes - before.bytes < DEAF_BYTES_MAX);
  assert.not.ok(fs.existsSync(`/proc/${deaf}`), "it outlives the VM");
});

const noKvm = whyNoKvm();
if (noKvm === undefined) endurance.run();
else skip(noKvm);
