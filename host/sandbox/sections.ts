// A reader of WebAssembly section headers (WebAssembly core specification 1.0 §5.5). It needs no
// compiler, so a module can be judged in the VMM process without V8 ever seeing the hostile bytes.

import { VmmError } from "../errors.js";

/** Pages of 64 KiB that a device may have at most: 16 MiB hold two chains of 1 MiB with ease. */
export const MEMORY_PAGES_MAX = 256;
/** "\0asm", version 1. */
const PREAMBLE = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
/** Section ids, in the order in which they must appear (§5.5.2; data count goes before code). */
const SECTION = { custom: 0, import: 2, memory: 5, export: 7, start: 8 } as const;
const ORDER = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11];
const EXTERNAL = ["function", "table", "memory", "global"];
/** A u32 in LEB128 has at most five bytes (§5.2.2). */
const LEB128_BYTES_MAX = 5;
/**
 * Bit 0 of a memory's limits: it has a maximum (§5.3.5). Shared and 64-bit memories are refused.
 */
const LIMITS_MAX = 0x01;

export interface ImportedFunction {
  module: string;
  name: string;
}

export interface Sections {
  /** Contents of each custom section of the wanted name. */
  custom: Uint8Array[];
  imports: ImportedFunction[];
  exports: string[];
}

function refuse(what: string): never {
  throw new VmmError("ERR_MODULE", `Cannot use this module: ${what}`);
}

/** A cursor over bytes that never reads beyond their end. */
class Reader {
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
    for (let i = 0; i < LEB128_BYTES_MAX; i++) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80 && value < 2 ** 32) return value;
    }
    return refuse(`a number in its ${this.#what} has more than 32 bits`);
  }

  name(): string {
    const bytes = this.take(this.u32());
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
      return refuse(`a name in its ${this.#what} is no UTF-8`);
    }
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

function readImports(reader: Reader): ImportedFunction[] {
  return reader.vector(() => {
    const module = reader.name();
    const name = reader.name();
    const kind = reader.byte();
    if (kind !== 0) refuse(`it imports a ${EXTERNAL[kind] ?? `thing of kind ${kind}`}, "${name}"`);
    reader.u32();
    return { module, name };
  });
}

function readExports(reader: Reader): string[] {
  return reader.vector(() => {
    const name = reader.name();
    reader.byte();
    reader.u32();
    return name;
  });
}

function checkMemories(reader: Reader): void {
  const maxima = reader.vector(() => {
    const flags = reader.byte();
    if (flags !== LIMITS_MAX) refuse(`its memory has limits of type ${flags}: declare a maximum`);
    reader.u32();
    return reader.u32();
  });
  const max = maxima[0] ?? 0;
  if (maxima.length !== 1) refuse(`it has ${maxima.length} memories, expected one`);
  if (max > MEMORY_PAGES_MAX) refuse(`its memory may grow to ${max} pages > ${MEMORY_PAGES_MAX}`);
}

/** Refuses sections that are unknown, repeated or out of order; custom ones may be anywhere. */
class SectionOrder {
  #last = -1;

  next(id: number): void {
    if (id === SECTION.custom) return;
    const place = ORDER.indexOf(id);
    if (place <= this.#last) refuse(`section ${id} is unknown, out of order or there twice`);
    this.#last = place;
  }
}

/**
 * Walks all sections of `module`.
 *
 * @param wanted name of the custom sections to collect
 * @throws VmmError ERR_MODULE if the module is malformed, has a start section (it would run before
 *   the device is confined), imports anything but functions, or has no bounded memory
 */
export function readSections(module: Uint8Array, wanted: string): Sections {
  if (PREAMBLE.some((byte, i) => module[i] !== byte)) refuse("it is no WebAssembly module");
  const reader = new Reader(module.subarray(PREAMBLE.length), "section headers");
  const order = new SectionOrder();
  const found: Sections = { custom: [], imports: [], exports: [] };
  let hasMemory = false;
  while (!reader.done) {
    const id = reader.byte();
    const body = reader.take(reader.u32());
    order.next(id);
    if (id === SECTION.custom) {
      const section = new Reader(body, "custom section");
      if (section.name() === wanted) found.custom.push(section.rest());
    } else if (id === SECTION.import) {
      found.imports = readImports(new Reader(body, "imports"));
    } else if (id === SECTION.memory) {
      checkMemories(new Reader(body, "memories"));
      hasMemory = true;
    } else if (id === SECTION.export) {
      found.exports = readExports(new Reader(body, "exports"));
    } else if (id === SECTION.start) {
      refuse("it has a start section, which no device needs");
    }
  }
  if (!hasMemory) refuse("it has no memory of its own");
  return found;
}
