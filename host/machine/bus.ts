// Which register of which device an access of a vCPU means.

import type { Window } from "../virtio/window.js";
import { VIRTIO_MMIO_BASE, VIRTIO_MMIO_BYTES } from "./layout.js";
import { type BusAccess, MEMORY } from "./mailbox.js";

/** Registers, and an offset in them; of a device, or of what is on the bus besides. */
export interface Place {
  device?: number;
  window: Window;
  offset: number;
}

export interface Bus {
  /** Undefined where nobody is. */
  find(access: BusAccess): Place | undefined;
}

/** virtio-mmio: windows one behind the other. */
export class MmioBus implements Bus {
  readonly #windows: readonly Window[];

  constructor(windows: readonly Window[]) {
    this.#windows = windows;
  }

  find({ space, address }: BusAccess): Place | undefined {
    if (space !== MEMORY) return undefined;
    const device = Math.floor((address - VIRTIO_MMIO_BASE) / VIRTIO_MMIO_BYTES);
    const window = this.#windows[device];
    const offset = address % VIRTIO_MMIO_BYTES;
    return window === undefined ? undefined : { device, window, offset };
  }
}
