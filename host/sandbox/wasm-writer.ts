// The bytes of small WebAssembly modules of our own (core specification 1.0 §5): what runs between
// a device and the host as fast as the device, and is made with it.

export const VALUE_TYPES = { i32: 0x7f, i64: 0x7e, f64: 0x7c } as const;
export type ValueType = keyof typeof VALUE_TYPES;

/** Section ids (§5.5). */
export const SECTION = { type: 1, import: 2, function: 3, table: 4, export: 7, code: 10 } as const;

/** Kinds of imports and exports (§5.5.5). */
export const FUNCTION = 0x00;
export const TABLE = 0x01;
export const MEMORY = 0x02;
export const GLOBAL = 0x03;
export const FUNCREF = 0x70;

/** Instructions (§5.4), by their names in the text format. */
export const OP = {
  block: 0x02,
  if: 0x04,
  end: 0x0b,
  br_if: 0x0d,
  return: 0x0f,
  call: 0x10,
  call_indirect: 0x11,
  local_get: 0x20,
  local_set: 0x21,
  global_get: 0x23,
  i32_load: 0x28,
  i32_store: 0x36,
  memory_size: 0x3f,
  i32_const: 0x41,
  i64_const: 0x42,
  i32_eqz: 0x45,
  i32_eq: 0x46,
  i32_ne: 0x47,
  i32_lt_s: 0x48,
  i32_gt_u: 0x4b,
  i64_gt_u: 0x56,
  i32_add: 0x6a,
  i64_add: 0x7c,
  i64_shl: 0x86,
  f64_add: 0xa0,
  i64_extend_i32_u: 0xad,
  f64_convert_i32_u: 0xb8,
  f64_convert_i64_u: 0xba,
} as const;

/** Type of a block that has no result. */
export const NO_RESULT = 0x40;

const FUNCTION_TYPE = 0x60;
const PREAMBLE = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

export function leb128(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb128(value >>> 7)];
}

/** The same for a signed number that is not negative: its highest bit must not look like a sign. */
export function signedLeb128(value: number): number[] {
  if (value < 0x40) return [value];
  return [(value % 0x80) | 0x80, ...signedLeb128(Math.floor(value / 0x80))];
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
