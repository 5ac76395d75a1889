// AssemblyScript → a bare Wasm module, and what the compiler says to the author.

import fs from "node:fs";
import path from "node:path";
import { stripVTControlCharacters } from "node:util";
import { ABI, addSdk, COMPILER_CONFIG, type Library, librarySource, memoryIsFor } from "./sdk.js";

/** What is compiled: small and fast, or with names, a source map and everything as written. */
export type Target = "release" | "debug";

/** What the compiler has to say about one place. */
export interface Diagnostic {
  severity: "error" | "warning";
  /** Absolute, or the compiler's own name of a file of its library or of the SDK. */
  file: string;
  /** From 1; 0 where no place is to blame. */
  line: number;
  column: number;
  /** `AS101`; absent where it is not the compiler that speaks. */
  code?: string;
  message: string;
  /** The source line. */
  text: string;
}

export interface Compilation {
  /** Absent when there are errors. */
  binary: Uint8Array | undefined;
  /** The module in text format, with the names of its functions and globals. */
  text: string;
  /** Of the target "debug" alone. */
  sourceMap: string | undefined;
  diagnostics: Diagnostic[];
}

export interface CompileOptions {
  target: Target;
  /** Text of the source file, for a device that exists nowhere but in a test. */
  source?: string | undefined;
}

/** `DiagnosticCategory` of the compiler. */
const Category = { Warning: 2, Error: 3 } as const;

/** What the compiler hands to `reportDiagnostic`. */
interface Report {
  message: string;
  code: number;
  category: number;
  range: { start: number; source: { normalizedPath: string } } | null;
}

/** The files of one compilation, by the compiler's names. */
class Sources {
  readonly #folder: string;
  readonly #library: Library;
  readonly #texts = new Map<string, string>();

  constructor(folder: string, library: Library) {
    this.#folder = folder;
    this.#library = library;
  }

  set(name: string, text: string): void {
    this.#texts.set(name, text);
  }

  /** For the compiler: the text of `name`, relative to `base`, or null. */
  read(name: string, base: string): string | null {
    const known = this.#texts.get(name) ?? librarySource(this.#library, name);
    if (known !== undefined) return known;
    const found = path.resolve(base, name);
    // Of this package, as the SDK is, whether the author has installed it or not.
    const file = found.endsWith(INSTALLED_CONFIG) ? COMPILER_CONFIG : found;
    if (fs.statSync(file, { throwIfNoEntry: false })?.isFile() !== true) return null;
    const text = fs.readFileSync(file, "utf8");
    // Settings are called asconfig.json in every folder, and are nothing to show a line of.
    if (name.endsWith(".ts")) this.#texts.set(name, text);
    return text;
  }

  diagnostic({ message, code, category, range }: Report): Diagnostic {
    const severity = category === Category.Error ? "error" : "warning";
    const said = { severity, code: `AS${code}`, message } as const;
    if (range === null) return { ...said, file: "", line: 0, column: 0, text: "" };
    const { file, contents } = this.#find(range.source.normalizedPath);
    const before = contents.slice(0, range.start);
    const line = before.split("\n").length;
    const column = before.length - before.lastIndexOf("\n");
    return { ...said, file, line, column, text: contents.split("\n")[line - 1] ?? "" };
  }

