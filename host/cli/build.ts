// bulkhead build: files of AssemblyScript → device modules, what each asks for, and what to type to
// run it. Every file is tried, and every mistake is told.

import fs from "node:fs";
import path from "node:path";
import { type BuiltDevice, buildDevice } from "../author/build.js";
import type { Diagnostic } from "../author/compiler.js";
import { CompileError, lineOf } from "../author/device.js";
import { EXIT, VmmError, writeFailure } from "../errors.js";
import { deviceId, grantFor } from "./device.js";
import {
  clearProgress,
  now,
  paint,
  printable,
  STDERR,
  STDOUT,
  say,
  sayJson,
  showProgress,
} from "./output.js";
import { table } from "./table.js";
import { didYouMean, usageError } from "./usage.js";

export interface BuildOptions {
  out?: string;
  json?: boolean;
}

const SOURCE = /\.ts$/;

/** As a user in this directory would write it, a path for --device: never a bare name. */
function shown(file: string): string {
  const relative = path.relative(process.cwd(), file);
  if (relative.startsWith("..")) return file;
  return relative.includes("/") ? relative : `./${relative}`;
}

/** Refuses what is no source file before anything is compiled: a wrong word, not a wrong device. */
function checkName(file: string): void {
  const problem = `Cannot build "${file}"`;
  if (file.endsWith(".wasm")) {
    throw usageError(`${problem}: it is built already`, `see: bulkhead inspect ${file}`);
  }
  if (!SOURCE.test(file)) {
    const advice = fs.existsSync(`${file}.ts`) ? `did you mean "${file}.ts"?` : undefined;
    throw usageError(`${problem}: it is no .ts file`, advice);
  }
  if (fs.existsSync(file)) return;
  const folder = path.dirname(file);
  const others = fs.existsSync(folder) ? fs.readdirSync(folder) : [];
  const known = others.filter((name) => SOURCE.test(name));
  throw usageError(`${problem}: there is no such file`, didYouMean(path.basename(file), known));
}

/** Refuses two files that would become one module. */
function checkTargets(files: readonly string[], out: string | undefined): void {
  const seen = new Map<string, string>();
  for (const file of files) {
    const target = path.join(out ?? path.dirname(file), path.basename(file));
    const other = seen.get(target);
    if (other !== undefined) {
      throw usageError(`Cannot build "${file}" and "${other}": both would become one module`);
    }
    seen.set(target, file);
  }
}

/** The compiler's messages as editors read them, each above its line of source. */
function sayDiagnostics(diagnostics: readonly Diagnostic[]): void {
  for (const diagnostic of diagnostics) {
    const { severity, file, column, text } = diagnostic;
    const inLibrary = file === "" || file.startsWith("~lib/");
    const place = inLibrary ? file : path.relative(process.cwd(), file);
    const style = severity === "error" ? "red" : "yellow";
    const line = printable(lineOf({ ...diagnostic, file: place }));
    say(STDERR, `${paint(STDERR, style, line)}\n`);
    if (text === "") continue;
    const indent = " ".repeat(4);
    const upToColumn = text.slice(0, column - 1).replace(/[^\t]/g, " ");
    // A tab moves the marker as far as it moved the text.
    say(STDERR, `${indent}${text.replace(CONTROL, "?")}\n${indent}${upToColumn}^\n`);
  }
}

/** Anything that could drive a terminal, except the tab. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const CONTROL = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g;

/** The command that runs a module with all that it asks for. */
function runLine({ path: module, manifest }: BuiltDevice): string {
  const id = deviceId(module);
  const grants = manifest.capabilities.map((each) => `--grant ${grantFor(id, each)}`);
  return ["bulkhead run KERNEL --device", shown(module), ...grants].join(" ");
}

function sayBuiltJson(file: string, device: BuiltDevice): void {
  const { module, manifest, facts, warnings } = device;
  const modules = { module: device.path, moduleBytes: module.length, debug: device.debugPath };
  const found = { manifest, imports: facts.imports, warnings, run: runLine(device) };
  sayJson({ event: "built", time: now(), file, ...modules, ...found });
}

async function sayTable(devices: readonly BuiltDevice[]): Promise<void> {
  const rows = devices.map(({ path: module, module: bytes, manifest, facts }) => [
    shown(module),
    `${bytes.length}`,
    facts.imports.map(({ name }) => name).join(", ") || "nothing",
    manifest.capabilities
      .map(({ name, kind, rights }) => `${name} (${kind}, ${rights.join("+")})`)
      .join(", ") || "nothing",
  ]);
  say(STDOUT, await table(["module", "bytes", "imports", "asks for"], rows));
  const lines = devices.map((device) => `  ${printable(runLine(device))}\n`);
  say(STDOUT, `\nTo run ${devices.length === 1 ? "it" : "them"}:\n${lines.join("")}`);
}

/** Builds one file; undefined, and all is said, if its author made a mistake. */
async function tryBuild(file: string, { out, json }: BuildOptions) {
  try {
    const device = await buildDevice(file, out ?? path.dirname(file));
    sayDiagnostics(device.warnings);
    if (json === true) sayBuiltJson(file, device);
    return device;
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    const { code, message, diagnostics, exitStatus } = error;
    sayDiagnostics(diagnostics);
    if (json === true) {
      sayJson({ event: "error", time: now(), code, message, exitStatus, file, diagnostics });
    }
    return undefined;
  }
}

/** Turns a failure to read or write a file into one that says which. */
function asFileError(error: unknown): unknown {
  const { code, errno, syscall, path: file } = error as NodeJS.ErrnoException;
  if (error instanceof VmmError || code === undefined || syscall === undefined) return error;
  const number = -(errno ?? 0);
  const problem = `Cannot ${syscall} "${file}": ${writeFailure(number)}`;
  return new VmmError("ERR_FILE", problem, { errno: number, syscall, cause: error });
}

/** Builds the device in each of `files`. */
export async function build(files: readonly string[], options: BuildOptions): Promise<number> {
  for (const file of files) checkName(file);
  checkTargets(files, options.out);
  const devices: BuiltDevice[] = [];
  try {
    for (const [index, file] of files.entries()) {
      const count = files.length === 1 ? "" : ` (${index + 1} of ${files.length})`;
      showProgress(`building ${file}${count}`);
      const device = await tryBuild(file, options);
      if (device !== undefined) devices.push(device);
    }
  } catch (error) {
    throw asFileError(error);
  }
  clearProgress();
  if (options.json !== true && devices.length > 0) await sayTable(devices);
  return devices.length === files.length ? EXIT.ok : EXIT.usage;
}
