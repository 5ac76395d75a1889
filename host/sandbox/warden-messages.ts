// What the VMM and its warden say to each other: JSON, one message a line, over a stream socket.
// The descriptors that belong to `started` travel beside them, over a socket of their own.

import type { Proof } from "./proof.js";
import type { DeviceExit, SpawnOptions } from "./spawn.js";

/** What the warden may do, told once at its start: nothing else can be asked of it later. */
export interface WardenSetup {
  /** Devices that it may start, by index. */
  devices: SpawnOptions[];
  vmmPid: number;
}

export type WardenRequest =
  | { ask: "start"; device: number }
  | { ask: "adopt"; pid: number }
  | { ask: "kill"; pid: number }
  | { ask: "prove"; pid: number; ticket: number };

export type WardenAnswer =
  | { tell: "started"; device: number; pid: number; weak: readonly string[] }
  | { tell: "not-started"; device: number; message: string }
  | { tell: "exit"; pid: number; exit: DeviceExit }
  | { tell: "proof"; ticket: number; proof: Proof }
  | { tell: "no-proof"; ticket: number; message: string };

/** Splits a stream of text into messages. */
export class Lines {
  #rest = "";

  /** The messages that `text` completes. */
  take<T>(text: string): T[] {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    return lines.map((line) => JSON.parse(line) as T);
  }
}
