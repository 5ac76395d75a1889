// Of which WebAssembly a device is made: version 1.0, and the four additions that compilers use
// without being asked (sign extension, saturating conversion, bulk memory, several results).
// Everything else that V8 understands, now or in a later version (vectors, threads, exceptions,
// tail calls, references, garbage collection), is refused: less of the compiler to attack, and the
// same answer on every version of Node. V8 still validates; this only reads opcodes (core
// specification 2.0 §5.4).

import { type Reader, refuse } from "./reader.js";

/** Locals of one function: V8 takes 50,000, and its compiler copies all at every branch. */
export const LOCALS_MAX = 4096;
/** Entries of a table; V8 takes ten million, of 8 bytes each. */
export const TABLE_ENTRIES_MAX = 16 * 1024;

const VALUE_TYPES: Readonly<Record<number, string>> = {
  127: "i32",
  126: "i64",
  125: "f32",
  124: "f64",
};
const FUNCTION_TYPE = 0x60;
const FUNCREF = 0x70;
const EMPTY_BLOCK = 0x40;
const END = 0x0b;
const BULK_PREFIX = 0xfc;
/** Largest log2 of an alignment; its bit 6 would mean another memory than the first. */
const ALIGN_MAX = 3;

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

function valueType(reader: Reader): string {
  const type = reader.byte();
  return VALUE_TYPES[type] ?? refuse(`it uses values of type ${hex(type)}, other than numbers`);
}

function valueTypes(reader: Reader): string {
  const all: string[] = [];
  for (let left = reader.u32(); left > 0; left--) all.push(valueType(reader));
  return `(${all.join(" ")})`;
}

/** The type section: one text like "(i32 i64) -> (i32)" for each type. */
export function readTypes(reader: Reader): string[] {
  return reader.vector(() => {
    const form = reader.byte();
    if (form !== FUNCTION_TYPE) refuse(`it has a type of form ${hex(form)}, not of a function`);
    return `${valueTypes(reader)} -> ${valueTypes(reader)}`;
  });
}

/** The table section: one table, of functions, of bounded size; no instruction makes it grow. */
export function checkTables(reader: Reader): void {
  const tables = reader.vector(() => {
    const type = reader.byte();
    if (type !== FUNCREF) refuse(`it has a table of type ${hex(type)}, not of functions`);
    const flags = reader.byte();
    if (flags > 1) refuse(`its table has limits of type ${flags}`);
    const entries = reader.u32();
    if (entries > TABLE_ENTRIES_MAX) refuse(`its table has ${entries} > ${TABLE_ENTRIES_MAX}`);
    if (flags === 1) reader.skipNumber(32);
  });
  if (tables.length > 1) refuse(`it has ${tables.length} tables`);
}

type Immediates = (reader: Reader) => void;

const none: Immediates = () => {};
const index: Immediates = (reader) => reader.skipNumber(32);

function indices(count: number): Immediates {
  return (reader) => {
    for (let i = 0; i < count; i++) reader.skipNumber(32);
  };
}

function memoryArgument(reader: Reader): void {
  const align = reader.u32();
  if (align > ALIGN_MAX) refuse(`its code has an alignment of 2^${align}`);
  reader.skipNumber(32);
}

/** A block's type: nothing, a number, or an index (33 bits, signed) of the type section. */
function blockType(reader: Reader): void {
  const first = reader.peek();
  if (first === EMPTY_BLOCK || VALUE_TYPES[first] !== undefined) reader.byte();
  else if (first >= 0x40 && first < 0x80) refuse(`its code has a block of type ${hex(first)}`);
  else reader.skipNumber(33);
}

function branchTable(reader: Reader): void {
  for (let left = reader.u32() + 1; left > 0; left--) reader.skipNumber(32);
}

/** What follows 0xfc: eight saturating conversions, and bulk memory without growing tables. */
const BULK: readonly Immediates[] = [
  ...Array<Immediates>(8).fill(none),
  indices(2), // memory.init
  index, // data.drop
  indices(2), // memory.copy
  index, // memory.fill
  indices(2), // table.init
  index, // elem.drop
  indices(2), // table.copy
];

function bulk(reader: Reader): void {
  const opcode = reader.u32();
  const immediates = BULK[opcode] ?? refuse(`its code has an instruction 0xfc ${hex(opcode)}`);
  immediates(reader);
}

/** First and last opcode, and what follows them. */
const INSTRUCTIONS: readonly (readonly [first: number, last: number, Immediates])[] = [
  [0x00, 0x01, none], // unreachable, nop
  [0x02, 0x04, blockType], // block, loop, if
  [0x05, 0x05, none], // else
  [0x0b, 0x0b, none], // end
  [0x0c, 0x0d, index], // br, br_if
  [0x0e, 0x0e, branchTable],
  [0x0f, 0x0f, none], // return
  [0x10, 0x10, index], // call
  [0x11, 0x11, indices(2)], // call_indirect
  [0x1a, 0x1b, none], // drop, select
  [0x20, 0x24, index], // locals and globals
  [0x28, 0x3e, memoryArgument], // loads and stores
  [0x3f, 0x40, index], // memory.size, memory.grow
  [0x41, 0x41, (reader) => reader.skipNumber(32)],
  [0x42, 0x42, (reader) => reader.skipNumber(64)],
  [0x43, 0x43, (reader) => void reader.take(4)],
  [0x44, 0x44, (reader) => void reader.take(8)],
  [0x45, 0xc4, none], // numeric, and sign extension
  [BULK_PREFIX, BULK_PREFIX, bulk],
];

const IMMEDIATES: (Immediates | undefined)[] = Array(256).fill(undefined);
for (const [first, last, immediates] of INSTRUCTIONS) IMMEDIATES.fill(immediates, first, last + 1);

const BLOCK_FIRST = 0x02;
const BLOCK_LAST = 0x04;

/** Instructions up to the `end` that closes the first of them. */
function walkExpression(reader: Reader): void {
  for (let depth = 1; depth > 0; ) {
    const opcode = reader.byte();
    const immediates = IMMEDIATES[opcode] ?? refuse(`its code has an instruction ${hex(opcode)}`);
    immediates(reader);
    if (opcode === END) depth -= 1;
    else if (opcode >= BLOCK_FIRST && opcode <= BLOCK_LAST) depth += 1;
  }
}

/** The global section. */
export function checkGlobals(reader: Reader): void {
  reader.vector(() => {
    valueType(reader);
    reader.byte();
    walkExpression(reader);
  });
}

function checkBody(body: Reader): void {
  let locals = 0;
  for (let left = body.u32(); left > 0; left--) {
    locals += body.u32();
    valueType(body);
  }
  if (locals > LOCALS_MAX) refuse(`it has a function with ${locals} > ${LOCALS_MAX} locals`);
  walkExpression(body);
  if (!body.done) refuse("it has a function with code after its end");
}

/** The code section. */
export function checkCode(reader: Reader): void {
  reader.vector(() => checkBody(reader.part()));
}
