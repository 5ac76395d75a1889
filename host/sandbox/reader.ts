// A cursor over the bytes of a hostile WebAssembly module.

import { VmmError } from "../errors.js";

/** LEB128 has 7 bits a byte (WebAssembly core specification 1.0 §5.2.2): a u32 has at most five. */
const LEB128_BITS = 7;
/** What names of imports, exports and custom sections are made of. */
const NAME = /^[!-~]*$/;

/** Ends the reading of a module that no device needs: an error for its author. */
export function refuse(what: string): never {
  throw new VmmError("ERR_MODULE", `Cannot use this module: ${what}`);
}

/** A cursor over bytes that never reads beyond their end. */
export class Reader {
  readonly #bytes: Uint8Array;
  readonly #what: string;
  #offset = 0;

  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#what = what;
  }

  get done(): boolean {
    return this.#offset === this.#bytes.length;
  }

  byte(): number {
    return this.#bytes[this.#offset++] ?? refuse(`it ends within its ${this.#what}`);
  }

  /** The next byte, which stays to be read. */
  peek(): number {
    return this.#bytes[this.#offset] ?? refuse(`it ends within its ${this.#what}`);
  }

  take(length: number): Uint8Array {
    const left = this.#bytes.length - this.#offset;
    if (length > left) refuse(`its ${this.#what} claims ${length} bytes where ${left} are left`);
    this.#offset += length;
    return this.#bytes.subarray(this.#offset - length, this.#offset);
  }

  /** Everything that has not been read yet. */
  rest(): Uint8Array {
    return this.take(this.#bytes.length - this.#offset);
  }

  u32(): number {
    let value = 0;
    for (let shift = 0; shift < 32; shift += LEB128_BITS) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80 && value < 2 ** 32) return value;
    }
    return refuse(`a number in its ${this.#what} has more than 32 bits`);
  }

  /** Passes over a number in LEB128 of at most `bits` bits, signed or not. */
  skipNumber(bits: 32 | 33 | 64): void {
    for (let shift = 0; shift < bits; shift += LEB128_BITS) {
      if (this.byte() < 0x80) return;
    }
    refuse(`a number in its ${this.#what} has more than ${bits} bits`);
  }

  /** A name, which ends up in messages: one with a line break could forge what we say. */
  name(): string {
    const name = new TextDecoder("latin1").decode(this.take(this.u32()));
    return NAME.test(name) ? name : refuse(`a name in its ${this.#what} is no printable ASCII`);
  }

  /** A reader of the next bytes, whose number is before them. */
  part(): Reader {
    return new Reader(this.take(this.u32()), this.#what);
  }

  /** As many elements as the bytes say; each takes at least one, so a huge count ends soon. */
  vector<T>(element: () => T): T[] {
    const count = this.u32();
    const all: T[] = [];
    for (let i = 0; i < count; i++) all.push(element());
    if (!this.done) refuse(`its ${this.#what} has bytes after its last entry`);
    return all;
  }
}
