// Custom sections of a WebAssembly module (core specification 1.0 §5.5.3): what is not code.

import { Reader } from "./reader.js";

const CUSTOM = 0;
const PREAMBLE_BYTES = 8;

/** `value` in unsigned LEB128, as Wasm writes sizes. */
function leb128(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb128(value >>> 7)];
}

/** A copy of the module `binary` with one more custom section at its end. */
export function withCustomSection(
  binary: Uint8Array,
  name: string,
  contents: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const nameBytes = new TextEncoder().encode(name);
  const body = [...leb128(nameBytes.length), ...nameBytes, ...contents];
  return Uint8Array.from([...binary, 0, ...leb128(body.length), ...body]);
}

/** Where a debugger finds the source map of a module. */
const SOURCE_MAP = "sourceMappingURL";

/**
 * A copy of `module` whose source map is at `url`, if it has one: the compiler names it relative to
 * a file, and a debugger knows no file that a module came from. No offset of code changes.
 */
export function withSourceMapUrl(module: Uint8Array, url: string): Uint8Array {
  const copy = Uint8Array.from(module);
  const reader = new Reader(copy.subarray(PREAMBLE_BYTES), "section headers");
  let hasMap = false;
  while (!reader.done) {
    const id = reader.byte();
    const body = reader.take(reader.u32());
    if (id !== CUSTOM || new Reader(body, "custom section").name() !== SOURCE_MAP) continue;
    // V8 takes the first section of that name: this one gets another.
    body[body.indexOf(SOURCE_MAP.charCodeAt(0))] = "-".charCodeAt(0);
    hasMap = true;
  }
  if (!hasMap) return module;
  const text = new TextEncoder().encode(url);
  return withCustomSection(copy, SOURCE_MAP, Uint8Array.from([...leb128(text.length), ...text]));
}
