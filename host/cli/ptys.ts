// Pseudo-terminals for devices that are to have one of their own: made before the devices, printed,
// and there for as long as the VM, whatever becomes of the devices' processes.

import type { DeviceConfig } from "../machine/config.js";
import { DevicePty, OpenWatch } from "../machine/device-pty.js";
import { isNewPty } from "./device.js";
import type { EventSink } from "./events.js";

/**
 * A hang-up throws away what was not read yet, and nobody can tell how much that is: a program that
 * waits for it has read everything long before.
 */
const LAST_WORDS_MS = 100;

export class Ptys {
  readonly #ptys: DevicePty[] = [];
  readonly #watches: OpenWatch[] = [];

  private constructor() {}

  /** Makes those that `devices` are to have, and tells where they are. */
  static open(devices: readonly DeviceConfig[], onEvent: EventSink): Ptys {
    const ptys = new Ptys();
    try {
      for (const device of devices) ptys.#give(device, onEvent);
      return ptys;
    } catch (error) {
      ptys.#close();
      throw error;
    }
  }

  #give(device: DeviceConfig, onEvent: EventSink): void {
    const wanted = Object.entries(device.grants).filter(([, grant]) => isNewPty(grant));
    if (wanted.length === 0) return;
    const { id } = device;
    const watch = new OpenWatch();
    this.#watches.push(watch);
    device.wakeFds = [...(device.wakeFds ?? []), watch.fd];
    for (const [name, grant] of wanted) {
      const pty = DevicePty.open(watch);
      this.#ptys.push(pty);
      const { master: held, path: what } = pty;
      device.grants[name] = { ...grant, what, held };
      onEvent({ event: "pty", time: Date.now(), id, grant: name, path: what });
    }
  }

  /** Hangs up on whoever is there, when he has had time to read what the guest said last. */
  async end(): Promise<void> {
    if (this.#ptys.some(({ isAttended }) => isAttended)) {
      await new Promise((resolve) => setTimeout(resolve, LAST_WORDS_MS));
    }
    this.#close();
  }

  #close(): void {
    for (const made of [...this.#ptys, ...this.#watches]) made.close();
  }
}
