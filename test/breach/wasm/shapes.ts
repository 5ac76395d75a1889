// Modules whose exports, segments or sections are not what they must be.

import { moduleWith } from "../../runtime/support.js";
import type { Refusal } from "../support/attack.js";
import { encoded, insertBefore, joined, leb128, section, withSection } from "../support/encode.js";

type Parts = Parameters<typeof moduleWith>[0];

function parts(changes: Parts): () => Uint8Array {
  return () => moduleWith(changes);
}

/** Another type for each function that the runtime calls, right in the number of its parameters. */
const WRONG_TYPES: readonly (readonly [
  how: string,
  part: keyof NonNullable<Parts>,
  wat: string,
])[] = [
  [
    "_initialize with a result",
    "initialize",
    '(func (export "_initialize") (result i32) i32.const 0)',
  ],
  [
    "reserve of 64 bits",
    "reserve",
    '(func (export "reserve") (param i64) (result i32) i32.const 0)',
  ],
  ["reserve without a result", "reserve", '(func (export "reserve") (param i32))'],
  [
    "reserve with a result of 64 bits",
    "reserve",
    '(func (export "reserve") (param i32) (result i64) i64.const 0)',
  ],
  ["activate of 32 bits", "activate", '(func (export "activate") (param i32))'],
  [
    "activate with a result",
    "activate",
    '(func (export "activate") (param i64) (result i64) i64.const 0)',
  ],
  ["reset with a result", "reset", '(func (export "reset") (result f64) f64.const 0)'],
  [
    "serve of doubles",
    "serve",
    '(func (export "serve") (param f64 f64 f64 f64 f64) (result i32) i32.const 0)',
  ],
  ["serve without a result", "serve", '(func (export "serve") (param i32 i32 i32 i32 i32))'],
  [
    "serve with a result of 64 bits",
    "serve",
    '(func (export "serve") (param i32 i32 i32 i32 i32) (result i64) i64.const 0)',
  ],
  [
    "serve with a float as its result",
    "serve",
    '(func (export "serve") (param i32 i32 i32 i32 i32) (result f32) f32.const nan)',
  ],
  [
    "serve with two results",
    "serve",
    '(func (export "serve") (param i32 i32 i32 i32 i32) (result i32 i32) i32.const 0 i32.const 0)',
  ],
  ["describe without a result", "describe", '(func (export "describe"))'],
];

/** Numbers of parameters that no correct module has. */
const WRONG_COUNTS: readonly (readonly [name: string, part: keyof NonNullable<Parts>])[] = [
  ["_initialize", "initialize"],
  ["reserve", "reserve"],
  ["activate", "activate"],
  ["reset", "reset"],
  ["serve", "serve"],
  ["describe", "describe"],
];

const exported: Refusal[] = [
  {
    name: "an export of a function that there is not is refused",
    module: () =>
      withSection(moduleWith({ more: '(func (export "z"))' }), 7, (body) =>
        joined(body.subarray(0, -1), [0x7f]),
      ),
    because: /exports a thing that there is not, "z"/,
  },
  {
    name: "a function of a type that there is not is refused",
    module: () => withSection(moduleWith(), 3, (body) => joined(body.subarray(0, -1), [0x7f])),
    because: /a function of type 127/,
  },
  ...WRONG_TYPES.map(([how, part, wat]) => ({
    name: `an export ${how} is refused`,
    module: parts({ [part]: wat }),
    because: new RegExp(`exports ${wat.match(/"(\w+)"/)?.[1]} as .*, which is `),
  })),
  ...WRONG_COUNTS.map(([name, part]) => ({
    name: `an export ${name} with nine parameters is refused`,
    module: parts({
      [part]: `(func (export "${name}") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
        i32.const 0)`,
    }),
    because: new RegExp(`exports ${name} as \\((i32 ?){9}\\) -> .*, which is`),
  })),
  ...WRONG_COUNTS.map(([name, part]) => ({
    name: `an export ${name} that is a global is refused`,
    module: parts({ [part]: `(global (export "${name}") i32 (i32.const 65536))` }),
    because: new RegExp(`exports no function "${name}"`),
  })),
  {
    name: "an export memory that is a function is refused",
    module: parts({ memory: '(memory 64 256) (func (export "memory"))' }),
    because: /exports no memory "memory"/,
  },
  {
    name: "an export serve that is the table is refused",
    module: parts({ serve: '(table (export "serve") 1 1 funcref)' }),
    because: /exports no function "serve"/,
  },
  {
    name: "an export of the same name twice is refused",
    module: parts({ more: '(func (export "serve"))' }),
    because: /exports one name twice/,
  },
];

