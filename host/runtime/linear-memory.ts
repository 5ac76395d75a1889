// The memory of a Wasm instance, seen from outside: a native address for system calls, a view for
// JavaScript. It may grow at any call into the instance, but it never moves and never shrinks.

import { addressOf } from "../ffi/libc.js";

export class LinearMemory {
  /** Native address of byte 0. */
  readonly address: number;
  readonly #memory: WebAssembly.Memory;
  #view: DataView<ArrayBuffer>;

  constructor(memory: WebAssembly.Memory) {
    this.#memory = memory;
    this.#view = new DataView(memory.buffer as ArrayBuffer);
    this.address = addressOf(this.#view.buffer);
  }

  /** All of the memory as it is now; growing detaches older views. */
  get view(): DataView<ArrayBuffer> {
    if (this.#view.buffer !== this.#memory.buffer) {
      this.#view = new DataView(this.#memory.buffer as ArrayBuffer);
    }
    return this.#view;
  }

  /** Whether `bytes` bytes at offset `at` are all inside; both are unsigned 32-bit numbers. */
  contains(at: number, bytes: number): boolean {
    return at + bytes <= this.#memory.buffer.byteLength;
  }
}
