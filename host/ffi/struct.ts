// C struct layouts as values. `struct(name, size, fields)` takes the fields in header order and
// lays them out by the System V x86-64 rules (natural alignment); the size is written down as well,
// so a forgotten field fails at load, and a test compares every offset with the installed headers.

import { assert } from "../errors.js";

/** One C type: how large, how aligned, and how a value of it is read and written. */
export interface CType<T> {
  readonly size: number;
  readonly align: number;
  read(view: DataView, offset: number): T;
  write(view: DataView, offset: number, value: T): void;
}

export const u8: CType<number> = {
  size: 1,
  align: 1,
  read: (view, offset) => view.getUint8(offset),
  write: (view, offset, value) => view.setUint8(offset, value),
};

export const u16: CType<number> = {
  size: 2,
  align: 2,
  read: (view, offset) => view.getUint16(offset, true),
  write: (view, offset, value) => view.setUint16(offset, value, true),
};

export const u32: CType<number> = {
  size: 4,
  align: 4,
  read: (view, offset) => view.getUint32(offset, true),
  write: (view, offset, value) => view.setUint32(offset, value, true),
};

export const s32: CType<number> = {
  size: 4,
  align: 4,
  read: (view, offset) => view.getInt32(offset, true),
  write: (view, offset, value) => view.setInt32(offset, value, true),
};

export const u64: CType<bigint> = {
  size: 8,
  align: 8,
  read: (view, offset) => view.getBigUint64(offset, true),
  write: (view, offset, value) => view.setBigUint64(offset, value, true),
};

/** `count` elements of `element`, one after the other. */
export function array<T>(element: CType<T>, count: number): CType<T[]> {
  return {
    size: element.size * count,
    align: element.align,
    read: (view, offset) =>
      Array.from({ length: count }, (_, i) => element.read(view, offset + i * element.size)),
    write: (view, offset, values) => {
      assert(values.length <= count, `${values.length} values for an array of ${count}`);
      for (const [i, value] of values.entries()) {
        element.write(view, offset + i * element.size, value);
      }
    },
  };
}

/** `size` opaque bytes, aligned to `align`: unions and reserved space. */
export function bytes(size: number, align = 1): CType<Uint8Array> {
  return {
    size,
    align,
    read: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, size).slice(),
    write: (view, offset, value) => {
      assert(value.length <= size, `${value.length} bytes for a field of ${size}`);
      new Uint8Array(view.buffer, view.byteOffset + offset, size).set(value);
    },
  };
}

type Fields = Record<string, CType<unknown>>;
type ValueOf<F extends Fields> = { [K in keyof F]: F[K] extends CType<infer T> ? T : never };

/** A struct layout: a C type whose values are plain objects, plus the offset of each field. */
export interface Struct<F extends Fields = Fields> extends CType<Partial<ValueOf<F>>> {
  readonly name: string;
  readonly offsets: { readonly [K in keyof F]: number };
  read(view: DataView, offset: number): ValueOf<F>;
  /** A zeroed buffer of this size with `value` written into it. */
  encode(value: Partial<ValueOf<F>>): Uint8Array<ArrayBuffer>;
}

function alignUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}

/** Lays out `fields` in order; asserts that the result is `size` bytes, as `sizeof` says. */
export function struct<F extends Fields>(name: string, size: number, fields: F): Struct<F> {
  const entries = Object.entries(fields);
  const offsets: Record<string, number> = {};
  let end = 0;
  let align = 1;
  for (const [field, type] of entries) {
    end = alignUp(end, type.align);
    offsets[field] = end;
    end += type.size;
    align = Math.max(align, type.align);
  }
  assert(alignUp(end, align) === size, `${name} is ${alignUp(end, align)} bytes, expected ${size}`);

  const self: Struct<F> = {
    name,
    size,
    align,
    offsets: offsets as Struct<F>["offsets"],
    read(view, offset) {
      const pairs = entries.map(([field, type]) => [
        field,
        type.read(view, offset + offsets[field]!),
      ]);
      return Object.fromEntries(pairs) as ValueOf<F>;
    },
    write(view, offset, value) {
      for (const [field, type] of entries) {
        const part = value[field];
        if (part !== undefined) type.write(view, offset + offsets[field]!, part);
      }
    },
    encode(value) {
      const buffer = new Uint8Array(size);
      self.write(new DataView(buffer.buffer), 0, value);
      return buffer;
    },
  };
  return self;
}
