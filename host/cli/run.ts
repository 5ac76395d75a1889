// bulkhead run: a machine from the options, with the terminal as its serial console.

import fs from "node:fs";
import { errnoName, VmmError } from "../errors.js";
import { jsonSink, textSink } from "./events.js";
import { type RunOptions, vmConfigOf } from "./options.js";
import { checkFiles, checkMemory } from "./preflight.js";
import { runSession } from "./session.js";

/** Opens the file of --serial, emptied; a FIFO or a terminal will do as well. */
function openSerial(path: string): number {
  try {
    return fs.openSync(path, "w", 0o644);
  } catch (error) {
    const errno = -((error as NodeJS.ErrnoException).errno ?? 0);
    const message = `Cannot write the serial output to "${path}": ${errnoName(errno)}`;
    throw new VmmError("ERR_FILE", message, { cause: error, errno, syscall: "open" });
  }
}

/** Runs the guest that the options describe to its end; returns the exit status. */
export async function run(kernel: string | undefined, options: RunOptions): Promise<number> {
  const config = vmConfigOf(kernel, options);
  checkFiles(config);
  checkMemory(config);
  if (options.serial !== undefined) config.serialFd = openSerial(options.serial);
  const onEvent = options.json === true ? jsonSink : textSink;
  return runSession(config, { onEvent, input: true });
}
