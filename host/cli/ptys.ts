// Pseudo-terminals for devices that are to have one of their own: made before the devices, printed,
// and there for as long as the VM, whatever becomes of the devices' processes.

import type { DeviceConfig } from "../machine/config.js";
import { DevicePty, OpenWatch } from "../machine/device-pty.js";
import { isNewPty } from "./device.js";
import type { EventSink } from "./events.js";

export class Ptys {
  readonly #open: { close(): void }[] = [];

  private constructor() {}

  /** Makes those that `devices` are to have, and tells where they are. */
  static open(devices: readonly DeviceConfig[], onEvent: EventSink): Ptys {
    const ptys = new Ptys();
    try {
      for (const device of devices) ptys.#give(device, onEvent);
      return ptys;
    } catch (error) {
      ptys.close();
      throw error;
    }
  }

  #give(device: DeviceConfig, onEvent: EventSink): void {
    const wanted = Object.entries(device.grants).filter(([, grant]) => isNewPty(grant));
    if (wanted.length === 0) return;
    const { id } = device;
    const watch = this.#keep(new OpenWatch());
    device.wakeFds = [...(device.wakeFds ?? []), watch.fd];
    for (const [name, grant] of wanted) {
      const { master: held, path: what } = this.#keep(DevicePty.open(watch));
      device.grants[name] = { ...grant, what, held };
      onEvent({ event: "pty", time: Date.now(), id, grant: name, path: what });
    }
  }

  #keep<T extends { close(): void }>(made: T): T {
    this.#open.push(made);
    return made;
  }

  /** Hangs up on whoever is there. */
  close(): void {
    for (const made of this.#open.splice(0)) made.close();
  }
}
