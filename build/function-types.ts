// The types of the functions that any WebAssembly module exports, which JavaScript cannot ask for.

import { readTypes } from "../host/sandbox/code.js";
import { Reader } from "../host/sandbox/reader.js";

const PREAMBLE_BYTES = 8;
/** Section ids (WebAssembly core specification 1.0 §5.5). */
const SECTION = { type: 1, import: 2, function: 3, export: 7 } as const;
const [FUNCTION, TABLE, MEMORY, GLOBAL] = [0, 1, 2, 3];

function skipLimits(reader: Reader): void {
  const hasMaximum = (reader.byte() & 1) !== 0;
  reader.u32();
  if (hasMaximum) reader.u32();
}

/** Type indices of the functions among the imports. */
function importedFunctions(reader: Reader): number[] {
  const functions: number[] = [];
  reader.vector(() => {
    reader.name();
    reader.name();
    const kind = reader.byte();
    if (kind === FUNCTION) functions.push(reader.u32());
    if (kind === TABLE) reader.byte();
    if (kind === TABLE || kind === MEMORY) skipLimits(reader);
    if (kind === GLOBAL) reader.take(2);
  });
  return functions;
}

/** By name, as in "(i32 i64) -> (i32)". */
export function readFunctionTypes(module: Uint8Array): Map<string, string> {
  const reader = new Reader(module.subarray(PREAMBLE_BYTES), "section headers");
  const found = new Map<string, string>();
  let types: string[] = [];
  let functions: number[] = [];
  while (!reader.done) {
    const id = reader.byte();
    const body = new Reader(reader.take(reader.u32()), `section ${id}`);
    if (id === SECTION.type) types = readTypes(body);
    if (id === SECTION.import) functions = importedFunctions(body);
    if (id === SECTION.function) functions = [...functions, ...body.vector(() => body.u32())];
    if (id !== SECTION.export) continue;
    body.vector(() => {
      const name = body.name();
      const kind = body.byte();
      const index = body.u32();
      if (kind === FUNCTION) found.set(name, types[functions[index] ?? -1] ?? "");
    });
  }
  return found;
}
