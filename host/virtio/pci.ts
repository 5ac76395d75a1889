// virtio over PCI (virtio v1.2 §4.1): one function whose only BAR has everything in it. The
// registers behind it are those of virtio-mmio.
//
//   0x0000 common configuration │ 0x1000 ISR status │ 0x2000 device configuration
//   0x3000 notifications, 4 bytes a queue │ 0x4000 MSI-X table │ 0x5000 MSI-X pending bits

import { assert } from "../errors.js";
import { MSIX_VECTORS_MAX, type Msi, Msix } from "./msix.js";
import { CommonConfig } from "./pci-common.js";
import { PciHeader } from "./pci-header.js";
import * as pci from "./pci-regs.js";
import type { RegisterFile } from "./registers.js";
import type { Window } from "./window.js";

export const PCI_VENDOR_ID_REDHAT_QUMRANET = 0x1af4;
/** "The PCI Device ID is calculated by adding 0x1040 to the Virtio Device ID" (§4.1.2). */
const PCI_DEVICE_ID_BASE = 0x1040;
/** "Non-transitional devices SHOULD have a PCI Revision ID of 1 or higher" (§4.1.2.1). */
const REVISION = 1;
/** "Device does not fit in any defined class": what a device is, its driver knows by its id. */
const PCI_CLASS_OTHERS = 0xff00;
/** Of the header type (PCI Local Bus Specification 3.0 §6.2.1). */
const MULTI_FUNCTION = 0x80;
const INTA = 1;

export const COMMON = 0x0000;
export const ISR = 0x1000;
export const DEVICE = 0x2000;
export const NOTIFY = 0x3000;
export const MSIX_TABLE = 0x4000;
export const MSIX_PBA = 0x5000;
/** Bytes of the BAR, a power of two. */
export const BAR_BYTES = 0x8000;
const REGION_BYTES = 0x1000;

const COMMON_BYTES = 60;
/** Each queue has an address of its own, so that the kernel need not look at what is written. */
export const NOTIFY_OFF_MULTIPLIER = 4;

const MSIX_CAP = 0x40;
const PCI_CFG_CAP_BYTES = 20;
/** VIRTIO_PCI_CAP_PCI_CFG: a way to the BAR through configuration space (§4.1.4.9). */
const PCI_CFG_CAP = 0x98;
const PCI_CFG_DATA = PCI_CFG_CAP + 16;

/** What a function does outside of itself. */
export interface PciWires {
  /** Delivers a message-signalled interrupt. */
  message(message: Msi): void;
  /** The level of INTA#: asserted or not. */
  line(asserted: boolean): void;
  /** Where each queue's notification is written, NOTIFY_OFF_MULTIPLIER apart; or nowhere. */
  notifyAt(gpa: number | undefined): void;
}

/** What firmware would have decided of a function. */
export interface PciFunctionPlace {
  /** Where its BAR is at first. */
  gpa: number;
  /** The interrupt line that its INTA# is on. */
  gsi: number;
  /** Whether there may be other functions in its slot. */
  sharesSlot?: boolean;
}

/** One device as a PCI function. */
export class PciFunction {
  /** Its 256 bytes of configuration space, and what is in its BAR. */
  readonly config: Window;
  readonly bar: Window;
  readonly #registers: RegisterFile;
  readonly #wires: PciWires;
  readonly #header = new PciHeader();
  readonly #common: CommonConfig;
  readonly #msix: Msix;
  #asserted = false;
  #notifyBase: number | undefined;

  constructor(registers: RegisterFile, wires: PciWires, place: PciFunctionPlace) {
    const vectors = registers.queues.length + 1;
    assert(vectors <= MSIX_VECTORS_MAX, `${vectors} interrupts of ${registers.id}`);
    this.#registers = registers;
    this.#wires = wires;
    this.#common = new CommonConfig(registers, vectors);
    this.#msix = new Msix(vectors, (message) => wires.message(message));
    this.#describe(place);
    this.config = {
      mustWait: (offset) => this.#windowIs(offset) && this.#mustWait(this.#windowOffset),
      read: (offset, bytes) => this.#readConfig(offset, bytes),
      write: (offset, bytes, value) => this.#writeConfig(offset, bytes, value),
    };
    this.bar = {
      mustWait: (offset) => this.#mustWait(offset),
      read: (offset, bytes) => this.#read(offset, bytes),
      write: (offset, bytes, value) => this.#write(offset, bytes, value),
    };
  }

