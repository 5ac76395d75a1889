// WebAssembly modules byte by byte, for what no assembler would write.

import { withCustomSection } from "../../../host/sandbox/custom-section.js";
import { MANIFEST_SECTION, type Manifest } from "../../../host/sandbox/manifest.js";
import { manifest } from "../../runtime/support.js";

export const PREAMBLE = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

/** `value` in unsigned LEB128. */
export function leb128(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb128(value >>> 7)];
}

/** Bytes after each other; spreading an array of a megabyte would overflow the stack. */
export function joined(...parts: readonly ArrayLike<number>[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export function section(id: number, body: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  return joined([id], leb128(body.length), body);
}

/** `bytes` that many times, one after the other. */
export function repeated(bytes: readonly number[], count: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: bytes.length * count }, (_, i) => bytes[i % bytes.length]!);
}

/** A module of these sections, with a manifest behind them. */
export function encoded(
  sections: readonly ArrayLike<number>[],
  given: Manifest = manifest(),
): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(JSON.stringify(given));
  return withCustomSection(joined(PREAMBLE, ...sections), MANIFEST_SECTION, json);
}

/** Where a section of `module` is: its first byte, its body and its end. */
interface Found {
  start: number;
  body: number;
  end: number;
}

function find(module: Uint8Array, wanted: number): Found {
  for (let start = PREAMBLE.length; start < module.length; ) {
    let size = 0;
    let body = start + 1;
    for (let shift = 0; ; shift += 7) {
      const byte = module[body++]!;
      size |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    if (module[start] === wanted) return { start, body, end: body + size };
    start = body + size;
  }
  throw new Error(`no section ${wanted}`);
}

/** `module` with the body of section `id` replaced by what `change` makes of it. */
export function withSection(
  module: Uint8Array,
  id: number,
  change: (body: Uint8Array) => ArrayLike<number>,
): Uint8Array<ArrayBuffer> {
  const { start, body, end } = find(module, id);
  const changed = section(id, change(module.subarray(body, end)));
  return joined(module.subarray(0, start), changed, module.subarray(end));
}

/** `module` with something in front of section `id`. */
export function insertBefore(
  module: Uint8Array,
  id: number,
  inserted: ArrayLike<number>,
): Uint8Array<ArrayBuffer> {
  const { start } = find(module, id);
  return joined(module.subarray(0, start), inserted, module.subarray(start));
}

/** `module` without its first section `id`. */
export function withoutSection(module: Uint8Array, id: number): Uint8Array<ArrayBuffer> {
  const { start, end } = find(module, id);
  return joined(module.subarray(0, start), module.subarray(end));
}