const segments: Refusal[] = [
  ["a data segment outside the memory", '(data (i32.const 0x7fffffff) "x")'],
  ["a data segment across the end of the memory", '(data (i32.const 0x3fffff) "xy")'],
  ["a data segment at a negative address", '(data (i32.const -1) "x")'],
  ["an element segment outside the table", "(table 1 1 funcref) (func $f) (elem (i32.const 7) $f)"],
].map(([what, more]) => ({
  name: `${what} is refused`,
  module: parts({ more: more! }),
  because: /Cannot link the module: .*out of bounds/,
}));

const code: Refusal[] = [
  {
    name: "an element segment with a function that there is not is refused",
    module: parts({ more: "(table 1 1 funcref) (elem (i32.const 0) 99)" }),
    because: /function index 99 out of bounds/,
  },
  {
    name: "a start function, which would run before the lock-down, is refused",
    module: parts({ more: "(func $go (loop (br 0))) (start $go)" }),
    because: /start section/,
  },
  {
    name: "code that does not validate is refused",
    module: parts({ reset: '(func (export "reset") i32.add drop)' }),
    because: /Cannot compile the module/,
  },
];

/** Sections of raw bytes: what a fuzzer would send. */
const bytes: Refusal[] = [
  {
    name: "an empty file is refused",
    module: () => new Uint8Array(),
    because: /no WebAssembly module/,
  },
  {
    name: "a component in place of a module is refused",
    module: () => joined([0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00]),
    because: /no WebAssembly module/,
  },
  {
    name: "a section that claims 4 GiB is refused",
    module: () => joined(encoded([]), [1, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    because: /claims 4294967295 bytes/,
  },
  {
    name: "a section whose size has more than 32 bits is refused",
    module: () => joined(encoded([]), [1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
    because: /more than 32 bits/,
  },
  {
    name: "a vector that claims four thousand million types is refused",
    module: () => encoded([section(1, [0xff, 0xff, 0xff, 0xff, 0x0f])]),
    because: /ends within its types/,
  },
  {
    name: "a type section twice is refused",
    module: () => insertBefore(moduleWith(), 1, section(1, [0])),
    because: /section 1 is unknown, out of order or there twice/,
  },
  {
    name: "a code section before the functions is refused",
    module: () => insertBefore(moduleWith(), 3, section(10, [0])),
    because: /section 3 is unknown, out of order or there twice/,
  },
  {
    name: "a section of an unknown kind is refused",
    module: () => joined(moduleWith(), section(77, [1, 2, 3])),
    because: /section 77 is unknown/,
  },
  {
    name: "bytes behind the last function are refused",
    module: () => withSection(moduleWith(), 10, (body) => joined(body, [0, 0])),
    because: /bytes after its last entry/,
  },
  {
    name: "a function with code behind its end is refused",
    module: () =>
      withSection(moduleWith({ more: "(func)" }), 10, (body) =>
        joined(body.subarray(0, -3), leb128(4), [0, 0x0b, 0x01, 0x0b]),
      ),
    because: /code after its end/,
  },
  {
    name: "an export name that is no text is refused",
    module: () => {
      const module = moduleWith();
      module[Buffer.from(module).indexOf("serve")] = 0xff;
      return module;
    },
    because: /no printable ASCII/,
  },
  {
    name: "a module cut off in the middle is refused",
    module: () => moduleWith().subarray(0, 60),
    because: /Cannot use this module/,
  },
];

export const SHAPES: readonly Refusal[] = [...exported, ...segments, ...code, ...bytes];
