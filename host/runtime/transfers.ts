// The four WASI functions that move bytes, checked in WebAssembly. A confined process interprets
// its JavaScript, and there the checks of a transfer take as long as reading a block. So a module
// of our own does what is plain: one iovec, of a granted descriptor, all of it inside the device's
// memory; then it makes the system call by itself. Everything else goes to the function in
// JavaScript, which does the same checks, and more.
//
// It works on the device's memory, which exists when the device is linked, and that needs these
// functions: so the device is linked with others that find them in a table.

import { pread64, pwrite64, read, write } from "../ffi/libc.js";
import {
  assemble,
  FUNCREF,
  FUNCTION,
  functionType,
  GLOBAL,
  leb128,
  MEMORY,
  NO_RESULT,
  name,
  OP,
  SECTION,
  signedLeb128,
  sized,
  TABLE,
  VALUE_TYPES,
  type ValueType,
  vector,
} from "../sandbox/wasm-writer.js";
import { lastErrno } from "./errno.js";
import type { ImportedCall } from "./instance.js";
import type { OpenFile } from "./open-file.js";

/** Bytes that one call moves at most: a larger one is cut short, which every caller must expect. */
export const IO_BYTES_MAX = 1024 * 1024;

/** A larger offset is no exact number in JavaScript. */
const OFFSET_MAX = 2 ** 53 - 1;
const PAGE_SHIFT = 16;
const IOVEC_BYTES = 8;
const COUNT_BYTES = 4;

/** Each with the function of the C library that it becomes, and whether that takes an offset. */
const TRANSFERS = [
  { name: "fd_read", call: read, isAt: false },
  { name: "fd_write", call: write, isAt: false },
  { name: "fd_pread", call: pread64, isAt: true },
  { name: "fd_pwrite", call: pwrite64, isAt: true },
] as const;

type Transfer = (typeof TRANSFERS)[number];
export type TransferName = Transfer["name"];
export const TRANSFER_NAMES: readonly TransferName[] = TRANSFERS.map((each) => each.name);

const wasiParameters = (isAt: boolean): ValueType[] =>
  isAt ? ["i32", "i32", "i32", "i64", "i32"] : ["i32", "i32", "i32", "i32"];
const nativeParameters = (isAt: boolean): ValueType[] =>
  isAt ? ["i32", "f64", "i32", "f64"] : ["i32", "f64", "i32"];

/** Index of a type in both modules. */
const wasiType = (isAt: boolean) => (isAt ? 1 : 0);
const nativeType = (isAt: boolean) => (isAt ? 3 : 2);
const ERRNO_TYPE = 4;
const TYPES = [
  functionType(wasiParameters(false), ["i32"]),
  functionType(wasiParameters(true), ["i32"]),
  functionType(nativeParameters(false), ["i32"]),
  functionType(nativeParameters(true), ["i32"]),
  functionType([], ["i32"]),
];

const get = (local: number) => [OP.local_get, local];
const set = (local: number) => [OP.local_set, local];
const i32 = (value: number) => [OP.i32_const, ...signedLeb128(value)];
const i64 = (value: number) => [OP.i64_const, ...signedLeb128(value)];
const wide = (code: readonly number[]) => [...code, OP.i64_extend_i32_u];
const exported = (of: string, index: number) => [...name(of), FUNCTION, ...leb128(index)];

/** The module that a device is linked with: each function calls that of the same index. */
function tableModule(transfers: readonly Transfer[]): Uint8Array<ArrayBuffer> {
  const count = transfers.length;
  const tableExport = [...name("table"), TABLE, 0];
  return assemble([
    [SECTION.type, vector(TYPES)],
    [SECTION.function, vector(transfers.map(({ isAt }) => [wasiType(isAt)]))],
    [SECTION.table, vector([[FUNCREF, 0x01, count, count]])],
    [SECTION.export, vector([...transfers.map((of, i) => exported(of.name, i)), tableExport])],
    [
      SECTION.code,
      vector(
        transfers.map(({ isAt }, index) => {
          const parameters = wasiParameters(isAt).flatMap((_, i) => get(i));
          const call = [...i32(index), OP.call_indirect, wasiType(isAt), 0];
          return sized([0, ...parameters, ...call, OP.end]);
        }),
      ),
    ],
  ]);
}

