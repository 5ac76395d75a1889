// Modules that are too large in some way, or made of more than the WebAssembly that devices need.

import { LOCALS_MAX, TABLE_ENTRIES_MAX } from "../../../host/sandbox/code.js";
import { MODULE_BYTES_MAX } from "../../../host/sandbox/manifest.js";
import { moduleWith } from "../../runtime/support.js";
import type { Refusal } from "../support/attack.js";
import { joined, leb128, section, withSection } from "../support/encode.js";

function memory(limits: string): () => Uint8Array {
  return () => moduleWith({ memory: `(memory (export "memory") ${limits})` });
}

/** A module with one more function, of these bytes. */
export function withBody(code: ArrayLike<number>, locals: ArrayLike<number> = [0]): Uint8Array {
  const body = joined(locals, code, [0x0b]);
  return withSection(moduleWith({ more: "(func)" }), 10, (all) =>
    joined(all.subarray(0, -3), leb128(body.length), body),
  );
}

/** A custom section that pads a module to `bytes` bytes. */
function padded(bytes: number): Uint8Array {
  const module = moduleWith();
  const overhead = 1 + 3 + 1; // id, size of three bytes, empty name
  return joined(module, section(0, new Uint8Array(bytes - module.length - overhead + 1)));
}

const memories: Refusal[] = [
  {
    name: "a memory without a maximum is refused",
    module: memory("64"),
    because: /declare a maximum/,
  },
  {
    name: "a memory of one page too many is refused",
    module: memory("64 257"),
    because: /may grow to 257 pages > 256/,
  },
  {
    name: "a memory of 4 GiB is refused",
    module: memory("64 65536"),
    because: /may grow to 65536 pages/,
  },
  {
    name: "a memory larger than its maximum is refused",
    module: () => withSection(moduleWith(), 5, () => [1, 1, ...leb128(200), ...leb128(100)]),
    because: /Cannot compile the module/,
  },
  {
    name: "a shared memory, which another thread could change under a check, is refused",
    module: () => withSection(moduleWith(), 5, () => [1, 3, ...leb128(64), ...leb128(256)]),
    because: /limits of type 3/,
  },
  {
    name: "a memory with 64-bit addresses is refused",
    module: () => withSection(moduleWith(), 5, () => [1, 5, ...leb128(64), ...leb128(256)]),
    because: /limits of type 5/,
  },
  {
    name: "a second memory is refused",
    module: () => withSection(moduleWith(), 5, () => [2, 1, 64, 65, 1, 1, 1]),
    because: /2 memories/,
  },
  {
    name: "a module without a memory is refused",
    module: () => moduleWith({ memory: "", serve: "" }),
    because: /no memory of its own/,
  },
];

const sizes: Refusal[] = [
  {
    name: "a module of 1 MiB and one byte is refused",
    module: () => padded(MODULE_BYTES_MAX + 1),
    because: /too large: 1048577 bytes/,
  },
  {
    name: "a function with one local too many is refused",
    module: () => withBody([], [1, ...leb128(LOCALS_MAX + 1), 0x7f]),
    because: /4097 > 4096 locals/,
  },
  {
    name: "a function whose locals add up beyond 2^32 is refused",
    module: () => withBody([], [2, ...leb128(0x7fff_ffff), 0x7f, ...leb128(0x7fff_ffff), 0x7f]),
    because: /4294967294 > 4096 locals/,
  },
  {
    name: "a table of one entry too many is refused",
    module: () => moduleWith({ more: `(table ${TABLE_ENTRIES_MAX + 1} funcref)` }),
    because: /its table has 16385/,
  },
  {
    name: "two tables are refused",
    module: () => moduleWith({ more: "(table 1 1 funcref) (table 1 1 funcref)" }),
    because: /2 tables/,
  },
  {
    name: "a type with more parameters than V8 allows is refused",
    module: () => moduleWith({ more: `(func (param ${"i32 ".repeat(1001)}))` }),
    because: /Cannot compile the module/,
  },
];

/** Instructions and types beyond what a device is made of; a V8 may know them or not. */
const features: Refusal[] = [
  ["vectors (i8x16.splat)", () => withBody([0x41, 0, 0xfd, 15, 0x1a]), /0xfd/],
  ["vectors as locals", () => withBody([], [1, 1, 0x7b]), /values of type 0x7b/],
  ["atomic operations (atomic.fence)", () => withBody([0xfe, 3, 0]), /0xfe/],
  ["a wait that never ends (memory.atomic.wait32)", waiting, /0xfe/],
  ["tail calls (return_call)", () => withBody([0x12, 0]), /0x12/],
  ["exceptions (try, catch_all)", () => withBody([0x06, 0x40, 0x19, 0x0b]), /0x6/],
  ["exceptions (try_table)", () => withBody([0x1f, 0x40, 0, 0x0b]), /0x1f/],
  ["exceptions (a tag section)", () => joined(moduleWith(), section(13, [0])), /section 13/],
  ["references (ref.null)", () => withBody([0xd0, 0x70, 0x1a]), /0xd0/],
  ["references (ref.func)", () => withBody([0xd2, 0, 0x1a]), /0xd2/],
  ["references as globals", () => globalOf([0x6f, 0, 0xd0, 0x6f, 0x0b]), /values of type 0x6f/],
  ["a table of host references", () => moduleWith({ more: "(table 1 externref)" }), /0x6f/],
  ["a table that grows (table.grow)", () => withBody([0xfc, 15, 0]), /0xfc 0xf/],
  ["garbage collection (a struct type)", () => typeOf([0x5f, 0]), /form 0x5f/],
  ["garbage collection (a recursive group)", () => typeOf([0x4e, 0]), /form 0x4e/],
  ["garbage collection (struct.new)", () => withBody([0xfb, 0, 0]), /0xfb/],
  [
    "another memory behind an alignment",
    () => withBody([0x41, 0, 0x28, 0x42, 0, 0, 0x1a]),
    /2\^66/,
  ],
].map(([what, module, because]) => ({
  name: `the use of ${what} is refused`,
  module: module as () => Uint8Array,
  because: because as RegExp,
}));

function waiting(): Uint8Array {
  return withBody([0x41, 0, 0x41, 0, 0x42, 0x7f, 0xfe, 1, 2, 0, 0x1a]);
}

/** A module with one more type. */
function typeOf(type: readonly number[]): Uint8Array {
  return withSection(moduleWith(), 1, (body) => joined([body[0]! + 1], body.subarray(1), type));
}

/** A module with one more global. */
function globalOf(global: readonly number[]): Uint8Array {
  return withSection(moduleWith(), 6, (body) => joined([body[0]! + 1], body.subarray(1), global));
}

export const LIMITS: readonly Refusal[] = [...memories, ...sizes, ...features];
