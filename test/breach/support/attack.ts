// What an attack from inside Wasm is, as data: a module, what it tries, and how it must fail.

import { DeviceInstance } from "../../../host/runtime/instance.js";
import { GrantedFiles } from "../../../host/runtime/wasi_snapshot_preview1.js";
import type { OptionValue } from "../../../host/sandbox/options.js";
import type { DeviceExit } from "../../../host/sandbox/spawn.js";
import type { ConfinedDevice } from "./confined.js";

interface Attack {
  /** Name of the test: what the module tries, and what comes of it. */
  name: string;
  module: () => Uint8Array;
}

/** A module of which nothing may run: it is refused with such a message. */
export interface Refusal extends Attack {
  because: RegExp;
}

/** A module that runs, confined, until it does the one thing that ends it. */
export interface Ending extends Attack {
  /** Brings the device to where it attacks; nothing, if that is before READY. */
  drive?: (device: ConfinedDevice) => void;
  /** What the user set. */
  options?: OptionValue[];
  /** Its last words: a LOG line. */
  log: RegExp;
  /** Exit status, if it is not that of a trap. */
  status?: number;
}

/** How a device ended, and what it said. */
export type End = DeviceExit & { log: string };

/** Checks, compiles and links a module as a device process does, with nothing granted. */
export function load(module: Uint8Array): DeviceInstance {
  return DeviceInstance.create(module, ({ manifest }) => new GrantedFiles(manifest, []));
}

/** Until READY, then ACTIVATE. */
export async function started(device: ConfinedDevice): Promise<ConfinedDevice> {
  const ready = await device.receive();
  if (ready?.text.startsWith("{") !== true) throw new Error(`not ready: ${ready?.text}`);
  device.activate();
  return device;
}
