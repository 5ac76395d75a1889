// The types of what a module imports and exports. JavaScript takes arguments of any type, so V8
// does not mind an fd_read of doubles or of function references; the code behind it would.

import { EXPORTS, WASI } from "./contract.js";
import type { Signature, ValueType } from "./forwarder.js";
import { refuse } from "./reader.js";

/** Something that a module exports. */
export interface Export {
  name: string;
  /** Of a function, as in "(i32 i64) -> (i32)"; else "table", "memory" or "global". */
  type: string;
}

/** The one thing that a module exports besides functions. */
const MEMORY = "memory";

/** Refuses an imported function of another type; a name without an entry never links. */
export function checkSignature(name: string, signature: string): void {
  const expected = Object.hasOwn(WASI, name) ? WASI[name] : signature;
  if (signature !== expected) refuse(`it imports ${name} as ${signature}, which is ${expected}`);
}

/**
 * Refuses a module that does not export what wit/ says; more is its own affair.
 *
 * @throws VmmError ERR_MODULE naming the export, its type and what it must be
 */
export function checkExports(exports: readonly Export[]): void {
  const found = new Map(exports.map(({ name, type }) => [name, type]));
  if (found.size !== exports.length) refuse("it exports one name twice");
  if (found.get(MEMORY) !== MEMORY) refuse(`it exports no memory "${MEMORY}"`);
  for (const [name, expected] of Object.entries(EXPORTS)) {
    const type = found.get(name);
    if (!type?.startsWith("(")) refuse(`it exports no function "${name}" (wit/ has the contract)`);
    if (type !== expected) refuse(`it exports ${name} as ${type}, which is ${expected}`);
  }
}

/** A type as the Forwarder takes it. */
export function signatureOf(type: string): Signature {
  const [parameters = [], results = []] = type
    .split(" -> ")
    .map((list) => (list.match(/\w+/g) ?? []) as ValueType[]);
  return { parameters, results };
}
