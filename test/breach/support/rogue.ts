// Copies of the compiled host in which the program of a device process does what the real one does
// not: what the VMM and the command line make of it can be seen whole.

import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));

/** The place in the runtime where a device has received a message that is not plain requests. */
export const SERVE = { file: "runtime/service.js", from: "this.#dispatcher.begin(length);" };

/** A change of one compiled file below dist/host: `from`, which is there once, becomes `to`. */
export interface Change {
  file: string;
  from: string;
  to: string;
}

/** Entry of a `bulkhead` whose own code is changed. */
export function changedBulkhead(...changes: readonly Change[]): string {
  const directory = mkdtempSync(path.join(os.tmpdir(), "bulkhead-rogue-"));
  process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
  for (const part of ["package.json", "dist/host", "dist/devices", "dist/guest"]) {
    cpSync(path.join(ROOT, part), path.join(directory, part), { recursive: true });
  }
  symlinkSync(path.join(ROOT, "node_modules"), path.join(directory, "node_modules"));
  for (const { file, from, to } of changes) {
    const changed = path.join(directory, "dist/host", file);
    const parts = readFileSync(changed, "utf8").split(from);
    if (parts.length !== 2) throw new Error(`${file} has ${parts.length - 1} times "${from}"`);
    writeFileSync(changed, parts.join(to));
  }
  return path.join(directory, "dist/host/cli/main.js");
}

/** Entry of a `bulkhead` whose devices make `call`, an expression, at such a message. */
export function rogueBulkhead(call: string): string {
  const { file, from } = SERVE;
  const first = 'import { CLOSED } from "../wire/channel.js";\n';
  const imports = 'import { syscall } from "../ffi/libc.js";\n';
  return changedBulkhead(
    { file, from, to: `${call};\n    ${from}` },
    { file, from: first, to: first + imports },
  );
}
