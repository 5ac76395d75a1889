// The types of the WASI functions that a grant may link. JavaScript takes arguments of any type, so
// V8 does not mind an fd_read of doubles or of function references; the code behind it would.

import { refuse } from "./reader.js";

/** From wasi_snapshot_preview1.witx: pointers, sizes, descriptors and errno are i32. */
const WASI_SIGNATURES: Readonly<Record<string, string>> = {
  fd_read: "(i32 i32 i32 i32) -> (i32)",
  fd_pread: "(i32 i32 i32 i64 i32) -> (i32)",
  fd_write: "(i32 i32 i32 i32) -> (i32)",
  fd_pwrite: "(i32 i32 i32 i64 i32) -> (i32)",
  clock_time_get: "(i32 i64 i32) -> (i32)",
};

/** Refuses an imported function of another type; those without an entry never link (grants.ts). */
export function checkSignature(name: string, signature: string): void {
  const expected = Object.hasOwn(WASI_SIGNATURES, name) ? WASI_SIGNATURES[name] : signature;
  if (signature !== expected) refuse(`it imports ${name} as ${signature}, which is ${expected}`);
}