/** Functions are counted through, those imported first: the errno, in JavaScript, and native. */
const ERRNO_INDEX = 0;
const slowIndex = (index: number) => 1 + 2 * index;
const nativeIndex = (index: number) => 2 + 2 * index;
const ownIndex = (index: number, count: number) => 1 + 2 * count + index;

/** Parameters that all have; the last one is where the count goes. */
const FD = 0;
const IOVECS = 1;
const IOVEC_COUNT = 2;
const OFFSET = 3;
/** Globals: where the memory is, and its size in pages when that was found out. */
const BASE = 0;
const PAGES = 1;

type PlainFile = Pick<OpenFile, "fd" | "functions" | "isPlain">;
/** What the descriptors of a device are, by their numbers for the device. */
export type OpenFiles = readonly (PlainFile | undefined)[];

function isUsable(file: PlainFile | undefined, name: string): file is PlainFile {
  return file?.isPlain === true && file.functions.has(name);
}

function body(index: number, { name: of, isAt }: Transfer, files: OpenFiles): number[] {
  const count = wasiParameters(isAt).length;
  const result = count - 1;
  const [native, pointer, bytes, done, end] = [0, 1, 2, 3, 4].map((local) => count + local) as [
    ...[number, number, number, number, number],
  ];
  const slowIf = (...condition: number[]) => [...condition, OP.br_if, 0];
  /** [from, from + size) is not inside. */
  const isOutside = (from: number, size: readonly number[]) => [
    ...[...wide(get(from)), ...size, OP.i64_add],
    ...[...get(end), OP.i64_gt_u],
  ];
  const find = files.flatMap((file, fd) => {
    if (!isUsable(file, of)) return [];
    const isThis = [...get(FD), ...i32(fd), OP.i32_eq];
    return [...isThis, OP.if, NO_RESULT, ...i32(file.fd + 1), ...set(native), OP.end];
  });
  const minusOne = [OP.i32_const, 0x7f];
  return [
    ...[2, 4, VALUE_TYPES.i32, 1, VALUE_TYPES.i64],
    ...[OP.block, NO_RESULT],
    ...slowIf(...get(IOVEC_COUNT), ...i32(1), OP.i32_ne),
    // It grew, and may be elsewhere: that is for the other one to find out.
    ...slowIf(OP.memory_size, 0, OP.global_get, PAGES, OP.i32_ne),
    ...[...wide([OP.global_get, PAGES]), ...i64(PAGE_SHIFT), OP.i64_shl, ...set(end)],
    ...slowIf(...isOutside(IOVECS, i64(IOVEC_BYTES))),
    ...slowIf(...isOutside(result, i64(COUNT_BYTES))),
    ...(isAt ? slowIf(...get(OFFSET), ...i64(OFFSET_MAX), OP.i64_gt_u) : []),
    ...find, // one more than the descriptor, 0 if there is none
    ...slowIf(...get(native), OP.i32_eqz),
    // Read once: what is checked is what is used.
    ...[...get(IOVECS), OP.i32_load, 0, 0, ...set(pointer)],
    ...[...get(IOVECS), OP.i32_load, 0, 4, ...set(bytes)],
    ...slowIf(...get(bytes), OP.i32_eqz),
    ...slowIf(...get(bytes), ...i32(IO_BYTES_MAX), OP.i32_gt_u),
    ...slowIf(...isOutside(pointer, wide(get(bytes)))),
    ...[...get(native), ...minusOne, OP.i32_add],
    ...[OP.global_get, BASE, ...get(pointer), OP.f64_convert_i32_u, OP.f64_add],
    ...get(bytes),
    ...(isAt ? [...get(OFFSET), OP.f64_convert_i64_u] : []),
    ...[OP.call, nativeIndex(index), ...set(done)],
    ...[...get(done), ...i32(0), OP.i32_lt_s, OP.if, NO_RESULT],
    ...[OP.call, ERRNO_INDEX, OP.return, OP.end],
    ...[...get(result), ...get(done), OP.i32_store, 0, 0],
    ...[...i32(0), OP.return, OP.end],
    ...wasiParameters(isAt).flatMap((_, i) => get(i)),
    ...[OP.call, slowIndex(index), OP.end],
  ];
}

