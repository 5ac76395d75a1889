// Bundles each program of Bulkhead into one file, dist/bundle/LAYER/NAME.js. Node takes half a
// millisecond to find, read and link a module, in each thread and each process anew: together that
// was 50 ms from exec to the first guest instruction. And the root of a device's process then holds
// one file of ours.

import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Entry points: the command line, and what is started as a thread or a process. */
const ENTRIES = [
  "cli/main",
  "author/description-worker",
  "machine/io-worker",
  "machine/vcpu-worker",
  "runtime/main",
  "sandbox/warden-main",
];

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
