// Compiles the WebAssembly of the runtime, host/runtime/assembly/, to dist/. Run by
// `npm run build`.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SOURCES = "host/runtime/assembly";
/** Those of the sources that become modules, and their options. */
const MODULES: Readonly<Record<string, readonly string[]>> = {
  batch: [],
  pump: [],
  memory: [],
  linked: ["--importTable"],
  transfers: [],
};
/** They work on memory that they are given, and have no data of their own in it. */
const OPTIONS = ["-O3", "--runtime", "stub", "--importMemory", "--use", "abort="];

for (const [name, options] of Object.entries(MODULES)) {
  const [source, output] = [
    path.join(SOURCES, `${name}.ts`),
    path.join("dist", SOURCES, `${name}.wasm`),
  ];
  const place = ["--baseDir", ROOT, "--outFile", output];
  const { error, stderr } = await asc.main([source, ...place, ...OPTIONS, ...options]);
  if (error !== null) throw new Error(`${source}: ${error.message}\n${stderr.toString()}`);
  const { size } = fs.statSync(path.join(ROOT, output));
  console.log(`${output}: ${size} bytes`);
}
