// A reader of WebAssembly section headers (WebAssembly core specification 1.0 §5.5). It needs no
// compiler, so a module can be judged in the VMM process without V8 ever seeing the hostile bytes.

import { checkCode, checkGlobals, checkTables, readTypes } from "./code.js";
import { Reader, refuse } from "./reader.js";
import { checkSignature, type Export } from "./signatures.js";

/** Pages of 64 KiB that a device may have at most: 16 MiB hold two chains of 1 MiB with ease. */
export const MEMORY_PAGES_MAX = 256;
/** "\0asm", version 1. */
const PREAMBLE = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
/** Section ids, in the order in which they must appear (§5.5.2; data count goes before code). */
const SECTION = {
  custom: 0,
  type: 1,
  import: 2,
  function: 3,
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
  exports: Export[];
  memory: MemoryLimits;
}

/** How large the module's memory is at first, and how large it may become: pages of 64 KiB. */
export interface MemoryLimits {
  initialPages: number;
  maximumPages: number;
}

/** An import, with its type. */
interface TypedImport extends ImportedFunction {
  type: string;
}

function readImports(reader: Reader, types: readonly string[]): TypedImport[] {
  return reader.vector(() => {
    const module = reader.name();
    const name = reader.name();
    const kind = reader.byte();
    if (kind !== 0) refuse(`it imports a ${EXTERNAL[kind] ?? `thing of kind ${kind}`}, "${name}"`);
    const index = reader.u32();
    const type = types[index] ?? refuse(`it imports a function of type ${index}`);
    checkSignature(name, type);
    return { module, name, type };
  });
}

/** @param functions type of each function, the imported ones first */
function readExports(reader: Reader, functions: readonly string[]): Export[] {
  return reader.vector(() => {
    const name = reader.name();
    const kind = reader.byte();
    const index = reader.u32();
    const type = kind === 0 ? functions[index] : EXTERNAL[kind];
    return { name, type: type ?? refuse(`it exports a thing that there is not, "${name}"`) };
  });
}

function readMemories(reader: Reader): MemoryLimits {
  const memories = reader.vector(() => {
    const flags = reader.byte();
    if (flags !== LIMITS_MAX) refuse(`its memory has limits of type ${flags}: declare a maximum`);
    // Where an empty memory would begin cannot be seen in /proc/PID/maps (lockdown.ts needs it).
    const initialPages = reader.u32();
    if (initialPages === 0) refuse("its memory is empty at the start, at least a page is needed");
    return { initialPages, maximumPages: reader.u32() };
  });
  const [memory] = memories;
  if (memory === undefined || memories.length > 1) {
    refuse(`it has ${memories.length} memories, expected one`);
  }
  const max = memory.maximumPages;
  if (max > MEMORY_PAGES_MAX) refuse(`its memory may grow to ${max} pages > ${MEMORY_PAGES_MAX}`);
  return memory;
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
  readonly #wanted: string;
  readonly #custom: Uint8Array[] = [];
  #types: string[] = [];
  /** Type of each function, the imported ones first, as exports count them. */
  #functions: string[] = [];
  #imports: TypedImport[] = [];
  #exports: Export[] = [];
  #memory: MemoryLimits | undefined;

  constructor(wanted: string) {
    this.#wanted = wanted;
  }

  section(id: number, body: Uint8Array): void {
    if (id === SECTION.custom) this.#addCustom(new Reader(body, "custom section"));
    if (id === SECTION.type) this.#types = readTypes(new Reader(body, "types"));
    if (id === SECTION.import) this.#addImports(new Reader(body, "imports"));
    if (id === SECTION.function) this.#addFunctions(new Reader(body, "functions"));
    if (id === SECTION.table) checkTables(new Reader(body, "tables"));
    if (id === SECTION.memory) this.#memory = readMemories(new Reader(body, "memories"));
    if (id === SECTION.global) checkGlobals(new Reader(body, "globals"));
    if (id === SECTION.export) this.#addExports(new Reader(body, "exports"));
    if (id === SECTION.start) refuse("it has a start section, which no device needs");
    if (id === SECTION.code) checkCode(new Reader(body, "code"));
  }

  end(): Sections {
    const memory = this.#memory ?? refuse("it has no memory of its own");
    const imports = this.#imports.map(({ module, name }) => ({ module, name }));
    return { custom: this.#custom, imports, exports: this.#exports, memory };
  }

  #addImports(reader: Reader): void {
    this.#imports = readImports(reader, this.#types);
    this.#functions = this.#imports.map(({ type }) => type);
  }

  #addFunctions(reader: Reader): void {
    const own = reader.vector(() => {
      const index = reader.u32();
      return this.#types[index] ?? refuse(`it has a function of type ${index}`);
    });
    this.#functions = [...this.#functions, ...own];
  }

  #addExports(reader: Reader): void {
    this.#exports = readExports(reader, this.#functions);
  }

  #addCustom(section: Reader): void {
    if (section.name() === this.#wanted) this.#custom.push(section.rest());
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
