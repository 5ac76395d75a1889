// Builds every device in devices-as/ and devices-as/examples/ that is older than its sources, to
// dist/devices/ and dist/devices/examples/, as `bulkhead build` does. Run by `npm run build`.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { buildDevice } from "../host/author/build.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const DEVICES = path.join(ROOT, "devices-as");
const OUTPUT = path.join(ROOT, "dist", "devices");
/** Of the compiler, as built; a device is compiled again when it changes. */
const COMPILER = path.join(ROOT, "dist", "host", "author");

/** The files below `directory`, in no order. */
function filesBelow(directory: string): string[] {
  const entries = fs.readdirSync(directory, { withFileTypes: true, recursive: true });
  return entries.filter((e) => e.isFile()).map((e) => path.join(e.parentPath, e.name));
}

/** Newest modification time among `files`. */
function newest(files: string[]): number {
  return Math.max(...files.map((file) => fs.statSync(file).mtimeMs));
}

const shared = [
  ...filesBelow(path.join(DEVICES, "sdk")),
  path.join(DEVICES, "asconfig.json"),
  ...filesBelow(COMPILER),
];
for (const folder of ["", "examples"]) {
  const [from, to] = [path.join(DEVICES, folder), path.join(OUTPUT, folder)];
  for (const name of fs.readdirSync(from).filter((each) => each.endsWith(".ts"))) {
    const file = path.join(from, name);
    const module = path.join(to, `${path.basename(name, ".ts")}.wasm`);
    // A device of several files has a folder of its own name.
    const own = file.replace(/\.ts$/, "");
    const sources = [file, ...(fs.existsSync(own) ? filesBelow(own) : [])];
    const built = fs.statSync(module, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (built > newest([...sources, ...shared])) continue;
    const { module: bytes } = await buildDevice(file, to);
    console.log(`${path.relative(ROOT, module)}: ${bytes.length} bytes`);
  }
}
