// virtio-mmio, version 2: offsets to fields of the register file (virtio v1.2 §4.2.2).

import type { RegisterFile } from "./registers.js";

/** Bytes of the window of one device. */
export const VIRTIO_MMIO_BYTES = 0x1000;

/** "virt", and the vendor: ours, read as text by lspci-like tools ("BULK"). */
const MAGIC = 0x74726976;
const VERSION = 2;
const VENDOR = 0x4b4c5542;

export const VIRTIO_MMIO_MAGIC_VALUE = 0x000;
export const VIRTIO_MMIO_VERSION = 0x004;
export const VIRTIO_MMIO_DEVICE_ID = 0x008;
export const VIRTIO_MMIO_VENDOR_ID = 0x00c;
export const VIRTIO_MMIO_DEVICE_FEATURES = 0x010;
export const VIRTIO_MMIO_DEVICE_FEATURES_SEL = 0x014;
export const VIRTIO_MMIO_DRIVER_FEATURES = 0x020;
export const VIRTIO_MMIO_DRIVER_FEATURES_SEL = 0x024;
export const VIRTIO_MMIO_QUEUE_SEL = 0x030;
export const VIRTIO_MMIO_QUEUE_NUM_MAX = 0x034;
export const VIRTIO_MMIO_QUEUE_NUM = 0x038;
export const VIRTIO_MMIO_QUEUE_READY = 0x044;
export const VIRTIO_MMIO_QUEUE_NOTIFY = 0x050;
export const VIRTIO_MMIO_INTERRUPT_STATUS = 0x060;
export const VIRTIO_MMIO_INTERRUPT_ACK = 0x064;
export const VIRTIO_MMIO_STATUS = 0x070;
export const VIRTIO_MMIO_QUEUE_DESC_LOW = 0x080;
export const VIRTIO_MMIO_QUEUE_DESC_HIGH = 0x084;
export const VIRTIO_MMIO_QUEUE_AVAIL_LOW = 0x090;
export const VIRTIO_MMIO_QUEUE_AVAIL_HIGH = 0x094;
export const VIRTIO_MMIO_QUEUE_USED_LOW = 0x0a0;
export const VIRTIO_MMIO_QUEUE_USED_HIGH = 0x0a4;
export const VIRTIO_MMIO_SHM_SEL = 0x0ac;
export const VIRTIO_MMIO_SHM_LEN_LOW = 0x0b0;
export const VIRTIO_MMIO_SHM_BASE_HIGH = 0x0bc;
export const VIRTIO_MMIO_CONFIG_GENERATION = 0x0fc;
export const VIRTIO_MMIO_CONFIG = 0x100;

const FIELD_BYTES = 4;
const ALL_ONES = 0xffff_ffff;

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

/** The window of one device; `offset` is below VIRTIO_MMIO_BYTES. */
export class MmioTransport {
  readonly #registers: RegisterFile;

  constructor(registers: RegisterFile) {
    this.#registers = registers;
  }

  /** Whether an access to `offset` must wait until the device has answered what was written. */
  mustWait(offset: number): boolean {
    return offset >= VIRTIO_MMIO_CONFIG_GENERATION && !this.#registers.configSettled;
  }

