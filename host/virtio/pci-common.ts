// Common configuration of virtio-pci: offsets to fields of the register file, and which interrupt
// each of them raises (virtio v1.2 §4.1.4.3).

import * as pci from "./pci-regs.js";
import { CONFIG_CHANGE, type RegisterFile } from "./registers.js";
import type { QueuePart } from "./rings.js";

const { VIRTIO_MSI_NO_VECTOR } = pci;

/** Width of each field: a driver must use that, and 32 bits where there are 64 (§4.1.3.1). */
const WIDTHS = new Map<number, number>([
  [pci.VIRTIO_PCI_COMMON_DFSELECT, 4],
  [pci.VIRTIO_PCI_COMMON_DF, 4],
  [pci.VIRTIO_PCI_COMMON_GFSELECT, 4],
  [pci.VIRTIO_PCI_COMMON_GF, 4],
  [pci.VIRTIO_PCI_COMMON_MSIX, 2],
  [pci.VIRTIO_PCI_COMMON_NUMQ, 2],
  [pci.VIRTIO_PCI_COMMON_STATUS, 1],
  [pci.VIRTIO_PCI_COMMON_CFGGENERATION, 1],
  [pci.VIRTIO_PCI_COMMON_Q_SELECT, 2],
  [pci.VIRTIO_PCI_COMMON_Q_SIZE, 2],
  [pci.VIRTIO_PCI_COMMON_Q_MSIX, 2],
  [pci.VIRTIO_PCI_COMMON_Q_ENABLE, 2],
  [pci.VIRTIO_PCI_COMMON_Q_NOFF, 2],
  [pci.VIRTIO_PCI_COMMON_Q_DESCLO, 4],
  [pci.VIRTIO_PCI_COMMON_Q_DESCHI, 4],
  [pci.VIRTIO_PCI_COMMON_Q_AVAILLO, 4],
  [pci.VIRTIO_PCI_COMMON_Q_AVAILHI, 4],
  [pci.VIRTIO_PCI_COMMON_Q_USEDLO, 4],
  [pci.VIRTIO_PCI_COMMON_Q_USEDHI, 4],
]);

/** Which part of a queue's address a field is. */
const ADDRESSES = new Map<number, { part: QueuePart; half: "low" | "high" }>([
  [pci.VIRTIO_PCI_COMMON_Q_DESCLO, { part: "desc", half: "low" }],
  [pci.VIRTIO_PCI_COMMON_Q_DESCHI, { part: "desc", half: "high" }],
  [pci.VIRTIO_PCI_COMMON_Q_AVAILLO, { part: "driver", half: "low" }],
  [pci.VIRTIO_PCI_COMMON_Q_AVAILHI, { part: "driver", half: "high" }],
  [pci.VIRTIO_PCI_COMMON_Q_USEDLO, { part: "device", half: "low" }],
  [pci.VIRTIO_PCI_COMMON_Q_USEDHI, { part: "device", half: "high" }],
]);

export class CommonConfig {
  readonly #registers: RegisterFile;
  /** How many vectors there are; one that is not there is as good as none. */
  readonly #vectors: number;
  #configVector = VIRTIO_MSI_NO_VECTOR;
  readonly #queueVectors: Uint16Array;

  constructor(registers: RegisterFile, vectors: number) {
    this.#registers = registers;
    this.#vectors = vectors;
    this.#queueVectors = new Uint16Array(registers.queues.length).fill(VIRTIO_MSI_NO_VECTOR);
  }

  /** The vector of a queue's interrupt, or of CONFIG_CHANGE; VIRTIO_MSI_NO_VECTOR for none. */
  vectorOf(queue: number): number {
    return queue === CONFIG_CHANGE ? this.#configVector : this.#queueVectors[queue]!;
  }

