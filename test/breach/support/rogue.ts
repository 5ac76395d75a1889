// A copy of the compiled host in which the program of a device process, once it is confined, makes
// one system call more than the real one: what the command line says of it can be seen whole.

import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));

/** The place in the runtime where a device has received a message. */
const SERVE = /dispatcher\.begin\(length\);/;

/** Entry of a `bulkhead` whose devices make `call`, an expression, at each message. */
export function rogueBulkhead(call: string): string {
  const directory = mkdtempSync(path.join(os.tmpdir(), "bulkhead-rogue-"));
  process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
  for (const part of ["package.json", "dist/host", "dist/devices", "dist/guest"]) {
    cpSync(path.join(ROOT, part), path.join(directory, part), { recursive: true });
  }
  symlinkSync(path.join(ROOT, "node_modules"), path.join(directory, "node_modules"));
  const runtime = path.join(directory, "dist/host/runtime/main.js");
  const honest = readFileSync(runtime, "utf8");
  const rogue = honest.replace(SERVE, `${call};\n    $&`);
  if (rogue === honest) throw new Error("the runtime serves in another way than it did");
  const imports = 'import { syscall } from "../ffi/libc.js";\n';
  writeFileSync(runtime, imports + rogue);
  return path.join(directory, "dist/host/cli/main.js");
}