function transferModule(transfers: readonly Transfer[], files: OpenFiles): Uint8Array<ArrayBuffer> {
  const from = (module: string, what: string) => [...name(module), ...name(what)];
  const global = (what: string, type: ValueType) => [
    ...[...from("device", what), GLOBAL],
    ...[VALUE_TYPES[type], 0x01],
  ];
  const imports = [
    [...from("host", "errno"), FUNCTION, ERRNO_TYPE],
    ...transfers.flatMap(({ name: of, isAt }) => [
      [...from("slow", of), FUNCTION, wasiType(isAt)],
      [...from("native", of), FUNCTION, nativeType(isAt)],
    ]),
    [...from("device", "memory"), MEMORY, 0x00, 0],
    global("base", "f64"),
    global("pages", "i32"),
  ];
  const exports = transfers.map((of, i) => exported(of.name, ownIndex(i, transfers.length)));
  const bodies = transfers.map((of, i) => sized(body(i, of, files)));
  return assemble([
    [SECTION.type, vector(TYPES)],
    [SECTION.import, vector(imports)],
    [SECTION.function, vector(transfers.map(({ isAt }) => [wasiType(isAt)]))],
    [SECTION.export, vector(exports)],
    [SECTION.code, vector(bodies)],
  ]);
}

type Functions = Partial<Record<TransferName, ImportedCall>>;

/** What a device is linked with in place of functions in JavaScript. */
export class Transfers {
  readonly #slow: Functions;
  readonly #files: OpenFiles;
  readonly #transfers: readonly Transfer[];
  readonly #table: WebAssembly.Exports;
  readonly #base = new WebAssembly.Global({ value: "f64", mutable: true }, 0);
  readonly #pages = new WebAssembly.Global({ value: "i32", mutable: true }, -1);
  #address = 0;
  #bytes = 0;

  /**
   * @param slow the functions that know every case
   * @param files those that were granted; they stay as they are
   * @param module what it does not import is not made, which saves it half a millisecond each
   */
  constructor(slow: Functions, files: OpenFiles, module?: WebAssembly.Module) {
    const imports = module ? WebAssembly.Module.imports(module) : TRANSFERS;
    const names = imports.map(({ name: of }) => of);
    const has = (of: string) => names.includes(of) && files.some((file) => isUsable(file, of));
    this.#slow = slow;
    this.#files = [...files];
    this.#transfers = TRANSFERS.filter((of) => has(of.name));
    const table = new WebAssembly.Module(tableModule(this.#transfers));
    this.#table = new WebAssembly.Instance(table).exports;
  }

  /** The functions for a device to import; none may be called before attach(). */
  get functions(): Functions {
    const { table, ...functions } = this.#table;
    return functions as Functions;
  }

  /** The device exists, and so does its memory. */
  attach(memory: unknown): void {
    const module = new WebAssembly.Module(transferModule(this.#transfers, this.#files));
    const { exports } = new WebAssembly.Instance(module, {
      host: { errno: lastErrno },
      slow: this.#slow,
      native: Object.fromEntries(this.#transfers.map((of) => [of.name, of.call])),
      device: { memory, base: this.#base, pages: this.#pages },
    } as unknown as WebAssembly.Imports);
    const table = this.#table.table as WebAssembly.Table;
    for (const [index, of] of this.#transfers.entries()) table.set(index, exports[of.name]);
  }

  /** The memory is at this native address now, and has so many bytes. */
  follow({ address, bytes }: { address: number; bytes: number }): void {
    if (address === this.#address && bytes === this.#bytes) return;
    this.#address = address;
    this.#bytes = bytes;
    this.#base.value = address;
    this.#pages.value = bytes / 2 ** PAGE_SHIFT;
  }
}
