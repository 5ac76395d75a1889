// A network interface in memory: the test is the host.

import { wasiErrno } from "../runtime/errno.js";
import type { Right } from "../sandbox/grants.js";
import { Descriptor } from "./descriptor.js";
import type { Grant } from "./grants.js";

/** Frames that a device may send before the test takes them; then it has to wait for room. */
export const TAP_FRAMES_MAX = 1024;

const ERRNO_AGAIN = wasiErrno("AGAIN");

export class Tap implements Grant {
  readonly kind = "tap";
  readonly what = "memory0";
  readonly rights = undefined;
  readonly #toDevice: Uint8Array[] = [];
  #fromDevice: Uint8Array[] = [];
  #changed = () => {};

  /** The host sends a frame; a device that waits for one is woken. */
  push(frame: Uint8Array): void {
    this.#toDevice.push(frame.slice());
    this.#changed();
  }

  /** The frames that the device has sent since the last call. */
  take(): Uint8Array[] {
    const taken = this.#fromDevice;
    this.#fromDevice = [];
    this.#changed();
    return taken;
  }

  open(_rights: readonly Right[], changed: () => void): Descriptor {
    this.#changed = changed;
    return new TapDescriptor(this.#toDevice, () => this.#fromDevice);
  }
}

class TapDescriptor extends Descriptor {
  readonly #incoming: Uint8Array[];
  readonly #outgoing: () => Uint8Array[];

  constructor(incoming: Uint8Array[], outgoing: () => Uint8Array[]) {
    super();
    this.#incoming = incoming;
    this.#outgoing = outgoing;
  }

  override get readable(): boolean {
    return this.#incoming.length > 0;
  }

  override get writable(): boolean {
    return this.#outgoing().length < TAP_FRAMES_MAX;
  }

  /** One frame, cut if there is not enough room. */
  override read(into: Uint8Array): number {
    const frame = this.#incoming.shift();
    if (frame === undefined) return -ERRNO_AGAIN;
    const part = frame.subarray(0, into.length);
    into.set(part);
    return part.length;
  }

  override write(from: Uint8Array): number {
    if (!this.writable) return -ERRNO_AGAIN;
    this.#outgoing().push(from.slice());
    return from.length;
  }
}

/** A network interface of the host, and the test is the host. */
export function tap(): Tap {
  return new Tap();
}
