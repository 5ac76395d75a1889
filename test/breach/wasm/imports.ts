// Modules that ask the runtime for something that nobody granted.

import type { Capability, Manifest } from "../../../host/sandbox/manifest.js";
import { manifest, moduleWith } from "../../runtime/support.js";
import type { Refusal } from "../support/attack.js";

const READS: Capability = { name: "data", kind: "file", rights: ["read"], required: false };
export const READER = manifest({ capabilities: [READS] });

const FD_READ = "(func (param i32 i32 i32 i32) (result i32))";

function importing(text: string, given?: Manifest): () => Uint8Array {
  return () => moduleWith({ imports: text }, given);
}

/** A module that imports the function `name` of WASI with these parameters. */
function wasi(name: string, parameters: string, given?: Manifest): () => Uint8Array {
  const result = name === "proc_exit" ? "" : "(result i32)"; // it does not return
  const type = `(func (param ${parameters}) ${result})`;
  return importing(`(import "wasi_snapshot_preview1" "${name}" ${type})`, given);
}

/** Functions of WASI that reach for files, the network, the process, and what tells of the host. */
const NEVER_GRANTED: readonly (readonly [name: string, parameters: string])[] = [
  ["path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"],
  ["path_unlink_file", "i32 i32 i32"],
  ["path_symlink", "i32 i32 i32 i32 i32"],
  ["fd_prestat_get", "i32 i32"],
  ["fd_readdir", "i32 i32 i32 i64 i32"],
  ["fd_renumber", "i32 i32"],
  ["fd_fdstat_set_rights", "i32 i64 i64"],
  ["sock_accept", "i32 i32 i32"],
  ["sock_send", "i32 i32 i32 i32 i32"],
  ["sock_recv", "i32 i32 i32 i32 i32 i32"],
  ["proc_exit", "i32"],
  ["proc_raise", "i32"],
  ["random_get", "i32 i32"],
  ["environ_get", "i32 i32"],
  ["args_get", "i32 i32"],
  ["clock_time_get", "i32 i64 i32"],
  ["poll_oneoff", "i32 i32 i32 i32"],
  ["sched_yield", ""],
];

/** Names that every JavaScript object answers to. */
const INHERITED = ["__proto__", "constructor", "toString", "hasOwnProperty", "link", "attach"];

const functions: Refusal[] = [
  ...NEVER_GRANTED.map(([name, parameters]) => ({
    name: `an import of ${name}, which no capability links, is refused`,
    module: wasi(name, parameters, READER),
    because: new RegExp(`imports wasi_snapshot_preview1\\.${name}, no capability`),
  })),
  ...INHERITED.map((name) => ({
    name: `an import of ${name}, which every object has, is refused`,
    module: wasi(name, "i32 i32 i32 i32", READER),
    because: /no capability/,
  })),
  {
    name: "an import of fd_read without a capability that reads is refused",
    module: wasi("fd_read", "i32 i32 i32 i32"),
    because: /fd_read, no capability/,
  },
  {
    name: "an import of fd_pwrite with a capability that reads is refused",
    module: wasi("fd_pwrite", "i32 i32 i32 i64 i32", READER),
    because: /fd_pwrite, no capability/,
  },
  {
    name: "an import of a granted function from another module is refused",
    module: importing(`(import "env" "fd_read" ${FD_READ})`, READER),
    because: /env\.fd_read, no capability/,
  },
  {
    name: "an import from a module named like an object's prototype is refused",
    module: importing(`(import "__proto__" "fd_read" ${FD_READ})`, READER),
    because: /__proto__\.fd_read, no capability/,
  },
];

const types: Refusal[] = [
  ["with doubles for pointers", "f64 f64 f64 f64", "i32"],
  ["with a function reference as its descriptor", "funcref i32 i32 i32", "i32"],
  ["with a parameter too few", "i32 i32 i32", "i32"],
  ["with a parameter too many", "i32 i32 i32 i32 i32", "i32"],
  ["with a 64-bit descriptor", "i64 i32 i32 i32", "i32"],
  ["with a result of 64 bits", "i32 i32 i32 i32", "i64"],
  ["with two results", "i32 i32 i32 i32", "i32 i32"],
].map(([how, parameters, results]) => ({
  name: `an import of fd_read ${how} is refused`,
  module: importing(
    `(import "wasi_snapshot_preview1" "fd_read" (func (param ${parameters}) (result ${results})))`,
    READER,
  ),
  because: /imports fd_read as|values of type 0x70/,
}));

const others: Refusal[] = [
  ["memory", '(import "wasi_snapshot_preview1" "memory" (memory 1 256))'],
  ["table", '(import "wasi_snapshot_preview1" "table" (table 1 funcref))'],
  ["global", '(import "wasi_snapshot_preview1" "fd" (global (mut i32)))'],
].map(([kind, text]) => ({
  name: `an import of a ${kind} is refused`,
  module: importing(text!),
  because: new RegExp(`it imports a ${kind}`),
}));

export const IMPORTS: readonly Refusal[] = [...functions, ...types, ...others];
