// Modules that try something which is theirs to try: it must lead nowhere, and the device goes on.

import { WINDOW_BYTES } from "../../../host/runtime/instance.js";
import { MEMORY_PAGES_MAX } from "../../../host/sandbox/sections.js";
import { moduleWith, type Reply, type Request } from "../../runtime/support.js";
import { joined, leb128, repeated, withSection } from "../support/encode.js";
import { READER } from "./imports.js";
import { withBody } from "./limits.js";

export interface Survivor {
  /** Name of the test. */
  name: string;
  module: () => Uint8Array;
  /** What is asked of the device, in one message, and again when it has answered. */
  requests: readonly Request[];
  /** What it must reply, the first time and the second. */
  replies: readonly (readonly Reply[])[];
}

function reply(id: number, ...bytes: number[]): Reply {
  return { id, bytes: Uint8Array.from(bytes), flags: 0 };
}

function serve(code: string): { serve: string } {
  return { serve: `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32) ${code})` };
}

/** Replies with one word. */
function replying(code: string): string {
  return `(i32.store (local.get 3) ${code}) (i32.const 4)`;
}

const three: readonly Request[] = [
  { id: 10, readable: Uint8Array.of(1, 1), capacity: 2 },
  { id: 11, readable: Uint8Array.of(2, 2), capacity: 2 },
  { id: 12, readable: Uint8Array.of(3, 3), capacity: 2 },
];
const echoed = [reply(10, 1, 1), reply(11, 2, 2), reply(12, 3, 3)];
const one: readonly Request[] = [{ id: 10, capacity: 4 }];

const GROW_ALL = `(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))`;

const memories: Survivor[] = [
  {
    name: "a module that grows its memory for ever gets its maximum and no page more",
    module: () => moduleWith(serve(`${GROW_ALL} ${replying("(memory.size)")}`)),
    requests: one,
    replies: Array(2).fill([reply(10, MEMORY_PAGES_MAX & 0xff, MEMORY_PAGES_MAX >> 8, 0, 0)]),
  },
  {
    name: "a module that wants 4 GiB at once gets -1",
    module: () => moduleWith(serve(replying("(memory.grow (i32.const 65535))"))),
    requests: one,
    replies: Array(2).fill([reply(10, 0xff, 0xff, 0xff, 0xff)]),
  },
  {
    name: "a module that grows its memory while it serves a batch is received from where it is",
    module: () =>
      moduleWith(
        serve(`(drop (memory.grow (i32.const 30)))
          (memory.copy (local.get 3) (local.get 1) (local.get 2)) (local.get 2)`),
      ),
    requests: three,
    replies: [echoed, echoed],
  },
  {
    name: "a module that grows its memory in activate is received into where it is",
    module: () =>
      moduleWith({
        activate: '(func (export "activate") (param i64) (drop (memory.grow (i32.const 100))))',
      }),
    requests: three,
    replies: [echoed, echoed],
  },
  {
    name: "a module that fills all of its memory destroys its own requests and nothing else",
    module: () =>
      moduleWith(
        serve(`(memory.fill (i32.const 0) (i32.const 65) (i32.mul (memory.size) (i32.const 65536)))
          (memory.copy (local.get 3) (local.get 1) (local.get 2)) (local.get 2)`),
      ),
    requests: three,
    replies: Array(2).fill([reply(10, 65, 65), reply(11, 65, 65), reply(12, 65, 65)]),
  },
  {
    name: "a module that scribbles behind its room leaves the replies before it and their lengths",
    module: () =>
      moduleWith(
        serve(`(memory.copy (local.get 3) (local.get 1) (local.get 2))
          (memory.fill (i32.add (local.get 3) (local.get 4)) (i32.const 66) (i32.const 100000))
          (local.get 2)`),
      ),
    requests: three,
    replies: [echoed, echoed],
  },
  {
    name: "a module that reads back its inbox finds nothing there but requests",
    module: () =>
      moduleWith(
        serve(`(memory.copy (local.get 3) (i32.add (local.get 1) (local.get 2)) (local.get 4))
          (local.get 4)`),
      ),
    requests: [{ id: 10, readable: Uint8Array.of(1, 2), capacity: 8 }],
    replies: Array(2).fill([reply(10, 0, 0, 0, 0, 0, 0, 0, 0)]),
  },
  {
    name: "a module whose window lies over its own data loses its data",
    module: () =>
      moduleWith({
        more: '(data (i32.const 0) "my own data")',
        reserve: `(global $next (mut i32) (i32.const 0))
          (func (export "reserve") (param i32) (result i32)
            global.get $next
            (global.set $next (i32.add (global.get $next) (i32.const ${WINDOW_BYTES}))))`,
        ...serve("(memory.copy (local.get 3) (i32.const 0) (i32.const 4)) (i32.const 4)"),
      }),
    requests: [{ id: 10, readable: Uint8Array.of(7, 7), capacity: 4 }],
    replies: Array(2).fill([reply(10, 7, 7, 0, 0)]),
  },
];

