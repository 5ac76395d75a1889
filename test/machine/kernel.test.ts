// Debian's unmodified kernel as a guest: its own virtio drivers against our devices, with
// interrupts.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { note, skip } from "../support/skip.js";
import {
  bulkhead,
  type JobResult,
  machineUnavailable,
  type Place,
  runInMachine,
} from "./machine.js";

/** A guest reads 64 bytes at a time, so this many bytes are 4096 requests and interrupts. */
const SAMPLE_BYTES = 256 * 1024;

function stockKernel(isolation: string): (place: Place) => string[] {
  return ({ kernel, initrd }) => [
    ...["run", "-k", kernel, "-i", initrd, "-m", "256M", "-c", "2", "--rng"],
    ...["--isolation", isolation, "-p", `console=ttyS0 quiet test.bytes=${SAMPLE_BYTES}`],
  ];
}

/** What the guest says of itself, as guest-init.sh prints it. */
function guestLines({ output }: JobResult): string[] {
  return output
    .replaceAll("\r", "")
    .split("\n")
    .filter((line) => line.startsWith("guest: "));
}

function checkGuest(result: JobResult, isolation: string): void {
  const lines = guestLines(result);
  note(`${isolation}: status ${result.status}, ${result.seconds.toFixed(1)} s`);
  note(lines.join("\n"));
  const text = lines.join("\n");
  if (!text.includes("guest: done")) note(result.output);
  assert.match(text, /guest: kernel \S+, 2 cpus/);
  assert.match(text, /guest: rng_current virtio_rng\.0/);
  assert.match(text, new RegExp(`guest: read ${SAMPLE_BYTES} bytes`));
  assert.match(text, /guest: sha256 [0-9a-f]{64}/);
  assert.ok(Number(/gzipped (\d+)/.exec(text)?.[1]) > SAMPLE_BYTES, "random bytes do not compress");
  assert.match(text, /guest: interrupts .*virtio0/);
  assert.match(text, /guest: slept/, "its timer interrupts");
  assert.match(text, /guest: done/);
  assert.is(result.status, 0);
}

const unavailable = machineUnavailable();
if (unavailable === undefined) {
  let results: JobResult[] = [];

  test.before(async () => {
    results = await runInMachine([
      bulkhead(stockKernel("process")),
      bulkhead(stockKernel("inline")),
    ]);
  });

  test("a stock kernel with 2 cpus reads /dev/hwrng from a confined device", () => {
    checkGuest(results[0]!, "process");
  });

  test("a stock kernel with 2 cpus reads /dev/hwrng from an inline device", () => {
    checkGuest(results[1]!, "inline");
  });

  test("two guests get different bytes", () => {
    const [one, two] = results.map((result) => /sha256 (\S+)/.exec(result.output)?.[1]);
    assert.is.not(one, two);
  });
} else {
  skip(unavailable);
}

test.run();
