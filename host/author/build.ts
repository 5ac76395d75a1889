// A device's source → the files that are run: NAME.wasm, and for tests and traps NAME.debug.wasm
// with NAME.debug.wasm.map beside it.

import fs from "node:fs";
import path from "node:path";
import { VmmError } from "../errors.js";
import { moduleName } from "./compiler.js";
import { type CompiledDevice, compileDevice } from "./device.js";

export interface BuiltDevice extends CompiledDevice {
  /** Path of the module, as in `folder`. */
  path: string;
  debugPath: string;
}

/** Writes `file` in one step: whoever runs the old one meanwhile reads the old or the new one. */
function writeWhole(file: string, contents: Uint8Array | string): void {
  const unfinished = `${file}.${process.pid}`;
  try {
    fs.writeFileSync(unfinished, contents);
    fs.renameSync(unfinished, file);
  } catch (cause) {
    const { code, errno = 0, syscall } = cause as NodeJS.ErrnoException;
    const detail = { errno: -errno, syscall, cause };
    throw new VmmError("ERR_FILE", `Cannot write "${file}": ${code}`, detail);
  } finally {
    fs.rmSync(unfinished, { force: true });
  }
}

/** Makes `folder` and those above it. (node:fs does, too, but it does not end on /proc.) */
function makeFolder(folder: string): void {
  if (fs.existsSync(folder)) return;
  makeFolder(path.dirname(folder));
  fs.mkdirSync(folder);
}

/**
 * A source map whose `sources` are found from `folder`, where it will be. What is no file of the
 * author's keeps the compiler's name, `~lib/…`; the texts of all are in the map.
 */
function placed(sourceMap: string, sourceFolder: string, folder: string): string {
  const { sourceRoot: _, ...map } = JSON.parse(sourceMap) as { sources: string[]; sourceRoot: "" };
  const sources = map.sources.map((name) =>
    name.startsWith("~lib/") ? name : path.relative(folder, path.join(sourceFolder, name)),
  );
  return JSON.stringify({ ...map, sources });
}

/**
 * Compiles the device in `file` and writes its modules to `folder`, which is made if need be.
 *
 * @throws CompileError, and then nothing is written; VmmError ERR_FILE; what node:fs throws
 */
export async function buildDevice(file: string, folder: string): Promise<BuiltDevice> {
  const compiled = await compileDevice(file, { debug: true });
  const { module: debug, sourceMap } = compiled.debug!;
  const debugPath = path.join(folder, moduleName(file, "debug"));
  makeFolder(folder);
  writeWhole(`${debugPath}.map`, placed(sourceMap, path.dirname(file), folder));
  writeWhole(debugPath, debug);
  const built = path.join(folder, moduleName(file, "release"));
  writeWhole(built, compiled.module);
  return { ...compiled, path: built, debugPath };
}
