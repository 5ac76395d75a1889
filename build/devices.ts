// Compiles every device in devices-as/ to dist/devices/, and writes into each module the manifest
// that its source declares. Run by `npm run build`; skips a device that is newer than its sources.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { checkImports } from "../host/sandbox/grants.js";
import { inspectModule, MANIFEST_SECTION, type Manifest } from "../host/sandbox/manifest.js";
import { manifestOf, withCustomSection } from "./manifest.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const DEVICES = path.join(ROOT, "devices-as");
const OUTPUT = path.join(ROOT, "dist", "devices");

/** Compiled beside each device: the exports that every module has. */
const ABI = "sdk/abi.ts";

/** `SourceKind.Library` of the AssemblyScript compiler: a source that --noUnsafe leaves alone. */
const LIBRARY = 2;
/** `DecoratorFlags.Unsafe`: what --noUnsafe refuses in every other source. */
const UNSAFE = 1 << 11;

interface Parser {
  sources: { normalizedPath: string; sourceKind: number }[];
}

interface Program {
  elementsByName: Map<string, { decoratorFlags: number }>;
}

/**
 * Lets the SDK, and nothing else, touch raw memory. A device imports it as "./sdk", so to the
 * compiler it is as much the author's source as the device; `--lib` would change that, but also its
 * name.
 */
const memoryIsForTheSdk = {
  afterParse(parser: Parser): void {
    for (const source of parser.sources) {
      const { normalizedPath } = source;
      if (normalizedPath.startsWith("sdk/") && normalizedPath !== ABI) source.sourceKind = LIBRARY;
    }
  },
  /** The compiler forgot this one: it makes an object of any address. */
  afterInitialize(program: Program): void {
    const changetype = program.elementsByName.get("~lib/builtins/changetype");
    if (!changetype) throw new Error("the compiler has no changetype: was it renamed?");
    changetype.decoratorFlags |= UNSAFE;
  },
};

function readText(file: string): string | null {
  return fs.existsSync(file) ? fs.readFileSync(file, "utf8") : null;
}

export interface CompileOptions {
  /** Text of the source file, for a device that exists nowhere but in a test. */
  source?: string;
}

export interface CompiledDevice {
  /** The module with its manifest inside. */
  module: Uint8Array<ArrayBuffer>;
  /** The module in text format, with the names of its functions and globals. */
  text: string;
  manifest: Manifest;
}

/**
 * Compiles the device in `file`, whose name without `.ts` becomes the device's. Its imports may be
 * "./sdk" and files beside it.
 *
 * @throws Error with the compiler's messages
 */
export async function compileDevice(
  file: string,
  { source }: CompileOptions = {},
): Promise<CompiledDevice> {
  // 20 MB of compiler: loaded only when something must be compiled.
  const { default: asc } = await import("assemblyscript/asc");
  const directory = path.dirname(path.resolve(file));
  const entry = path.basename(file);
  let binary: Uint8Array | undefined;
  let text = "";
  let messages = "";
  const options = {
    transforms: [memoryIsForTheSdk],
    stderr: {
      write: (text: string) => {
        messages += text;
      },
    },
    readFile: (name: string, base: string) => {
      if (name === entry && source !== undefined) return source;
      return readText(path.resolve(name.startsWith("sdk/") ? DEVICES : base, name));
    },
    writeFile: (_name: string, contents: Uint8Array | string) => {
      if (typeof contents === "string") text = contents;
      else binary = contents;
    },
    listFiles: () => [],
  };
  const config = ["--config", path.join(DEVICES, "asconfig.json"), "--baseDir", directory];
  const files = [entry, ABI, "-o", "device.wasm", "-t", "device.wat"];
  const result = await asc.main([...files, ...config], options as object);
  if (result.error || !binary) {
    throw new Error(`Cannot compile "${file}": ${messages || result.error?.message}`);
  }
  const manifest = manifestOf(binary, path.basename(entry, ".ts"));
  const json = new TextEncoder().encode(JSON.stringify(manifest));
  const module = withCustomSection(binary, MANIFEST_SECTION, json);
  checkImports(inspectModule(module)); // what would be refused at its start is refused here
  return { module, text, manifest };
}

/** Newest modification time among `files`, and of this script itself. */
function newest(files: string[]): number {
  const all = [...files, fileURLToPath(import.meta.url)];
  return Math.max(...all.map((file) => fs.statSync(file).mtimeMs));
}

function filesIn(directory: string): string[] {
  const entries = fs.readdirSync(directory, { withFileTypes: true });
  return entries.filter((e) => e.isFile()).map((e) => path.join(directory, e.name));
}

async function main(): Promise<void> {
  fs.mkdirSync(OUTPUT, { recursive: true });
  const shared = [...filesIn(path.join(DEVICES, "sdk")), path.join(DEVICES, "asconfig.json")];
  for (const file of filesIn(DEVICES).filter((name) => name.endsWith(".ts"))) {
    const output = path.join(OUTPUT, `${path.basename(file, ".ts")}.wasm`);
    if (fs.existsSync(output) && fs.statSync(output).mtimeMs > newest([file, ...shared])) continue;
    const { module } = await compileDevice(file);
    fs.writeFileSync(output, module);
    console.log(`${path.relative(ROOT, output)}: ${module.length} bytes`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) await main();
