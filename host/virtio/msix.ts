// MSI-X of one function (PCI Local Bus Specification 3.0 §6.8.2): a table of messages that the
// guest fills in, and which of them are held back. What is in the table is a guest's: an address
// that is no processor's interrupts nobody.

import {
  PCI_MSIX_ENTRY_CTRL_MASKBIT,
  PCI_MSIX_ENTRY_DATA,
  PCI_MSIX_ENTRY_LOWER_ADDR,
  PCI_MSIX_ENTRY_SIZE,
  PCI_MSIX_ENTRY_UPPER_ADDR,
  PCI_MSIX_ENTRY_VECTOR_CTRL,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
} from "./pci-regs.js";

/** Message Control can count to 2048; the table has one page. */
export const MSIX_VECTORS_MAX = 256;

/** One message: a write of 32 bits to an address that means a processor. */
export interface Msi {
  addressLow: number;
  addressHigh: number;
  data: number;
}

export class Msix {
  readonly vectors: number;
  readonly #table: DataView;
  readonly #pending: Uint8Array;
  readonly #send: (message: Msi) => void;
  #control = 0;

  /** `send` delivers one message. */
  constructor(vectors: number, send: (message: Msi) => void) {
    this.vectors = vectors;
    this.#table = new DataView(new ArrayBuffer(vectors * PCI_MSIX_ENTRY_SIZE));
    this.#pending = new Uint8Array(vectors);
    this.#send = send;
    for (let vector = 0; vector < vectors; vector++) {
      const at = vector * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL;
      this.#table.setUint32(at, PCI_MSIX_ENTRY_CTRL_MASKBIT, true);
    }
  }

  /** Whether the function interrupts by messages, and not by its pin. */
  get enabled(): boolean {
    return (this.#control & PCI_MSIX_FLAGS_ENABLE) !== 0;
  }

  /** Message Control, as software wrote it. */
  set control(value: number) {
    this.#control = value;
    for (let vector = 0; vector < this.vectors; vector++) this.#deliver(vector);
  }

  /** Sends the message of `vector`, at once or when it is no longer held back. */
  fire(vector: number): void {
    if (vector >= this.vectors) return;
    this.#pending[vector] = 1;
    this.#deliver(vector);
  }

  /** Sends nothing of what is held back, ever: what it told of is no more. */
  forget(): void {
    this.#pending.fill(0);
  }

  #deliver(vector: number): void {
    if (this.#pending[vector] === 0 || this.#isMasked(vector)) return;
    this.#pending[vector] = 0;
    const at = vector * PCI_MSIX_ENTRY_SIZE;
    this.#send({
      addressLow: this.#table.getUint32(at + PCI_MSIX_ENTRY_LOWER_ADDR, true),
      addressHigh: this.#table.getUint32(at + PCI_MSIX_ENTRY_UPPER_ADDR, true),
      data: this.#table.getUint32(at + PCI_MSIX_ENTRY_DATA, true),
    });
  }

  #isMasked(vector: number): boolean {
    if (!this.enabled || (this.#control & PCI_MSIX_FLAGS_MASKALL) !== 0) return true;
    const at = vector * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL;
    return (this.#table.getUint32(at, true) & PCI_MSIX_ENTRY_CTRL_MASKBIT) !== 0;
  }

  /** 32 bits of the table; `offset` is a multiple of 4. */
  readTable(offset: number): number {
    return offset < this.#table.byteLength ? this.#table.getUint32(offset, true) : 0;
  }

  writeTable(offset: number, value: number): void {
    if (offset >= this.#table.byteLength) return;
    this.#table.setUint32(offset, value, true);
    this.#deliver(Math.floor(offset / PCI_MSIX_ENTRY_SIZE));
  }

  /** 32 bits of the pending bit array, which software can only read. */
  readPending(offset: number): number {
    let bits = 0;
    for (let i = 0; i < 32; i++) bits += (this.#pending[offset * 8 + i] ?? 0) * 2 ** i;
    return bits;
  }
}