  /** The file that the compiler calls `name`: what it found in a package, it calls `~lib/…`. */
  #find(name: string): { file: string; contents: string } {
    const inLibrary = librarySource(this.#library, name);
    if (inLibrary !== undefined) return { file: name, contents: inLibrary };
    const inPackage = name.replace(/^~lib\//, "node_modules/");
    const [read = name, contents = ""] =
      [...this.#texts].find(([each]) => each === name || each.endsWith(inPackage)) ?? [];
    return { file: path.join(this.#folder, read), contents };
  }
}

/**
 * What went wrong in `run`, which is the compiler's. It ends its process when it crashes, and a
 * mistake of the author's can make it: here that is one more message to him.
 */
async function errorOf(run: () => Promise<{ error: Error | null }>): Promise<string | undefined> {
  const output = console as unknown as { error(text: unknown): void }; // as Node has it
  const { exit } = process;
  const { error: log } = output;
  let crash: string | undefined;
  output.error = (text: unknown) => {
    // In colours, where it is a terminal or the environment has CI.
    const plain = stripVTControlCharacters(String(text));
    crash = /\b\w*Error\b.*/.exec(plain)?.[0] ?? "it does not say why";
  };
  process.exit = () => {
    throw new Error("the compiler would end this process");
  };
  try {
    return (await run()).error?.message;
  } catch (error) {
    const message = error instanceof Error ? error.message : "";
    if (message.startsWith("Asconfig")) return message;
    if (crash === undefined) throw error;
    return `the AssemblyScript compiler crashed: ${crash}`;
  } finally {
    process.exit = exit;
    output.error = log;
  }
}

/** Name of the module that `file` is compiled to: `rng.wasm`, or `rng.debug.wasm`. */
export function moduleName(file: string, target: Target): string {
  return `${path.basename(file, ".ts")}${target === "debug" ? ".debug" : ""}.wasm`;
}

/** What an author's settings extend. */
const INSTALLED_CONFIG = "/node_modules/bulkhead/devices-as/asconfig.json";

/** What an author's own settings cannot change: raw memory is the SDK's, and a device starts so. */
const ALWAYS = ["--noUnsafe", "--runtime", "stub", "--exportStart", "_initialize"];

/** Settings of the compiler: the author's, in asconfig.json beside his file, or those of all. */
function configOf(folder: string): string {
  const own = path.join(folder, "asconfig.json");
  return fs.existsSync(own) ? own : COMPILER_CONFIG;
}

/**
 * Compiles the device in `file`. It may import "bulkhead/sdk" and other files; none of them may
 * touch raw memory.
 */
export async function compile(file: string, options: CompileOptions): Promise<Compilation> {
  // 20 MB of compiler: loaded only when something must be compiled.
  const { default: asc } = await import("assemblyscript/asc");
  const library = asc.libraryFiles as Library;
  addSdk(library);
  const folder = path.dirname(path.resolve(file));
  const entry = path.basename(file);
  const sources = new Sources(folder, library);
  if (options.source !== undefined) sources.set(entry, options.source);
  const written = new Map<string, string | Uint8Array>();
  const diagnostics: Diagnostic[] = [];
  const api = {
    transforms: [memoryIsFor(library)],
    stderr: { write: () => {} },
    reportDiagnostic: (report: Report) => diagnostics.push(sources.diagnostic(report)),
    readFile: (name: string, base: string) => sources.read(name, base),
    writeFile: (name: string, contents: Uint8Array | string) => written.set(name, contents),
    listFiles: () => [],
  };
  const module = moduleName(file, options.target);
  const [text, map] = [`${module}.wat`, `${module}.map`];
  const outputs = ["-o", module, "-t", text];
  if (options.target === "debug") outputs.push("--sourceMap", `./${map}`);
  const config = ["--config", configOf(folder), "--target", options.target, "--baseDir", folder];
  const args = [entry, ABI, ...outputs, ...config, ...ALWAYS];
  const error = await errorOf(() => asc.main(args, api as object));
  if (error !== undefined && !diagnostics.some(({ severity }) => severity === "error")) {
    diagnostics.push(failure(path.join(folder, entry), error));
  }
  return {
    binary: error === undefined ? (written.get(module) as Uint8Array) : undefined,
    text: String(written.get(text) ?? ""),
    sourceMap: written.get(map) as string | undefined,
    diagnostics,
  };
}

/** What went wrong at no place in particular. */
export function failure(file: string, message: string): Diagnostic {
  return { severity: "error", file, line: 0, column: 0, message, text: "" };
}