  read(offset: number, bytes: number): number {
    if (!this.#isField(offset, bytes)) return 0;
    const registers = this.#registers;
    switch (offset) {
      case pci.VIRTIO_PCI_COMMON_DFSELECT:
        return registers.deviceFeaturesSelect;
      case pci.VIRTIO_PCI_COMMON_DF:
        return registers.deviceFeatures;
      case pci.VIRTIO_PCI_COMMON_GFSELECT:
        return registers.driverFeaturesSelect;
      case pci.VIRTIO_PCI_COMMON_GF:
        return registers.driverFeatures;
      case pci.VIRTIO_PCI_COMMON_MSIX:
        return this.#configVector;
      case pci.VIRTIO_PCI_COMMON_NUMQ:
        return registers.queues.length;
      case pci.VIRTIO_PCI_COMMON_STATUS:
        return registers.status;
      case pci.VIRTIO_PCI_COMMON_CFGGENERATION:
        return registers.config.generation & 0xff;
      case pci.VIRTIO_PCI_COMMON_Q_SELECT:
        return registers.queueSelect;
      case pci.VIRTIO_PCI_COMMON_Q_SIZE:
        return registers.queueSize;
      case pci.VIRTIO_PCI_COMMON_Q_MSIX:
        return this.#queueVectors[registers.queueSelect] ?? VIRTIO_MSI_NO_VECTOR;
      case pci.VIRTIO_PCI_COMMON_Q_ENABLE:
        return registers.queueReady;
      case pci.VIRTIO_PCI_COMMON_Q_NOFF:
        return registers.queueSelect < registers.queues.length ? registers.queueSelect : 0;
    }
    const address = ADDRESSES.get(offset);
    return address === undefined ? 0 : registers.queueAddress(address.part, address.half);
  }

  write(offset: number, bytes: number, value: number): void {
    if (!this.#isField(offset, bytes)) return;
    const registers = this.#registers;
    switch (offset) {
      case pci.VIRTIO_PCI_COMMON_DFSELECT:
        registers.deviceFeaturesSelect = value;
        return;
      case pci.VIRTIO_PCI_COMMON_GFSELECT:
        registers.driverFeaturesSelect = value;
        return;
      case pci.VIRTIO_PCI_COMMON_GF:
        registers.driverFeatures = value;
        return;
      case pci.VIRTIO_PCI_COMMON_MSIX:
        this.#configVector = this.#existing(value);
        return;
      case pci.VIRTIO_PCI_COMMON_STATUS:
        if (value === 0) this.#forget();
        registers.status = value;
        return;
      case pci.VIRTIO_PCI_COMMON_Q_SELECT:
        registers.queueSelect = value;
        return;
      case pci.VIRTIO_PCI_COMMON_Q_SIZE:
        registers.queueSize = value;
        return;
      case pci.VIRTIO_PCI_COMMON_Q_MSIX:
        if (registers.queueSelect < this.#queueVectors.length) {
          this.#queueVectors[registers.queueSelect] = this.#existing(value);
        }
        return;
      case pci.VIRTIO_PCI_COMMON_Q_ENABLE:
        // "The driver MUST NOT write a 0 to queue_enable" (§4.1.4.3.2).
        if (value === 1) registers.queueReady = 1;
        else registers.driverBug(`queue ${registers.queueSelect}: queue_enable ${value}`);
        return;
    }
    const address = ADDRESSES.get(offset);
    if (address === undefined) registers.ignored("write of a read-only field:", `${offset}`);
    else registers.setQueueAddress(address.part, { half: address.half, value });
  }

  /** What a driver reads back tells it that there is no such vector (§4.1.5.1.2.1). */
  #existing(vector: number): number {
    return vector < this.#vectors ? vector : VIRTIO_MSI_NO_VECTOR;
  }

  /** "MUST have all queue and configuration change events unmapped upon reset" (§4.1.5.1.2.1). */
  #forget(): void {
    this.#configVector = VIRTIO_MSI_NO_VECTOR;
    this.#queueVectors.fill(VIRTIO_MSI_NO_VECTOR);
  }

  #isField(offset: number, bytes: number): boolean {
    if (WIDTHS.get(offset) === bytes) return true;
    this.#registers.ignored("access to no field of its width:", `${bytes} bytes at ${offset}`);
    return false;
  }
}
