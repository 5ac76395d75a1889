// bulkhead run: a machine from the options, with the terminal as its serial console.

import fs from "node:fs";
import { errnoName, VmmError } from "../errors.js";
import type { DeviceConfig, VmConfig } from "../machine/config.js";
import { jsonSink, textSink } from "./events.js";
import { modulePath } from "./kinds.js";
import { type RunOptions, vmConfigOf } from "./options.js";
import { checkDebugger, checkFiles, checkMemory } from "./preflight.js";
import { runSession } from "./session.js";
import { usageError } from "./usage.js";

const SOMEWHERE = "say where it goes, as in: --console unix:/run/console or --console output.txt";

/** Whether it is a console whose user did not say where it goes. */
function hasNoPlace({ module, grants }: DeviceConfig): boolean {
  return module === modulePath("console") && !(grants.tty || grants.file || grants.socket);
}

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

/** Connects the console that goes nowhere else to this terminal. */
async function consoleOf(config: VmConfig, { json }: RunOptions) {
  const [device, other] = config.devices.filter(hasNoPlace);
  if (device === undefined) return undefined;
  if (other !== undefined) {
    const problem = `${device.id} and ${other.id} would both have this terminal`;
    throw usageError(`Cannot connect two consoles: ${problem}`, SOMEWHERE);
  }
  if (json === true) {
    const problem = "with --json there are events on stdout";
    throw usageError(`Cannot connect ${device.id} to the terminal: ${problem}`, SOMEWHERE);
  }
  const { ConsoleTerminal } = await import("./console.js");
  return ConsoleTerminal.open(device);
}

/** Runs the guest that the options describe to its end; returns the exit status. */
export async function run(kernel: string | undefined, options: RunOptions): Promise<number> {
  const config = vmConfigOf(kernel, options);
  checkDebugger(config);
  checkFiles(config);
  checkMemory(config);
  if (options.serial !== undefined) config.serialFd = openSerial(options.serial);
  const onEvent = options.json === true ? jsonSink : textSink;
  const console = await consoleOf(config, options);
  return runSession(config, {
    onEvent,
    input: true,
    ...(console === undefined ? {} : { console }),
  });
}