const calls: Survivor[] = [
  {
    name: "a module that loops in describe, which only the build calls, serves",
    module: () =>
      moduleWith({ describe: '(func (export "describe") (result i32) (loop (br 0)) unreachable)' }),
    requests: three,
    replies: [echoed, echoed],
  },
  {
    name: "a module that writes a reply and claims none of it sends none of it",
    module: () => moduleWith(serve("(i32.store (local.get 3) (i32.const -1)) (i32.const 0)")),
    requests: one,
    replies: Array(2).fill([reply(10)]),
  },
  {
    name: "a module that calls its own entry points while it serves gets nothing that it had not",
    module: () =>
      moduleWith({
        reserve: `(global $next (mut i32) (i32.const 65536))
          (func $reserve (export "reserve") (param i32) (result i32)
            global.get $next
            (global.set $next (i32.add (global.get $next) (i32.const 0x200000))))`,
        activate: '(func $activate (export "activate") (param i64))',
        ...serve(`(drop (call $reserve (i32.const 0))) (call $activate (i64.const -1))
          (memory.copy (local.get 3) (local.get 1) (local.get 2)) (local.get 2)`),
      }),
    requests: three,
    replies: [echoed, echoed],
  },
  {
    name: "a module that hands the runtime's fd_pread back as its serve is answered EBADF",
    module: () => {
      const type = "(param i32 i32 i32 i64 i32) (result i32)";
      return moduleWith(
        {
          imports: `(import "wasi_snapshot_preview1" "fd_pread" (func $fd_pread ${type}))`,
          ...serve(`(call $fd_pread (local.get 0) (local.get 1) (local.get 2)
            (i64.extend_i32_u (local.get 3)) (local.get 4))`),
        },
        READER,
      );
    },
    requests: [{ id: 10, capacity: 8 }],
    replies: Array(2).fill([reply(10, 0, 0, 0, 0, 0, 0, 0, 0)]),
  },
];

const sizes: Survivor[] = [
  {
    name: "a module with 50,000 custom sections only takes longer to read",
    module: () => joined(moduleWith(), repeated([0, 1, 0], 50_000)),
    requests: three,
    replies: [echoed, echoed],
  },
  {
    name: "a module with a function of 900 kB only takes longer to compile",
    module: () => withBody(repeated([0x41, 0, 0x1a], 300_000)),
    requests: three,
    replies: [echoed, echoed],
  },
  {
    name: "a module with 100,000 functions only takes longer to compile",
    module: () => manyFunctions(100_000),
    requests: three,
    replies: [echoed, echoed],
  },
  {
    name: "a module with 250,000 types only takes longer to read",
    module: () => withSection(moduleWith(), 1, (body) => manyTypes(body, 250_000)),
    requests: three,
    replies: [echoed, echoed],
  },
];

/** The type section with more types behind its own. */
function manyTypes(body: Uint8Array, count: number): Uint8Array {
  return joined(leb128(body[0]! + count), body.subarray(1), repeated([0x60, 0, 0], count));
}

/** A correct module with that many empty functions besides its own six. */
function manyFunctions(count: number): Uint8Array {
  const functions = withSection(moduleWith({ more: "(func)" }), 3, (body) =>
    joined(leb128(body[0]! + count), body.subarray(1), repeated([body.at(-1)!], count)),
  );
  return withSection(functions, 10, (body) =>
    joined(leb128(body[0]! + count), body.subarray(1), repeated([2, 0, 0x0b], count)),
  );
}

export const SURVIVORS: readonly Survivor[] = [...memories, ...calls, ...sizes];
