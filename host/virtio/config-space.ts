// The device configuration space as the driver reads it (virtio v1.2 §2.5): the VMM's copy, so that
// reading it asks no device. What is in it is the device's affair.

import { assert } from "../errors.js";

/** Widths of a field that a driver may access (virtio v1.2 §4.2.2.2); 64 bits are two of 32. */
function isFieldWidth(bytes: number): boolean {
  return bytes === 1 || bytes === 2 || bytes === 4;
}

export class ConfigSpace {
  /** Size of the space, fixed for as long as the device lives. */
  readonly bytes: number;
  #copy: Uint8Array;
  #generation = 0;

  constructor(bytes: number) {
    this.bytes = bytes;
    this.#copy = new Uint8Array(bytes);
  }

  /** ConfigGeneration: another number for other bytes, so that a driver sees a torn read. */
  get generation(): number {
    return this.#generation;
  }

  /** What is wrong with a CONFIG of `bytes` bytes, or undefined. */
  sizeFault(bytes: number): string | undefined {
    if (bytes === this.bytes && bytes > 0) return undefined;
    return `of ${bytes} bytes for a config space of ${this.bytes}`;
  }

  /** Takes a copy of all of `space`; whether it differs from what was there. */
  replace(space: Uint8Array): boolean {
    assert(space.length === this.bytes, `${space.length} bytes of config space`);
    if (space.every((byte, index) => byte === this.#copy[index])) return false;
    this.#copy = space.slice();
    this.#generation = (this.#generation + 1) >>> 0;
    return true;
  }

  /** Any `offset` and a width of 1, 2 or 4 bytes, little-endian; 0 where there is nothing. */
  read(offset: number, bytes: number): number {
    let value = 0;
    for (let i = 0; i < bytes; i += 1) value += (this.#copy[offset + i] ?? 0) * 2 ** (8 * i);
    return value;
  }

  /** Whether a driver may write `bytes` bytes at `offset`; the device says what that does. */
  isWritable(offset: number, bytes: number): boolean {
    return isFieldWidth(bytes) && offset + bytes <= this.bytes;
  }
}