  /** Where its BAR is, if it is anywhere. */
  get barGpa(): number | undefined {
    if ((this.#header.get16(pci.PCI_COMMAND) & pci.PCI_COMMAND_MEMORY) === 0) return undefined;
    return this.#header.get32(pci.PCI_BASE_ADDRESS_0);
  }

  /** A queue has news for the driver, or, for CONFIG_CHANGE, the configuration has. */
  interrupt(queue: number): void {
    if (!this.#msix.enabled) this.#updateLine();
    else this.#msix.fire(this.#common.vectorOf(queue));
  }

  // Configuration space

  #describe({ gpa, gsi, sharesSlot = false }: PciFunctionPlace): void {
    const header = this.#header;
    const { virtioId } = this.#registers;
    header.define(pci.PCI_VENDOR_ID, 2, PCI_VENDOR_ID_REDHAT_QUMRANET);
    header.define(pci.PCI_DEVICE_ID, 2, PCI_DEVICE_ID_BASE + virtioId);
    const command = pci.PCI_COMMAND_MEMORY | pci.PCI_COMMAND_MASTER | pci.PCI_COMMAND_INTX_DISABLE;
    header.define(pci.PCI_COMMAND, 2, 0, command);
    header.define(pci.PCI_STATUS, 2, pci.PCI_STATUS_CAP_LIST);
    header.define(pci.PCI_REVISION_ID, 1, REVISION);
    header.define(pci.PCI_CLASS_DEVICE, 2, PCI_CLASS_OTHERS);
    header.define(pci.PCI_CACHE_LINE_SIZE, 1, 0, 0xff);
    // Without the bit, software looks at function 0 of a slot and at no other (§6.2.1).
    if (sharesSlot) header.define(pci.PCI_HEADER_TYPE, 1, MULTI_FUNCTION);
    // All ones read back as the size: the bits below it cannot be written (§6.2.5.1).
    header.define(pci.PCI_BASE_ADDRESS_0, 4, gpa, -BAR_BYTES >>> 0);
    header.define(pci.PCI_SUBSYSTEM_VENDOR_ID, 2, PCI_VENDOR_ID_REDHAT_QUMRANET);
    header.define(pci.PCI_SUBSYSTEM_ID, 2, PCI_DEVICE_ID_BASE + virtioId);
    header.define(pci.PCI_CAPABILITY_LIST, 1, MSIX_CAP);
    header.define(pci.PCI_INTERRUPT_LINE, 1, gsi, 0xff);
    header.define(pci.PCI_INTERRUPT_PIN, 1, INTA);

    const writable = pci.PCI_MSIX_FLAGS_MASKALL | pci.PCI_MSIX_FLAGS_ENABLE;
    header.define(MSIX_CAP, 1, pci.PCI_CAP_ID_MSIX);
    header.define(MSIX_CAP + pci.PCI_MSIX_FLAGS, 2, this.#msix.vectors - 1, writable);
    header.define(MSIX_CAP + pci.PCI_MSIX_TABLE, 4, MSIX_TABLE);
    header.define(MSIX_CAP + pci.PCI_MSIX_PBA, 4, MSIX_PBA);
    this.#describeVirtio();
  }

  /** The list goes on with where virtio's structures are (§4.1.4). */
  #describeVirtio(): void {
    const { queues, config } = this.#registers;
    const notifyBytes = queues.length * NOTIFY_OFF_MULTIPLIER;
    const all: [type: number, offset: number, length: number][] = [
      [pci.VIRTIO_PCI_CAP_COMMON_CFG, COMMON, COMMON_BYTES],
      [pci.VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY, notifyBytes],
      [pci.VIRTIO_PCI_CAP_ISR_CFG, ISR, 1],
    ];
    if (config.bytes > 0) all.push([pci.VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE, config.bytes]);
    let last = MSIX_CAP;
    let at = MSIX_CAP + pci.PCI_CAP_MSIX_SIZEOF;
    for (const [type, offset, length] of all) {
      const isNotify = type === pci.VIRTIO_PCI_CAP_NOTIFY_CFG;
      this.#capability(at, last, { type, offset, length, bytes: isNotify ? 20 : 16 });
      if (isNotify) {
        this.#header.define(at + pci.VIRTIO_PCI_NOTIFY_CAP_MULT, 4, NOTIFY_OFF_MULTIPLIER);
      }
      last = at;
      at += isNotify ? 20 : 16;
    }
    assert(at <= PCI_CFG_CAP, "the capabilities overlap");
    const window = { type: pci.VIRTIO_PCI_CAP_PCI_CFG, offset: 0, length: 0 };
    this.#capability(PCI_CFG_CAP, last, { ...window, bytes: PCI_CFG_CAP_BYTES });
    this.#header.define(PCI_CFG_CAP + pci.VIRTIO_PCI_CAP_BAR, 1, 0, 0xff);
    this.#header.define(PCI_CFG_CAP + pci.VIRTIO_PCI_CAP_OFFSET, 4, 0, 0xffff_ffff);
    this.#header.define(PCI_CFG_CAP + pci.VIRTIO_PCI_CAP_LENGTH, 4, 0, 0xffff_ffff);
  }

  #capability(
    at: number,
    last: number,
    cap: { type: number; offset: number; length: number; bytes: number },
  ): void {
    this.#header.define(last + 1, 1, at);
    this.#header.define(at, 1, pci.PCI_CAP_ID_VNDR);
    this.#header.define(at + pci.VIRTIO_PCI_CAP_LEN, 1, cap.bytes);
    this.#header.define(at + pci.VIRTIO_PCI_CAP_CFG_TYPE, 1, cap.type);
    this.#header.define(at + pci.VIRTIO_PCI_CAP_OFFSET, 4, cap.offset);
    this.#header.define(at + pci.VIRTIO_PCI_CAP_LENGTH, 4, cap.length);
  }

  get #windowOffset(): number {
    return this.#header.get32(PCI_CFG_CAP + pci.VIRTIO_PCI_CAP_OFFSET);
  }

