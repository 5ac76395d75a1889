// bulkhead run: a machine from the options, with the terminal as its serial console.

import fs from "node:fs";
import { errnoName, VmmError } from "../errors.js";
import type { DeviceConfig, VmConfig } from "../machine/config.js";
import { isNewPty } from "./device.js";
import { type EventSink, jsonSink, textSink } from "./events.js";
import { modulePath } from "./kinds.js";
import { type RunOptions, vmConfigOf } from "./options.js";
import { checkDebugger, checkFiles, checkMemory } from "./preflight.js";
import { runSession } from "./session.js";
import { usageError } from "./usage.js";

const SOMEWHERE = "say where it goes, as in: --console unix:/run/console or --console output.txt";

/** Where a console goes; undefined for a device that is none. */
function placesOf({ module, grants }: DeviceConfig): string[] | undefined {
  if (module !== modulePath("console")) return undefined;
  return ["tty", "file", "socket"].filter((name) => grants[name] !== undefined);
}

/** Throws ERR_USAGE for a console that would go to two places. */
function checkPlaces({ devices }: VmConfig): void {
  const spread = devices.find((device) => (placesOf(device)?.length ?? 0) > 1);
  if (spread === undefined) return;
  const places = placesOf(spread)!.map((name) => `${name} "${spread.grants[name]!.what}"`);
  const problem = `Cannot connect ${spread.id} to ${places.join(" and ")}: it goes to one place`;
  throw usageError(problem, "another console for the guest is another --console");
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
  const [device, other] = config.devices.filter((each) => placesOf(each)?.length === 0);
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

/** Makes the pseudo-terminals that devices are to have of their own. */
async function ptysOf({ devices }: VmConfig, onEvent: EventSink) {
  if (!devices.some(({ grants }) => Object.values(grants).some(isNewPty))) return undefined;
  const { Ptys } = await import("./ptys.js");
  return Ptys.open(devices, onEvent);
}

/** Runs the guest that the options describe to its end; returns the exit status. */
export async function run(kernel: string | undefined, options: RunOptions): Promise<number> {
  const config = vmConfigOf(kernel, options);
  checkDebugger(config);
  checkPlaces(config);
  checkFiles(config);
  checkMemory(config);
  if (options.serial !== undefined) config.serialFd = openSerial(options.serial);
  const { devices } = config;
  const quiet = options.quiet === true;
  const onEvent = options.json === true ? jsonSink : textSink({ devices, quiet });
  const console = await consoleOf(config, options);
  const ptys = await ptysOf(config, onEvent);
  try {
    return await runSession(config, {
      onEvent,
      input: true,
      ...(console === undefined ? {} : { console }),
    });
  } finally {
    await ptys?.end();
  }
}
