// The memory of a Wasm instance, seen from outside: a native address for system calls, a view for
// JavaScript. It may grow at any call into the instance, never shrinks, and need not stay where it is:
// V8 moves it if it could not set aside the maximum at once.

import { addressOf } from "../ffi/libc.js";

export class LinearMemory {
  readonly #memory: WebAssembly.Memory;
  #view: DataView<ArrayBuffer>;
  #address: number;

  constructor(memory: WebAssembly.Memory) {
    this.#memory = memory;
    this.#view = new DataView(memory.buffer);
    this.#address = addressOf(memory.buffer);
  }

  /** Native address of byte 0, good until the next call into the instance. */
  get address(): number {
    this.#update();
    return this.#address;
  }

  /** All of the memory as it is now, good until the next call into the instance. */
  get view(): DataView<ArrayBuffer> {
    this.#update();
    return this.#view;
  }

  /** Whether `bytes` bytes at offset `at` are all inside; both are unsigned 32-bit numbers. */
  contains(at: number, bytes: number): boolean {
    return at + bytes <= this.#memory.buffer.byteLength;
  }

  #update(): void {
    const { buffer } = this.#memory;
    if (this.#view.buffer === buffer) return;
    this.#view = new DataView(buffer);
    this.#address = addressOf(buffer);
  }
}
