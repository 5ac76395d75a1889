// The memory of a Wasm instance, seen from outside: a native address for system calls, a view for
// JavaScript. It may grow in any call into the instance, and then it need not stay where it is: V8
// moves it if it could not set aside the maximum at once.

import { addressOf } from "../ffi/libc.js";

export class LinearMemory {
  /** Native address of byte 0. */
  address = 0;
  /** All of the memory. */
  view!: DataView<ArrayBuffer>;
  /** Size of the memory; it never shrinks. */
  bytes = 0;

  readonly #memory: WebAssembly.Memory;
  #buffer: ArrayBuffer | undefined;

  constructor(memory: WebAssembly.Memory) {
    this.#memory = memory;
    this.update();
  }

  /**
   * Looks whether the memory grew, and must be called between the module's running and the use of
   * any field: an old address may be another mapping's by then.
   */
  update(): void {
    const { buffer } = this.#memory;
    if (buffer === this.#buffer) return;
    this.#buffer = buffer;
    this.address = addressOf(buffer);
    this.view = new DataView(buffer);
    this.bytes = buffer.byteLength;
  }

  /** Whether `bytes` bytes at offset `at` are all inside; both are unsigned 32-bit numbers. */
  contains(at: number, bytes: number): boolean {
    return at + bytes <= this.bytes;
  }
}
