// Guest RAM for tests: real memory that system calls can reach, an allocator for the driver that
// lives in it, and guard bytes around what it allocates, so that a stray write is found.

import { strict as assert } from "node:assert";
import { viewOf } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { GuestMemory } from "../virtio/memory.js";

const GUARD_BYTES = 32;
const GUARD = 0xa5;
const ALIGN = 64;
/** Memory of the VMM on both sides of RAM, which no guest may reach. */
const FENCE_BYTES = 64 * 1024;

export interface MockRamOptions {
  /** Guest address of the first byte. */
  gpa?: number;
  /** RAM is this many windows, adjacent in guest and host. */
  windows?: number;
}

/** A block: `gpa` and `bytes` are the driver's, guards lie on both sides. */
export interface Block {
  readonly gpa: number;
  readonly bytes: number;
}

function roundUp(value: number): number {
  return Math.ceil(value / ALIGN) * ALIGN;
}

export class MockRam {
  readonly gpa: number;
  readonly bytes: number;
  readonly memory: GuestMemory;
  readonly view: DataView<ArrayBuffer>;
  readonly #mapping: Mapping;
  readonly #hva: number;
  /** Free stretches by size, and what was never used behind `#top`. */
  readonly #free = new Map<number, number[]>();
  #top: number;

  constructor(bytes = 4 * 1024 * 1024, { gpa = 0x10_0000, windows = 2 }: MockRamOptions = {}) {
    this.gpa = gpa;
    this.bytes = bytes;
    this.#mapping = Mapping.anonymous(bytes + 2 * FENCE_BYTES);
    this.#hva = this.#mapping.address + FENCE_BYTES;
    for (const fence of this.#fences()) fence.fill(GUARD);
    this.view = new DataView(this.#mapping.view.buffer, FENCE_BYTES, bytes);
    const size = bytes / windows;
    const parts = Array.from({ length: windows }, (_, i) => ({
      gpa: gpa + i * size,
      hva: this.#hva + i * size,
      bytes: size,
      buffer: viewOf(this.#hva + i * size, size),
    }));
    this.memory = new GuestMemory(parts);
    this.#top = gpa;
  }

  /** First guest address behind RAM. */
  get end(): number {
    return this.gpa + this.bytes;
  }

  /** Host address of a guest address, for comparisons. */
  hva(gpa: number): number {
    return this.#hva + (gpa - this.gpa);
  }

  /** The bytes at `gpa`, shared with the device side. */
  at(gpa: number, bytes: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.view.buffer, this.view.byteOffset + gpa - this.gpa, bytes);
  }

  /** Zeroed memory with guards around it. */
  alloc(bytes: number): Block {
    const size = roundUp(bytes + 2 * ALIGN);
    let start = this.#free.get(size)?.pop();
    if (start === undefined) {
      start = this.#top;
      this.#top += size;
      assert.ok(this.#top <= this.end, `mock RAM is full: ${bytes} more bytes`);
    }
    const block = { gpa: start + ALIGN, bytes };
    this.at(block.gpa, bytes).fill(0);
    for (const guard of this.#guards(block)) guard.fill(GUARD);
    return block;
  }

  #guards({ gpa, bytes }: Block): Uint8Array[] {
    return [this.at(gpa - GUARD_BYTES, GUARD_BYTES), this.at(gpa + bytes, GUARD_BYTES)];
  }

  /** Fails when something was written next to `block`. */
  checkGuards(block: Block): void {
    for (const guard of this.#guards(block)) {
      assert.ok(
        guard.every((byte) => byte === GUARD),
        `written outside the block at 0x${block.gpa.toString(16)}+${block.bytes}`,
      );
    }
  }

  #fences(): Uint8Array[] {
    const { buffer } = this.#mapping.view;
    const behind = FENCE_BYTES + this.bytes;
    return [0, behind].map((at) => new Uint8Array(buffer, at, FENCE_BYTES));
  }

  /** Fails when something was written next to RAM. */
  checkFences(): void {
    for (const fence of this.#fences()) {
      assert.ok(
        fence.every((byte) => byte === GUARD),
        "written outside RAM",
      );
    }
  }

  free(block: Block): void {
    this.checkGuards(block);
    const size = roundUp(block.bytes + 2 * ALIGN);
    const list = this.#free.get(size);
    if (list === undefined) this.#free.set(size, [block.gpa - ALIGN]);
    else list.push(block.gpa - ALIGN);
  }

  close(): void {
    this.#mapping.close();
  }
}
