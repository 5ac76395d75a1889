// One file of AssemblyScript → a device module that will start: compiled, with the manifest that
// its source declares inside, and checked as the runtime checks it.

import path from "node:path";
import { VmmError } from "../errors.js";
import { DeviceInstance, type World } from "../runtime/instance.js";
import { TraceMap, traceOf } from "../runtime/source-map.js";
import { withCustomSection } from "../sandbox/custom-section.js";
import { MANIFEST_SECTION, type Manifest, type ModuleFacts, NAME } from "../sandbox/manifest.js";
import { type Compilation, compile, type Diagnostic, failure } from "./compiler.js";
import { type Answer, describe } from "./description.js";

/** The author's source is wrong; the message has all that there is to say of it. */
export class CompileError extends VmmError {
  readonly diagnostics: readonly Diagnostic[];

  constructor(diagnostics: readonly Diagnostic[]) {
    super("ERR_COMPILE", diagnostics.map(lineOf).join("\n"));
    this.diagnostics = diagnostics;
  }
}

export interface CompileDeviceOptions {
  /** Text of the source file, for a device that exists nowhere but in a test. */
  source?: string;
  /** Compile the debug module, too. */
  debug?: boolean;
}

export interface CompiledDevice {
  /** The module with its manifest inside. */
  module: Uint8Array<ArrayBuffer>;
  /** The module in text format, with the names of its functions and globals. */
  text: string;
  facts: ModuleFacts;
  manifest: Manifest;
  warnings: Diagnostic[];
  /** The same device not optimised, with names, and what maps it to its sources. */
  debug?: { module: Uint8Array<ArrayBuffer>; sourceMap: string };
}

/** `mine.ts:3:7: Operation is unsafe. (AS101)`; the place is left out where there is none. */
export function lineOf({ severity, file, line, column, code, message }: Diagnostic): string {
  const place = line === 0 ? file : `${file}:${line}:${column}`;
  const what = severity === "warning" ? `warning: ${message}` : message;
  const which = code === undefined ? "" : ` (${code})`;
  return `${place === "" ? "" : `${place}: `}${what}${which}`;
}

/** The binary of a compilation; throws what is wrong with it. */
function binaryOf({ binary, diagnostics }: Compilation): Uint8Array {
  if (binary === undefined) throw new CompileError(diagnostics);
  return binary;
}

/** Every import that the manifest would have linked answers nothing: no code of the module runs. */
const NO_WORLD: World = {
  link: (module) =>
    Object.fromEntries(WebAssembly.Module.imports(module).map(({ name }) => [name, () => 0])),
  attach: () => {},
};

/** The module with `manifest` inside, and what the runtime would find in it. */
function finish(binary: Uint8Array, manifest: Manifest) {
  const json = new TextEncoder().encode(JSON.stringify(manifest));
  const module = withCustomSection(binary, MANIFEST_SECTION, json);
  const { facts } = DeviceInstance.create(module, () => NO_WORLD);
  return { module, facts };
}

type Broken = Exclude<Answer, { manifest: Manifest }>;

/** Where the SDK's abort() says that an assert of the author's failed: `… (mine.ts:12:5)`. */
const ASSERT = /\((?!~lib\/)([^()]+):(\d+):(\d+)\)\s*$/;
/** Where a frame of a trace is in a file of the author's: `mine.ts:12:5 (mine/Mine#serve)`. */
const FRAME = /^(?!~lib\/)(.+):(\d+):(\d+) \(/;

/** How the device in `file` broke before it described itself, and where, as far as is known. */
function breakage(file: string, { words, log }: Broken, sourceMap: string | undefined): Diagnostic {
  const folder = path.dirname(file);
  const map = sourceMap === undefined ? undefined : new TraceMap(sourceMap, folder);
  const { reason, frames } = traceOf(words, map);
  const why = log.trim() === "" ? reason : log.trim().replaceAll("\n", "; ");
  const trace = frames.length === 0 ? "" : `, in ${frames.join(" from ")}`;
  const wrong = failure(file, `the device breaks before it is started: ${why}${trace}`);
  const assertion = ASSERT.exec(log);
  const frame = frames.map((each) => FRAME.exec(each)).find((match) => match !== null);
  const [, source = "", line, column] = assertion ?? frame ?? [];
  if (source === "") return wrong;
  const named = path.resolve(assertion ? folder : "", source);
  return { ...wrong, file: named, line: Number(line), column: Number(column) };
}

/**
 * Compiles the device in `file`, whose name without `.ts` becomes the device's.
 *
 * @throws CompileError with the compiler's messages, or why the module would not start
 */
export async function compileDevice(
  file: string,
  { source, debug = false }: CompileDeviceOptions = {},
): Promise<CompiledDevice> {
  const wrong = (message: string) => new CompileError([failure(path.resolve(file), message)]);
  const name = path.basename(file, ".ts");
  if (!NAME.test(name)) throw wrong(`"${name}" cannot be a device's name, expected ${NAME}`);
  const release = await compile(file, { target: "release", source });
  const binary = binaryOf(release);
  const second = debug ? await compile(file, { target: "debug", source }) : undefined;
  const named = second === undefined ? binary : binaryOf(second);
  const answer = await describe({ binary: named, name });
  if (!("manifest" in answer)) {
    throw new CompileError([breakage(path.resolve(file), answer, second?.sourceMap)]);
  }
  const { manifest } = answer;
  try {
    const { module, facts } = finish(binary, manifest);
    const compiled = { module, facts, manifest, text: release.text, warnings: release.diagnostics };
    if (second === undefined) return compiled;
    const { module: named } = finish(binaryOf(second), manifest);
    return { ...compiled, debug: { module: named, sourceMap: second.sourceMap ?? "{}" } };
  } catch (error) {
    if (error instanceof VmmError) throw wrong(error.message);
    throw error;
  }
}