  read(offset: number, bytes: number): number {
    if (offset >= VIRTIO_MMIO_CONFIG) return this.#readConfig(offset - VIRTIO_MMIO_CONFIG, bytes);
    if (!this.#isField(offset, bytes)) return 0;
    const registers = this.#registers;
    switch (offset) {
      case VIRTIO_MMIO_MAGIC_VALUE:
        return MAGIC;
      case VIRTIO_MMIO_VERSION:
        return VERSION;
      case VIRTIO_MMIO_DEVICE_ID:
        return registers.virtioId;
      case VIRTIO_MMIO_VENDOR_ID:
        return VENDOR;
      case VIRTIO_MMIO_DEVICE_FEATURES:
        return registers.deviceFeatures;
      case VIRTIO_MMIO_QUEUE_NUM_MAX:
        return registers.queueSizeMax;
      case VIRTIO_MMIO_QUEUE_READY:
        return registers.queueReady;
      case VIRTIO_MMIO_INTERRUPT_STATUS:
        return registers.interruptStatus;
      case VIRTIO_MMIO_STATUS:
        return registers.status;
      case VIRTIO_MMIO_CONFIG_GENERATION:
        return registers.config.generation;
    }
    // No region of shared memory exists, which is length and address -1 (virtio v1.2 §4.2.2).
    if (offset >= VIRTIO_MMIO_SHM_LEN_LOW && offset <= VIRTIO_MMIO_SHM_BASE_HIGH) return ALL_ONES;
    registers.ignored("read of a register that cannot be read:", hex(offset));
    return 0;
  }

  write(offset: number, bytes: number, value: number): void {
    if (offset >= VIRTIO_MMIO_CONFIG) {
      const within = bytes < FIELD_BYTES ? value & (2 ** (8 * bytes) - 1) : value >>> 0;
      this.#registers.writeConfig({ offset: offset - VIRTIO_MMIO_CONFIG, bytes, value: within });
      return;
    }
    if (!this.#isField(offset, bytes)) return;
    const registers = this.#registers;
    switch (offset) {
      case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        registers.deviceFeaturesSelect = value;
        return;
      case VIRTIO_MMIO_DRIVER_FEATURES:
        registers.driverFeatures = value;
        return;
      case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        registers.driverFeaturesSelect = value;
        return;
      case VIRTIO_MMIO_QUEUE_SEL:
        registers.queueSelect = value;
        return;
      case VIRTIO_MMIO_QUEUE_NUM:
        registers.queueSize = value;
        return;
      case VIRTIO_MMIO_QUEUE_READY:
        registers.queueReady = value;
        return;
      case VIRTIO_MMIO_QUEUE_NOTIFY:
        registers.notify(value);
        return;
      case VIRTIO_MMIO_INTERRUPT_ACK:
        registers.interruptAck = value;
        return;
      case VIRTIO_MMIO_STATUS:
        registers.status = value;
        return;
      case VIRTIO_MMIO_SHM_SEL:
        return;
    }
    if (!this.#writeAddress(offset, value)) {
      registers.ignored("write of a register that cannot be written:", hex(offset));
    }
  }

  #writeAddress(offset: number, value: number): boolean {
    const registers = this.#registers;
    switch (offset) {
      case VIRTIO_MMIO_QUEUE_DESC_LOW:
        registers.setQueueAddress("desc", { half: "low", value });
        return true;
      case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        registers.setQueueAddress("desc", { half: "high", value });
        return true;
      case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
        registers.setQueueAddress("driver", { half: "low", value });
        return true;
      case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
        registers.setQueueAddress("driver", { half: "high", value });
        return true;
      case VIRTIO_MMIO_QUEUE_USED_LOW:
        registers.setQueueAddress("device", { half: "low", value });
        return true;
      case VIRTIO_MMIO_QUEUE_USED_HIGH:
        registers.setQueueAddress("device", { half: "high", value });
        return true;
      default:
        return false;
    }
  }

  /** "The driver MUST only use 32 bit wide and aligned" accesses to registers (§4.2.2.2). */
  #isField(offset: number, bytes: number): boolean {
    if (bytes === FIELD_BYTES && offset % FIELD_BYTES === 0) return true;
    this.#registers.ignored(
      "access to a register that is not 32 bits:",
      `${bytes} at ${hex(offset)}`,
    );
    return false;
  }

  /** Fields are of 8, 16 or 32 bits, wherever the device put them (virtio v1.2 §4.2.2.2). */
  #readConfig(offset: number, bytes: number): number {
    const { config } = this.#registers;
    if (bytes === 1 || bytes === 2 || bytes === 4) return config.read(offset, bytes);
    this.#registers.ignored("config access of odd width:", `${bytes} at ${offset}`);
    return 0;
  }
}
