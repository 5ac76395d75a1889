// Guest memory as the rings see it: little-endian reads and writes at guest addresses, and the host
// addresses of buffers for system calls. Nothing here allocates after the first access to a window,
// and a guest address that is not RAM is an answer, not an exception: guests choose addresses.

import { assert } from "../errors.js";

declare const GPA: unique symbol;

/** A guest physical address: an integer from 0 to 2^53. */
export type Gpa = number & { readonly [GPA]: never };

/** Host address of what is not RAM. */
export const NOT_RAM = -1;

/** The guest address with these halves, or NOT_RAM from 2^53 on, where no RAM is. */
export function addressOf(low: number, high: number): number {
  return high < 2 ** 21 ? high * 2 ** 32 + low : NOT_RAM;
}

/** `value` as a guest address; asserts that it is one. */
export function gpa(value: number): Gpa {
  assert(Number.isSafeInteger(value) && value >= 0, `${value} is not a guest address`);
  return value as Gpa;
}

/** A stretch of guest RAM of at most 1 GiB, because larger views abort the process. */
export interface MemoryWindow {
  readonly gpa: number;
  /** Host address of its first byte. */
  readonly hva: number;
  readonly bytes: number;
  /** The same memory for JavaScript. */
  readonly buffer: ArrayBuffer;
}

class Window {
  readonly gpa: number;
  readonly hva: number;
  /** Guest address of the first byte behind it. */
  readonly end: number;
  /** The same for the whole run of windows that continue it, in the guest and in the host. */
  runEnd: number;
  view!: DataView;
  shorts!: Uint16Array;
  words!: Uint32Array;
  #closed: MemoryWindow | undefined;

  constructor(window: MemoryWindow) {
    const { bytes, hva } = window;
    this.#closed = window;
    assert(bytes % 4096 === 0 && window.gpa % 4096 === 0, "a window that is not of whole pages");
    this.gpa = gpa(window.gpa);
    this.hva = hva;
    this.end = gpa(window.gpa + bytes);
    this.runEnd = this.end;
  }

  /** Before the first access: what V8 can see it counts as its own, and collects garbage for it. */
  open(): this {
    if (this.#closed === undefined) return this;
    const { bytes, buffer } = this.#closed;
    assert(buffer.byteLength >= bytes, "a window larger than its buffer");
    this.view = new DataView(buffer, 0, bytes);
    this.shorts = new Uint16Array(buffer, 0, bytes / 2);
    this.words = new Uint32Array(buffer, 0, bytes / 4);
    this.#closed = undefined;
    return this;
  }
}

/** All of the guest's RAM, as one or more windows. */
export class GuestMemory {
  readonly #windows: readonly Window[];
  /** Where the last access was: the next one is nearly always there too. It is open. */
  #last: Window | undefined;

  constructor(windows: readonly MemoryWindow[]) {
    const sorted = windows.map((window) => new Window(window)).sort((a, b) => a.gpa - b.gpa);
    for (const [index, window] of sorted.entries()) {
      const next = sorted[index + 1];
      assert(next === undefined || next.gpa >= window.end, "windows of guest memory overlap");
    }
    for (const [index, window] of [...sorted.entries()].reverse()) {
      const next = sorted[index + 1];
      if (next === undefined || next.gpa !== window.end) continue;
      if (next.hva === window.hva + (window.end - window.gpa)) window.runEnd = next.runEnd;
    }
    assert(sorted.length > 0, "a guest without memory");
    this.#windows = sorted;
  }

  #find(address: number): Window | undefined {
    const last = this.#last;
    if (last !== undefined && address >= last.gpa && address < last.end) return last;
    for (let index = 0; index < this.#windows.length; index += 1) {
      const window = this.#windows[index]!;
      if (address >= window.gpa && address < window.end) {
        this.#last = window.open();
        return window;
      }
    }
    return undefined;
  }

  #at(address: number): Window {
    const window = this.#find(address);
    // The message is made only when it is needed: this is the innermost function of every queue.
    if (window === undefined) assert(false, `access to 0x${address.toString(16)}, not RAM`);
    return window;
  }

  /**
   * Host address of [`address`, `address` + `bytes`), or NOT_RAM when any byte of it is not RAM.
   * The range may cross from one window to the next.
   */
  hvaOf(address: number, bytes: number): number {
    const window = this.#find(address);
    if (window === undefined || address + bytes > window.runEnd) return NOT_RAM;
    return window.hva + (address - window.gpa);
  }

  // The accessors assert that the address is RAM: whoever uses them has asked hvaOf() before.

  u8(address: number): number {
    const window = this.#at(address);
    return window.view.getUint8(address - window.gpa);
  }

  setU8(address: number, value: number): void {
    const window = this.#at(address);
    window.view.setUint8(address - window.gpa, value);
  }

  u16(address: number): number {
    const window = this.#at(address);
    if (address + 2 > window.end) return this.u8(address) | (this.u8(address + 1) << 8);
    return window.view.getUint16(address - window.gpa, true);
  }

  setU16(address: number, value: number): void {
    const window = this.#at(address);
    if (address + 2 > window.end) {
      this.setU8(address, value & 0xff);
      this.setU8(address + 1, value >>> 8);
    } else window.view.setUint16(address - window.gpa, value, true);
  }

  u32(address: number): number {
    const window = this.#at(address);
    if (address + 4 > window.end) return this.u16(address) + this.u16(address + 2) * 2 ** 16;
    return window.view.getUint32(address - window.gpa, true);
  }

  setU32(address: number, value: number): void {
    const window = this.#at(address);
    if (address + 4 > window.end) {
      this.setU16(address, value & 0xffff);
      this.setU16(address + 2, value >>> 16);
    } else window.view.setUint32(address - window.gpa, value, true);
  }

  /**
   * Reads the 16 bytes of a descriptor at `address`, each once, into `words`. Tables of a queue are
   * aligned; an indirect table may be anywhere.
   */
  loadWords(address: number, words: Uint32Array): void {
    const window = this.#at(address);
    const offset = address - window.gpa;
    if (offset % 4 === 0 && address + 16 <= window.end) {
      const first = offset / 4;
      words[0] = window.words[first]!;
      words[1] = window.words[first + 1]!;
      words[2] = window.words[first + 2]!;
      words[3] = window.words[first + 3]!;
    } else for (let i = 0; i < 4; i += 1) words[i] = this.u32(address + 4 * i);
  }

  /** A 16-bit ring index, not moved before or behind any other access; `address` is even. */
  loadIndex(address: number): number {
    const window = this.#at(address);
    return Atomics.load(window.shorts, (address - window.gpa) / 2);
  }

  /**
   * Writes a 16-bit ring index after everything written before, and before anything read after: on
   * x86 Atomics.store is the full fence that notification suppression rests on. `address` is even.
   */
  storeIndex(address: number, value: number): void {
    const window = this.#at(address);
    Atomics.store(window.shorts, (address - window.gpa) / 2, value);
  }
}
