// Writes host/sandbox/contract.ts, the contract of a device module in TypeScript, from wit/ and
// from the WASI adapter of the component tools, which knows the types of all of preview 1.
//
//   npm run contract

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { readFunctionTypes } from "./function-types.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const OUTPUT = path.join(ROOT, "host", "sandbox", "contract.ts");

/** What the Canonical ABI makes of a scalar of the component model: it passes them as they are. */
const CORE_TYPES: Readonly<Record<string, "i32" | "i64">> = { u32: "i32", u64: "i64" };
const SCRIPT_TYPES = { i32: "number", i64: "bigint" } as const;

interface Parameter {
  name: string;
  type: "i32" | "i64";
}

interface ExportedFunction {
  name: string;
  parameters: Parameter[];
  result: "i32" | "i64" | undefined;
  /** Its comment in wit/, line by line. */
  comment: string[];
}

const TITLE =
  "The contract of a device module, from wit/. Written by build/contract.ts: do not edit.";

/** A world cannot spell it: what wit/world.wit says of it in words. */
const INITIALIZE: ExportedFunction = {
  name: "_initialize",
  parameters: [],
  result: undefined,
  comment: ["Called once and first."],
};

function coreType(type: string): "i32" | "i64" {
  const core = CORE_TYPES[type.trim()];
  if (core === undefined) throw new Error(`wit/: type "${type}" is no scalar of the contract`);
  return core;
}

function camelCase(name: string): string {
  return name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}

function parametersOf(text: string): Parameter[] {
  const all = text.split(",").map((each) => each.trim());
  return all
    .filter((each) => each !== "")
    .map((each) => {
      const [name = "", type = ""] = each.split(":");
      return { name: camelCase(name), type: coreType(type) };
    });
}

const FUNCTION = /((?:^ *\/\/.*\n)*)^ *export ([a-z-]+): func\(([^)]*)\)(?: -> (\w+))?;$/gm;

/** The functions that a .wit file exports, in its order. */
function functionsOf(wit: string): ExportedFunction[] {
  const functions = [...wit.matchAll(FUNCTION)].map(([, comment, name, parameters, result]) => ({
    name: name!,
    parameters: parametersOf(parameters!),
    result: result === undefined ? undefined : coreType(result),
    comment: comment!
      .trim()
      .split("\n")
      .map((line) => line.replace(/^ *\/\/ ?/, "")),
  }));
  const exports = wit.match(/^ *export /gm)?.length ?? 0;
  if (functions.length !== exports) throw new Error("wit/: an export that is no plain function");
  return functions;
}

function readWit(name: string): string {
  return fs.readFileSync(path.join(ROOT, "wit", `${name}.wit`), "utf8");
}

/** What world.wit includes, file by file. */
function exportsOf(world: string): ExportedFunction[] {
  const included = [...world.matchAll(/^ *include ([a-z-]+);$/gm)].map(([, name]) => name!);
  return [INITIALIZE, ...included.flatMap((name) => functionsOf(readWit(name)))];
}

function list(types: readonly string[]): string {
  return `(${types.join(" ")})`;
}

function typeOf({ parameters, result }: ExportedFunction): string {
  return `${list(parameters.map(({ type }) => type))} -> ${list(result ? [result] : [])}`;
}

function methodOf({ name, parameters, result, comment }: ExportedFunction): string {
  const arguments_ = parameters.map((each) => `${each.name}: ${SCRIPT_TYPES[each.type]}`);
  const type = result === undefined ? "void" : SCRIPT_TYPES[result];
  const lines = comment.map((line) => `   * ${line}`.trimEnd()).join("\n");
  return `  /**\n${lines}\n   */\n  ${name}(${arguments_.join(", ")}): ${type};\n`;
}

/** The adapter has functions of its own as well. */
const WASI_NAME = /^(args|clock|environ|fd|path|poll|proc|random|sched|sock)_/;

/** Types of WASI preview 1, from a module that exports all of it. */
function wasiTypes(): [string, string][] {
  const jco = path.dirname(createRequire(import.meta.url).resolve("@bytecodealliance/jco"));
  const file = path.join(jco, "..", "lib", "wasi_snapshot_preview1.reactor.wasm");
  const types = readFunctionTypes(fs.readFileSync(file));
  return [...types].filter(([name]) => WASI_NAME.test(name)).sort();
}

/** The text of host/sandbox/contract.ts, formatted. */
export function contractText(): string {
  const world = readWit("world");
  const version = /^package bulkhead:device@(\d+)\./m.exec(world)?.[1];
  if (version === undefined) throw new Error("wit/world.wit: its package has no version");
  const functions = exportsOf(world);
  const rows = (all: [string, string][]) =>
    all.map(([name, type]) => `  ${name}: "${type}",`).join("\n");
  const text = `// ${TITLE}

/** The version of wit/ that this Bulkhead runs: its package's major number. */
export const CONTRACT = ${version};

/** Type of each function that a module exports, as its bytes have it. */
export const EXPORTS = {
${rows(functions.map((each) => [each.name, typeOf(each)]))}
} as const;

/** The same functions as JavaScript calls them. */
export interface DeviceExports {
${functions.map(methodOf).join("\n")}}

/** Type of each function of wasi_snapshot_preview1; which of them link is the grants' affair. */
export const WASI: Readonly<Record<string, string>> = {
${rows(wasiTypes())}
};
`;
  const biome = path.join(ROOT, "node_modules", ".bin", "biome");
  const options = { cwd: ROOT, input: text, encoding: "utf8" } as const;
  return execFileSync(biome, ["format", "--stdin-file-path=contract.ts"], options);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  fs.writeFileSync(OUTPUT, contractText());
}
