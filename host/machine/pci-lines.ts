// What PCI functions are wired to: KVM's interrupts and doorbells. Messages are delivered by an
// ioctl, which costs as much as an eventfd's write, and needs no route that would have to follow
// each change that a guest makes to its tables.

import type { Vm } from "../kvm/kvm.js";
import { NOTIFY_OFF_MULTIPLIER, type PciWires } from "../virtio/pci.js";
import { PCI_MEMORY_BASE, PCI_MEMORY_BYTES, type PciPlace } from "./layout.js";

interface Connection {
  place: PciPlace;
  /** An eventfd a queue. */
  doorbells: readonly number[];
  /** Says once that something that the guest did has no effect. */
  ignored(kind: string, detail: string): void;
}

export class PciLines {
  readonly #vm: Pick<Vm, "doorbell" | "irqLine" | "signalMsi">;
  /** How many functions assert each line: several may share one. */
  readonly #asserted = new Map<number, number>();

  constructor(vm: Pick<Vm, "doorbell" | "irqLine" | "signalMsi">) {
    this.#vm = vm;
  }

  /** The wires of one function. */
  wires({ place, doorbells, ignored }: Connection): PciWires {
    let at: number | undefined;
    return {
      message: (message) => {
        if (!this.#vm.signalMsi(message)) ignored("interrupt to no processor", "");
      },
      line: (asserted) => this.#set(place.gsi, asserted),
      notifyAt: (gpa) => {
        if (at !== undefined) this.#ring(doorbells, at, false);
        at = gpa !== undefined && isDecoded(gpa) ? gpa : undefined;
        if (at === undefined || this.#ring(doorbells, at, true)) return;
        ignored("BAR on top of another, at", `0x${at.toString(16)}`);
      },
    };
  }

  #set(gsi: number, asserted: boolean): void {
    const count = (this.#asserted.get(gsi) ?? 0) + (asserted ? 1 : -1);
    this.#asserted.set(gsi, count);
    if (count === (asserted ? 1 : 0)) this.#vm.irqLine(gsi, asserted);
  }

  /** Whether all of them could be set; each that is not reaches the function as an access. */
  #ring(doorbells: readonly number[], base: number, isOn: boolean): boolean {
    const done = doorbells.map((fd, queue) => {
      return this.#vm.doorbell(fd, { gpa: base + queue * NOTIFY_OFF_MULTIPLIER, isOn });
    });
    return done.every(Boolean);
  }
}

/** Whether the host bridge passes an address on. */
function isDecoded(gpa: number): boolean {
  return gpa >= PCI_MEMORY_BASE && gpa < PCI_MEMORY_BASE + PCI_MEMORY_BYTES;
}
