// Modules that run, and end by what they do: each says at which entry point, and why.

import { WINDOW_BYTES } from "../../../host/runtime/instance.js";
import type { OptionValue } from "../../../host/sandbox/options.js";
import { moduleWith } from "../../runtime/support.js";
import type { Ending } from "../support/attack.js";
import type { ConfinedDevice } from "../support/confined.js";
import { READER } from "./imports.js";

type Parts = NonNullable<Parameters<typeof moduleWith>[0]>;

/** Asks for a reply of up to 8 bytes. */
function request(device: ConfinedDevice): void {
  device.activate();
  device.request({ id: 1, capacity: 8 });
}

function activate(device: ConfinedDevice): void {
  device.activate();
}

function reset(device: ConfinedDevice): void {
  device.activate();
  device.reset();
}

/**
 * Entry points, each with a function of its type around some code, and what makes the runtime call
 * it.
 */
export const ENTRIES: readonly {
  entry: string;
  part: (code: string) => Parts;
  drive?: (device: ConfinedDevice) => void;
  /** What the user set. */
  options?: OptionValue[];
}[] = [
  {
    entry: "_initialize",
    part: (code) => ({ initialize: `(func $here (export "_initialize") ${code})` }),
  },
  {
    entry: "reserve",
    part: (code) => ({
      reserve: `(func $here (export "reserve") (param i32) (result i32) ${code} i32.const 0)`,
    }),
  },
  {
    entry: "set",
    part: (code) => ({ set: `(func $here (export "set") (param i32 i64 i32 i32) ${code})` }),
    options: [{ index: 0, number: "7", text: "" }],
  },
  {
    entry: "start",
    part: (code) => ({ start: `(func $here (export "start") ${code})` }),
  },
  {
    entry: "activate",
    part: (code) => ({ activate: `(func $here (export "activate") (param i64) ${code})` }),
    drive: activate,
  },
  {
    entry: "reset",
    part: (code) => ({ reset: `(func $here (export "reset") ${code})` }),
    drive: reset,
  },
  {
    entry: "serve",
    part: (code) => ({
      serve: `(func $here (export "serve") (param i32 i32 i32 i32 i32) (result i32)
        ${code} i32.const 0)`,
    }),
    drive: request,
  },
];

const traps: Ending[] = ENTRIES.map(({ entry, part, drive, options }) => ({
  name: `a trap in ${entry} ends the device with a line that names it`,
  module: () => moduleWith(part("unreachable")),
  ...(drive && { drive }),
  ...(options && { options }),
  log: new RegExp(`^${entry}: unreachable$`),
}));

/** A device that serves like this; `more` is what it needs besides. */
function serving(code: string, more = ""): Pick<Ending, "module" | "drive"> {
  const serve = `(func $serve (export "serve") (param i32 i32 i32 i32 i32) (result i32) ${code})`;
  return { module: () => moduleWith({ serve, more }), drive: request };
}

const causes: readonly (readonly [what: string, code: string, reason: string, more?: string])[] = [
  ["a division by zero", "(i32.div_u (i32.const 1) (i32.const 0))", "divide by zero"],
  [
    "a division that overflows",
    "(i32.div_s (i32.const 0x80000000) (i32.const -1))",
    "divide result unrepresentable",
  ],
  [
    "a conversion of no number",
    "(i32.trunc_f64_u (f64.const nan))",
    "float unrepresentable in integer range",
  ],
  ["a load beyond its memory", "(i32.load (i32.const 0x7fffffff))", "memory access out of bounds"],
  [
    "a load at 4 GiB and more",
    "(i32.load offset=0xffffffff (i32.const -1))",
    "memory access out of bounds",
  ],
  [
    "a store across the end of its memory",
    "(i64.store (i32.const 0x3ffffc) (i64.const -1)) (i32.const 0)",
    "memory access out of bounds",
  ],
  [
    "a copy that wraps 2^32",
    "(memory.copy (i32.const 0) (i32.const 16) (i32.const -8)) (i32.const 0)",
    "memory access out of bounds",
  ],
  [
    "a fill of 4 GiB",
    "(memory.fill (i32.const 0) (i32.const 65) (i32.const -1)) (i32.const 0)",
    "memory access out of bounds",
  ],
  [
    "a call of an empty place in its table",
    "(call_indirect (result i32) (i32.const 0))",
    "function signature mismatch",
    "(table 1 1 funcref)",
  ],
  [
    "a call beyond its table",
    "(call_indirect (result i32) (i32.const 7))",
    "table index is out of bounds",
    "(table 1 1 funcref)",
  ],
  [
    "a call of a function as another type",
    "(call_indirect (result i32) (i32.const 0))",
    "function signature mismatch",
    "(table 1 1 funcref) (elem (i32.const 0) $serve)",
  ],
];

