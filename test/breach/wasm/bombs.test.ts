// Small modules that are large work for V8: they must not take the host's memory before the
// lock-down, which is when V8 compiles them.

import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { LOCALS_MAX } from "../../../host/sandbox/code.js";
import { ConfinedDevice, endAll } from "../support/confined.js";
import { joined, leb128, repeated } from "../support/encode.js";
import { withBody } from "./limits.js";

/** What the process may have at its start (160 MiB), and the text of node. */
const RESIDENT_BYTES_MAX = 256 * 1024 * 1024;
const LOOK_MS = 5;

/** The most memory that the process of `device` has had so far, in bytes. */
function peakBytes({ process: { pid } }: ConfinedDevice): number {
  try {
    const status = fs.readFileSync(`/proc/${pid}/status`, "latin1");
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

interface Bomb {
  name: string;
  module: () => Uint8Array;
}

const nestedIfs = (count: number) =>
  joined(repeated([0x41, 0, 0x04, 0x40], count), repeated([0x0b], count));

const BOMBS: readonly Bomb[] = [
  {
    // At every branch the compiler copies what it knows of every value: 20,000 times 20,000.
    name: "a function of 140 kB with 20,000 values under 20,000 branches",
    module: () =>
      withBody(joined(repeated([0x41, 0], 20_000), nestedIfs(20_000), repeated([0x1a], 20_000))),
  },
  {
    name: "a function of 500 kB with all the locals it may have and 100,000 branches",
    module: () => withBody(nestedIfs(100_000), joined([1], leb128(LOCALS_MAX), [0x7e])),
  },
];

for (const { name, module } of BOMBS) {
  test(`${name} ends before it is ready, in bounded memory`, async () => {
    const device = new ConfinedDevice(module());
    let ended = false;
    const exit = device.exit.then((result) => {
      ended = true;
      return result;
    });
    let peak = 0;
    for (; !ended; await sleep(LOOK_MS)) peak = Math.max(peak, peakBytes(device));
    const { signal, reason, stderr } = await exit;
    assert.ok(["SIGTRAP", "SIGILL", "SIGABRT", "SIGSEGV"].includes(signal ?? ""), reason);
    assert.match(stderr, /out of memory/);
    assert.equal(await device.receiveAll(), []);
    assert.ok(peak > 0 && peak < RESIDENT_BYTES_MAX, `${peak} bytes`);
  });
}

test.after.each(endAll);
test.run();
