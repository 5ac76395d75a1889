// Kernel images with random damage. Whatever the bytes say, planBoot() returns a plan that keeps
// its promises, or throws a VmmError: never a RangeError, never a hang, never a segment outside
// RAM. BULKHEAD_TEST_SEED repeats a run with another seed.

import assert from "node:assert/strict";
import { test } from "uvu";
import type { BootPlan } from "../../host/boot/plan.js";
import { VmmError } from "../../host/errors.js";
import { bzImage, elf, load, MIB, note, notes, plan, pvhNote } from "./fixtures.js";

const RUNS = 20_000;
const SEED = Number(process.env.BULKHEAD_TEST_SEED ?? 1);

/** xorshift32: a number in [0, below). */
function generator(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const CODE = new Uint8Array(64).fill(0xf4);
const OTHER_NOTE = note("GNU\0", 3, { desc: new Uint8Array(20) });
const IMAGES = [
  elf([load(MIB, CODE), load(2 * MIB, CODE, 8192), load(3 * MIB, CODE)]),
  elf([load(MIB, CODE), notes(Buffer.concat([OTHER_NOTE, pvhNote(MIB)])), load(2 * MIB, CODE)]),
  bzImage({}, 1024),
];

/** Values at which arithmetic breaks, beside plain noise. */
const EDGES = [
  0n,
  1n,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  2n ** 32n,
  2n ** 53n - 1n,
  2n ** 53n,
].concat([2n ** 63n, 2n ** 64n - 1n, 2n ** 64n - 4096n, 0x7000n, 0xe0000n, 0x100000n, 0x3ffffffn]);

/** Offsets worth damaging: headers, mostly behind the magic that says what kind of file it is. */
function headerOffset(image: Uint8Array, random: (below: number) => number): number {
  if (image[0] !== 0x7f) return 0x1f1 + random(0x80);
  return random(8) === 0 ? random(24) : 24 + random(Math.min(image.length, 400) - 24);
}

function mutate(image: Uint8Array, random: (below: number) => number): Uint8Array {
  const copy = image.slice();
  const view = new DataView(copy.buffer);
  for (let i = 1 + random(3); i > 0; i--) {
    const offset = headerOffset(copy, random);
    if (random(2) === 0) {
      copy[offset] = random(256);
    } else {
      const size = [2, 4, 8][random(3)] ?? 8;
      const value = BigInt.asUintN(size * 8, EDGES[random(EDGES.length)] ?? 0n);
      const aligned = copy[0] === 0x7f ? offset - (offset % size) : offset;
      for (let byte = 0; byte < size && aligned + byte < copy.length; byte++) {
        view.setUint8(aligned + byte, Number((value >> BigInt(8 * byte)) & 0xffn));
      }
    }
  }
  return random(8) === 0 ? copy.subarray(0, random(copy.length + 1)) : copy;
}

function checkPromises(result: BootPlan): void {
  const ranges = result.segments
    .map(({ gpa, bytes, zeroBytes }) => ({ gpa, end: gpa + bytes.length + zeroBytes }))
    .sort((a, b) => a.gpa - b.gpa);
  let end = 0;
  for (const range of ranges) {
    assert.ok(Number.isSafeInteger(range.gpa) && Number.isSafeInteger(range.end));
    assert.ok(range.gpa >= end, "overlapping segments");
    end = range.end;
  }
  assert.ok(end <= 64 * MIB, "a segment outside RAM");
  const loaded = result.segments.some(({ gpa, bytes }) => {
    return result.entry >= gpa && result.entry < gpa + bytes.length;
  });
  assert.ok(loaded, "an entry in no segment");
}

test(`planBoot() answers ${RUNS} damaged images with a plan or a VmmError (seed ${SEED})`, () => {
  const random = generator(SEED);
  const initrd = new Uint8Array(5000);
  const counts: Record<string, number> = { plan: 0 };
  for (let run = 0; run < RUNS; run++) {
    const image = mutate(IMAGES[random(IMAGES.length)] ?? CODE, random);
    try {
      checkPromises(plan(image, { initrd }));
      counts.plan = (counts.plan ?? 0) + 1;
    } catch (error) {
      if (!(error instanceof VmmError)) {
        throw new Error(`run ${run}: ${Buffer.from(image).toString("base64")}`, { cause: error });
      }
      counts[error.code] = (counts[error.code] ?? 0) + 1;
    }
  }
  // A mutator that damages nothing, or everything, finds nothing.
  for (const outcome of ["plan", "ERR_KERNEL_IMAGE", "ERR_MEMORY_LAYOUT"]) {
    assert.ok((counts[outcome] ?? 0) > RUNS / 100, `${outcome} in ${JSON.stringify(counts)}`);
  }
});

test.run();