const faults: Ending[] = causes.map(([what, code, reason, more]) => ({
  name: `${what} ends the device`,
  ...serving(code, more),
  log: new RegExp(`^serve: .*(${reason})`),
}));

const SELF = `(call $serve
  (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4))`;
const LOCALS = `(local ${"i64 ".repeat(4000)})`;

const recursions: Ending[] = [
  {
    name: "recursion without an end in _initialize ends the device",
    module: () => moduleWith({ initialize: '(func $again (export "_initialize") (call $again))' }),
    log: /^_initialize: Maximum call stack size exceeded$/,
  },
  {
    name: "recursion without an end in serve ends the device",
    ...serving(SELF),
    log: /^serve: Maximum call stack size exceeded$/,
  },
  {
    name: "recursion in frames of 32 kB ends the device before it leaves its stack",
    ...serving(`${LOCALS} ${SELF}`),
    log: /^serve: Maximum call stack size exceeded$/,
  },
  {
    name: "recursion through the table ends the device",
    ...serving(
      `(call_indirect (param i32 i32 i32 i32 i32) (result i32) (local.get 0) (local.get 1)
        (local.get 2) (local.get 3) (local.get 4) (i32.const 0))`,
      "(table 1 1 funcref) (elem (i32.const 0) $serve)",
    ),
    log: /^serve: Maximum call stack size exceeded$/,
  },
  {
    name: "recursion that calls out at every depth ends the device, whoever overflows",
    module: () => {
      const type = "(func $fd_read (param i32 i32 i32 i32) (result i32))";
      const imports = `(import "wasi_snapshot_preview1" "fd_read" ${type})`;
      const serve = `(func $serve (export "serve") (param i32 i32 i32 i32 i32) (result i32)
        (drop (call $fd_read (i32.const 3) (i32.const 1024) (i32.const 1) (i32.const 512)))
        ${SELF})`;
      return moduleWith({ imports, serve }, READER);
    },
    drive: request,
    log: /^serve: Maximum call stack size exceeded$/,
  },
];

function reserving(code: string): () => Uint8Array {
  return () =>
    moduleWith({
      reserve: `(global $calls (mut i32) (i32.const 0))
        (func (export "reserve") (param i32) (result i32)
          (global.set $calls (i32.add (global.get $calls) (i32.const 1))) ${code})`,
    });
}

const SECOND = "(i32.sub (global.get $calls) (i32.const 1))";

const windows: Ending[] = [
  ["outside its memory", "i32.const 0x7fffffff", "are not in its memory"],
  ["at -1", "i32.const -1", "are not in its memory"],
  ["across the end of its memory", "i32.const 0x3f0000", "are not in its memory"],
  ["that only fits its maximum", "i32.const 0x800000", "are not in its memory"],
  ["that is the other one", "i32.const 65536", "windows at 65536 and 65536 overlap"],
  [
    "that shares its last byte with the other one",
    `(i32.mul ${SECOND} (i32.const ${WINDOW_BYTES - 1}))`,
    `windows at 0 and ${WINDOW_BYTES - 1} overlap`,
  ],
  [
    "in front of the other one, by a byte too little",
    `(i32.sub (i32.const ${WINDOW_BYTES - 1}) (i32.mul ${SECOND} (i32.const ${WINDOW_BYTES - 1})))`,
    `windows at ${WINDOW_BYTES - 1} and 0 overlap`,
  ],
].map(([what, code, reason]) => ({
  name: `a window ${what} ends the device before it is ready`,
  module: reserving(code!),
  log: new RegExp(`^reserve: .*${reason}`),
}));

const replies: Ending[] = [
  ["one byte more than there is room for", "i32.const 9", "claims 9 bytes"],
  ["4 GiB, all but the value that says it waits", "i32.const -2", "claims 4294967294 bytes"],
  ["2 GiB", "i32.const 0x80000000", "claims 2147483648 bytes"],
].map(([what, code, reason]) => ({
  name: `a reply of ${what} ends the device`,
  ...serving(code!),
  log: new RegExp(`^serve: ${reason} of a capacity of 8$`),
}));

const refused: Ending[] = [
  {
    name: "a module that is refused never becomes a device",
    module: () => moduleWith({ more: "(func $go) (start $go)" }),
    log: /start section/,
    status: 2,
  },
  {
    name: "a data segment outside memory ends the process before it is confined",
    module: () => moduleWith({ more: '(data (i32.const 0x7fffffff) "x")' }),
    log: /Cannot link the module/,
    status: 2,
  },
  {
    name: "a module of 1 MiB and one byte is not even read",
    module: () => new Uint8Array(1024 * 1024 + 1),
    log: /1048577 bytes, at most 1 MiB/,
    status: 2,
  },
];

export const ENDINGS: readonly Ending[] = [
  ...traps,
  ...faults,
  ...recursions,
  ...windows,
  ...replies,
  ...refused,
];
