// The bytes of a small WebAssembly module of our own (core specification 1.0 §5), that of the
// Forwarder: it depends on the functions that it forwards to, and so is not compiled beforehand.

export const VALUE_TYPES = { i32: 0x7f, i64: 0x7e } as const;
export type ValueType = keyof typeof VALUE_TYPES;

/** Section ids (§5.5). */
export const SECTION = { type: 1, import: 2, function: 3, export: 7, code: 10 } as const;

/** The kind of import and export (§5.5.5) that is a function. */
export const FUNCTION = 0x00;

/** Instructions (§5.4), by their names in the text format. */
export const OP = { end: 0x0b, call: 0x10, local_get: 0x20 } as const;

const FUNCTION_TYPE = 0x60;
const PREAMBLE = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

export function leb128(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb128(value >>> 7)];
}

export function vector(elements: readonly (readonly number[])[]): number[] {
  return [...leb128(elements.length), ...elements.flat()];
}

export function sized(bytes: readonly number[]): number[] {
  return [...leb128(bytes.length), ...bytes];
}

export function name(text: string): number[] {
  return sized([...new TextEncoder().encode(text)]);
}

export function functionType(
  parameters: readonly ValueType[],
  results: readonly ValueType[],
): number[] {
  const types = (all: readonly ValueType[]) => vector(all.map((type) => [VALUE_TYPES[type]]));
  return [FUNCTION_TYPE, ...types(parameters), ...types(results)];
}

/** A module of these sections, in the order of their ids. */
export function assemble(
  sections: readonly (readonly [id: number, body: readonly number[]])[],
): Uint8Array<ArrayBuffer> {
  return new Uint8Array([...PREAMBLE, ...sections.flatMap(([id, body]) => [id, ...sized(body)])]);
}
