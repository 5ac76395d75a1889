// A reader of WebAssembly section headers (WebAssembly core specification 1.0 §5.5). It needs no
// compiler, so a module can be judged in the VMM process without V8 ever seeing the hostile bytes.

import { checkCode, checkGlobals, checkTables, readTypes } from "./code.js";
import { Reader, refuse } from "./reader.js";
import { checkSignature } from "./signatures.js";

/** Pages of 64 KiB that a device may have at most: 16 MiB hold two chains of 1 MiB with ease. */
export const MEMORY_PAGES_MAX = 256;
/** "\0asm", version 1. */
const PREAMBLE = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
/** Section ids, in the order in which they must appear (§5.5.2; data count goes before code). */
const SECTION = {
  custom: 0,
  type: 1,
  import: 2,
  table: 4,
  memory: 5,
  global: 6,
  export: 7,
  start: 8,
  code: 10,
} as const;
const ORDER = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11];
const EXTERNAL = ["function", "table", "memory", "global"];
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

function readImports(reader: Reader, types: readonly string[]): ImportedFunction[] {
  return reader.vector(() => {
    const module = reader.name();
    const name = reader.name();
    const kind = reader.byte();
    if (kind !== 0) refuse(`it imports a ${EXTERNAL[kind] ?? `thing of kind ${kind}`}, "${name}"`);
    const type = reader.u32();
    checkSignature(name, types[type] ?? refuse(`it imports a function of type ${type}`));
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
    // Where an empty memory would begin cannot be seen in /proc/PID/maps (lockdown.ts needs it).
    if (reader.u32() === 0) refuse("its memory is empty at the start, at least a page is needed");
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

/** What has been read of a module so far. */
class Walk {
  readonly found: Sections = { custom: [], imports: [], exports: [] };
  readonly #wanted: string;
  #types: string[] = [];
  #hasMemory = false;

  constructor(wanted: string) {
    this.#wanted = wanted;
  }

  section(id: number, body: Uint8Array): void {
    if (id === SECTION.custom) this.#custom(new Reader(body, "custom section"));
    if (id === SECTION.type) this.#types = readTypes(new Reader(body, "types"));
    if (id === SECTION.import) this.#imports(new Reader(body, "imports"));
    if (id === SECTION.table) checkTables(new Reader(body, "tables"));
    if (id === SECTION.memory) this.#memories(new Reader(body, "memories"));
    if (id === SECTION.global) checkGlobals(new Reader(body, "globals"));
    if (id === SECTION.export) this.found.exports = readExports(new Reader(body, "exports"));
    if (id === SECTION.start) refuse("it has a start section, which no device needs");
    if (id === SECTION.code) checkCode(new Reader(body, "code"));
  }

  end(): Sections {
    if (!this.#hasMemory) refuse("it has no memory of its own");
    return this.found;
  }

  #imports(reader: Reader): void {
    this.found.imports = readImports(reader, this.#types);
  }

  #memories(reader: Reader): void {
    checkMemories(reader);
    this.#hasMemory = true;
  }

  #custom(section: Reader): void {
    if (section.name() === this.#wanted) this.found.custom.push(section.rest());
  }
}

/**
 * Walks all sections of `module`.
 *
 * @param wanted name of the custom sections to collect
 * @throws VmmError ERR_MODULE if the module is malformed, has a start section (it would run before
 *   the device is confined), imports anything but functions, has no bounded memory, or is made of
 *   more than code.ts lists
 */
export function readSections(module: Uint8Array, wanted: string): Sections {
  if (PREAMBLE.some((byte, i) => module[i] !== byte)) refuse("it is no WebAssembly module");
  const reader = new Reader(module.subarray(PREAMBLE.length), "section headers");
  const order = new SectionOrder();
  const walk = new Walk(wanted);
  while (!reader.done) {
    const id = reader.byte();
    const body = reader.take(reader.u32());
    order.next(id);
    walk.section(id, body);
  }
  return walk.end();
}
