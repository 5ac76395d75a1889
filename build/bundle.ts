// Bundles each program of Bulkhead into one file, dist/bundle/LAYER/NAME.js. Node takes half a
// millisecond to find, read and link a module, in each thread and each process anew: together that
// was 50 ms from exec to the first guest instruction. And the root of a device's process then holds
// one file of ours.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/**
 * Entry points: the command line, what is started as a thread or a process, and what the tests of
 * device authors import.
 */
const ENTRIES = [
  "cli/main",
  "author/description-worker",
  "machine/io-worker",
  "machine/vcpu-worker",
  "runtime/main",
  "sandbox/warden-main",
  "testing/main",
];

/** What a program imports from the package: the types of its sources are copied beside it. */
const IMPORTED = "testing/main";

/** Copies the declarations in `file`, a path below dist/host, and those that it imports. */
function copyDeclarations(file: string, copied = new Set<string>()): void {
  if (copied.has(file)) return;
  copied.add(file);
  const text = fs.readFileSync(path.join(ROOT, "dist/host", file), "utf8");
  const copy = path.join(ROOT, "dist/bundle", file);
  fs.mkdirSync(path.dirname(copy), { recursive: true });
  fs.writeFileSync(copy, text);
  for (const [, specifier] of text.matchAll(/ from "(\.[^"]+)\.js"/g)) {
    copyDeclarations(path.join(path.dirname(file), `${specifier}.d.ts`), copied);
  }
}

await build({
  absWorkingDir: ROOT,
  entryPoints: ENTRIES.map((entry) => `host/${entry}.ts`),
  outbase: "host",
  outdir: path.join(ROOT, "dist/bundle"),
  bundle: true,
  packages: "external",
  platform: "node",
  format: "esm",
  target: "node20",
  logLevel: "warning",
});

copyDeclarations(`${IMPORTED}.d.ts`);
