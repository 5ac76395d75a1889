// What the VMM and its warden say to each other: JSON, one message a line, over a stream socket.
// The sockets of started devices travel beside them, over a socket of their own. Each request has
// one answer, in order.

import { type ErrorCode, VmmError } from "../errors.js";
import type { SocketFile } from "./grants.js";
import type { Weakness } from "./pieces.js";
import type { DeviceExit } from "./spawn.js";
import type { Placed } from "./starter.js";

/** The warden's descriptors behind 0, 1 and 2. */
export const MESSAGES_FD = 3;
export const DESCRIPTORS_FD = 4;
/** What was granted and stays open while devices come and go. */
export const HELD_FD_FIRST = 5;

/** The longest message: a proof, or an exit with all that a device said on its stderr. */
const MESSAGE_CHARACTERS_MAX = 256 * 1024;

/** What the warden may do, told once at its start: nothing else can be asked of it later. */
export interface WardenSetup {
  devices: readonly Placed[];
  /** Files to remove at the end, when the VMM may not any more. */
  socketFiles: readonly SocketFile[];
}

/** A device is an index into the setup; to `leave` it means nothing. */
export interface WardenRequest {
  ask: "start" | "kill" | "verify" | "prove" | "leave";
  device: number;
  /** To `verify`: what the device says that it had to do without. */
  said?: readonly Weakness[];
}

export type WardenAnswer =
  /** To `start` a pid, to `verify` a Verified, to `prove` a Proof, to the others nothing. */
  | { tell: "done"; value: unknown }
  | { tell: "failed"; code: ErrorCode; message: string }
  /** Not an answer: a device that the warden started has ended and was reaped. */
  | { tell: "exit"; device: number; exit: DeviceExit }
  /** Not an answer: the warden's last words. */
  | { tell: "broken"; message: string };

/** Splits a stream of text into messages. */
export class Lines {
  #rest = "";

  /** The messages that `text` completes; what is no message is our own bug, or an attack. */
  take<T>(text: string): T[] {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > MESSAGE_CHARACTERS_MAX) {
      throw new VmmError("ERR_INTERNAL", "A message between VMM and warden is too long");
    }
    return lines.map((line) => JSON.parse(line) as T);
  }
}
