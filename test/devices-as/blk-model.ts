// A disk as a driver sees it, and what it should be: the same random requests to both.

import { strict as assert } from "node:assert";
import fs from "node:fs";
import { type DeviceUnderTest, type MemoryFile, openDevice } from "../../host/testing/main.js";
import type { Random } from "../virtio/random.js";
import { ask, FLUSH, IN, OK, OUT } from "./examples/blk.js";
import { BLK, between, check, contentsOf, newPath, noise, readAll } from "./qemu.js";

export const DISCARD = 11;
export const WRITE_ZEROES = 13;

/** One segment of a discard, or of zeros to write. */
export function segment(sector: number, sectors: number, flags = 0): Uint8Array {
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64LE(BigInt(sector));
  bytes.writeUInt32LE(sectors, 8);
  bytes.writeUInt32LE(flags, 12);
  return bytes;
}

/** Where two arrays differ first; undefined when they do not. */
export function difference(actual: Uint8Array, expected: Uint8Array): string | undefined {
  if (Buffer.compare(actual, expected) === 0) return undefined;
  const at = expected.findIndex((byte, index) => byte !== actual[index]);
  const what = `byte 0x${at.toString(16)} is ${actual[at]}, not ${expected[at]}`;
  return `${actual.length} bytes for ${expected.length}: ${what}`;
}

export class Model {
  readonly contents: Uint8Array;
  readonly #random: Random;
  readonly #grants: Record<string, MemoryFile>;
  device: DeviceUnderTest;

  constructor(random: Random, grants: Record<string, MemoryFile>, contents: Uint8Array) {
    this.#random = random;
    this.#grants = grants;
    this.contents = contents;
    this.device = this.#open();
  }

  #open(): DeviceUnderTest {
    const device = openDevice(BLK, this.#grants, { format: "qcow2" });
    device.negotiate();
    return device;
  }

  /** Another process takes over; the one before said nothing. */
  restart(): void {
    this.device.close();
    this.device = this.#open();
  }

  /** A random place of at most `bytesMax` bytes, in sectors; often at the border of a cluster. */
  #place(bytesMax: number): { sector: number; sectors: number } {
    const random = this.#random;
    const all = this.contents.length / 512;
    const sectors = Math.min(all, between(random, 1, random.oneIn(3) ? bytesMax / 512 : 16));
    const border = random.pick([1, 8, 128, 4096]);
    const start = between(random, 0, all - sectors);
    const sector = random.oneIn(2) ? start : Math.min(all - sectors, start - (start % border));
    return { sector, sectors };
  }

  /** One random request, which must succeed. */
  step(): void {
    const { sector, sectors } = this.#place(256 * 1024);
    const [from, to] = [sector * 512, (sector + sectors) * 512];
    const expected = this.contents.subarray(from, to);
    const ok = (request: Parameters<typeof ask>[1]) => {
      const { status, data } = ask(this.device, request);
      assert.equal(status, OK, `${JSON.stringify(request).slice(0, 80)} ${this.device.log.at(-1)}`);
      return data;
    };
    switch (this.#random.below(8)) {
      case 0:
      case 1:
        assert.equal(difference(ok({ type: IN, sector, room: to - from }), expected), undefined);
        break;
      case 2:
        ok({ type: WRITE_ZEROES, data: segment(sector, sectors, this.#random.below(2)) });
        expected.fill(0);
        break;
      case 3:
        ok({ type: DISCARD, data: segment(sector, sectors) });
        break;
      case 4:
        ok({ type: FLUSH });
        break;
      default: {
        const data = this.#random.oneIn(4)
          ? new Uint8Array(to - from)
          : noise(this.#random, to - from);
        ok({ type: OUT, sector, data });
        expected.set(data);
      }
    }
  }

  /** What the device reads is what was written. */
  checkContents(): void {
    assert.equal(difference(readAll(this.device), this.contents), undefined);
  }

  /** The image as a file that QEMU finds right: no corruption, and at most so many leaks. */
  save(image: MemoryFile, leaksMax = 0): string {
    const path = newPath("qcow2");
    fs.writeFileSync(path, image.bytes);
    const { corruptions, leaks, errors } = check(path);
    assert.deepEqual([corruptions, errors], [0, 0], "qemu-img check");
    assert.ok(leaks <= leaksMax, `${leaks} leaks, at most ${leaksMax}`);
    assert.equal(difference(contentsOf(path), this.contents), undefined, "as QEMU reads it");
    return path;
  }
}