  /** Whether an access at `offset` is one to the BAR, and one that is allowed (§4.1.4.9.1). */
  #windowIs(offset: number): boolean {
    if (offset !== PCI_CFG_DATA) return false;
    const length = this.#header.get32(PCI_CFG_CAP + pci.VIRTIO_PCI_CAP_LENGTH);
    const isWidth = length === 1 || length === 2 || length === 4;
    const bar = this.#header.get8(PCI_CFG_CAP + pci.VIRTIO_PCI_CAP_BAR);
    const at = this.#windowOffset;
    return bar === 0 && isWidth && at % length === 0 && at + length <= BAR_BYTES;
  }

  #readConfig(offset: number, bytes: number): number {
    if (this.#windowIs(offset)) {
      const length = this.#header.get32(PCI_CFG_CAP + pci.VIRTIO_PCI_CAP_LENGTH);
      return this.#read(this.#windowOffset, Math.min(length, bytes));
    }
    const isAsserted = this.#registers.interruptStatus !== 0 && !this.#msix.enabled;
    const status = pci.PCI_STATUS_CAP_LIST | (isAsserted ? pci.PCI_STATUS_INTERRUPT : 0);
    this.#header.set16(pci.PCI_STATUS, status);
    return this.#header.read(offset, bytes);
  }

  #writeConfig(offset: number, bytes: number, value: number): void {
    if (this.#windowIs(offset)) {
      const length = this.#header.get32(PCI_CFG_CAP + pci.VIRTIO_PCI_CAP_LENGTH);
      this.#write(this.#windowOffset, Math.min(length, bytes), value);
      return;
    }
    this.#header.write(offset, bytes, value);
    this.#msix.control = this.#header.get16(MSIX_CAP + pci.PCI_MSIX_FLAGS);
    this.#updateLine();
    const base = this.barGpa;
    if (base === this.#notifyBase) return;
    this.#notifyBase = base;
    this.#wires.notifyAt(base === undefined ? undefined : base + NOTIFY);
  }

  #updateLine(): void {
    const off = this.#header.get16(pci.PCI_COMMAND) & pci.PCI_COMMAND_INTX_DISABLE;
    const asserted = !this.#msix.enabled && off === 0 && this.#registers.interruptStatus !== 0;
    if (asserted === this.#asserted) return;
    this.#asserted = asserted;
    this.#wires.line(asserted);
  }

  // What is in the BAR

  #mustWait(offset: number): boolean {
    const isConfig = offset >= DEVICE && offset < DEVICE + REGION_BYTES;
    const isGeneration = offset === COMMON + pci.VIRTIO_PCI_COMMON_CFGGENERATION;
    return (isConfig || isGeneration) && !this.#registers.configSettled;
  }

  #read(offset: number, bytes: number): number {
    const within = offset % REGION_BYTES;
    switch (offset - within) {
      case COMMON:
        return this.#common.read(within, bytes);
      case ISR:
        return within === 0 ? this.#takeStatus() : 0;
      case DEVICE:
        return this.#registers.config.read(within, bytes);
      case MSIX_TABLE:
        return this.#isWord(within, bytes) ? this.#msix.readTable(within) : 0;
      case MSIX_PBA:
        return this.#isWord(within, bytes) ? this.#msix.readPending(within) : 0;
      default:
        return 0;
    }
  }

  #write(offset: number, bytes: number, value: number): void {
    const within = offset % REGION_BYTES;
    const field = bytes < 4 ? value & (2 ** (8 * bytes) - 1) : value >>> 0;
    switch (offset - within) {
      case COMMON:
        this.#common.write(within, bytes, field);
        // A reset leaves nothing to interrupt for (virtio v1.2 §2.4.1): no pin, no pending message.
        if (this.#registers.status === 0) this.#msix.forget();
        this.#updateLine();
        return;
      case DEVICE:
        this.#registers.writeConfig({ offset: within, bytes, value: field });
        return;
      case NOTIFY:
        this.#registers.notify(Math.floor(within / NOTIFY_OFF_MULTIPLIER));
        return;
      case MSIX_TABLE:
        if (this.#isWord(within, bytes)) this.#msix.writeTable(within, field);
    }
  }

  /** Reading it "resets it to 0 and causes the device to de-assert the interrupt" (§4.1.4.5). */
  #takeStatus(): number {
    const status = this.#registers.interruptStatus;
    this.#registers.interruptAck = status;
    this.#updateLine();
    return status;
  }

  /** Table and pending bits are accessed in aligned words; 64 bits come as two (§6.8.2). */
  #isWord(offset: number, bytes: number): boolean {
    if (bytes === 4 && offset % 4 === 0) return true;
    this.#registers.ignored("MSI-X access that is not 32 bits:", `${bytes} bytes at ${offset}`);
    return false;
  }
}
