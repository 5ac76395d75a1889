// What a failing assert does in a debug build; in release it is a bare trap.

import { logLine } from "./log";

/** Says where and why; the compiler adds the trap. */
export function abort(
  message: string | null,
  file: string | null,
  line: u32,
  column: u32,
): void {
  logLine("assertion failed: ")
    .text(message === null ? "" : message)
    .text(" (")
    .text(file === null ? "?" : file)
    .text(":")
    .number(line)
    .text(":")
    .number(column)
    .text(")")
    .end();
}
