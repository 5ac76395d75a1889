// The PCI bus of the machine: which access of a vCPU reaches which function. Configuration space is
// there twice, behind the two ports of mechanism 1 (PCI Local Bus Specification 3.0 §3.2.2.3.2) and
// in memory (PCI Express Base Specification 4.0 §7.2.2).

import type { PciFunction } from "../virtio/pci.js";
import { BAR_BYTES } from "../virtio/pci.js";
import { PciHeader } from "../virtio/pci-header.js";
import {
  PCI_CLASS_DEVICE,
  PCI_DEVICE_ID,
  PCI_SUBSYSTEM_ID,
  PCI_SUBSYSTEM_VENDOR_ID,
  PCI_VENDOR_ID,
} from "../virtio/pci-regs.js";
import type { Window } from "../virtio/window.js";
import type { Bus, Place } from "./bus.js";
import {
  PCI_CONFIG_ADDRESS_PORT,
  PCI_CONFIG_DATA_PORT,
  PCI_ECAM_BASE,
  PCI_ECAM_BYTES,
  pciPlace,
} from "./layout.js";
import { type BusAccess, PORT } from "./mailbox.js";

/** QEMU's host bridge that is nothing else, so that no driver has something to put right in it. */
const PCI_VENDOR_ID_REDHAT = 0x1b36;
const PCI_DEVICE_ID_REDHAT_PCIE_HOST = 0x0008;
const PCI_CLASS_BRIDGE_HOST = 0x0600;

/** Bit 31 of the address register: accesses of the data register are configuration accesses. */
const CONFIG_ENABLE = 0x8000_0000;
/** Bytes of a function's configuration space, as mechanism 1 and as ECAM can address it. */
const CONFIG_BYTES = 0x100;
const ECAM_BYTES = 0x1000;
const FUNCTIONS = 8;

function hostBridge(): Window {
  const header = new PciHeader();
  header.define(PCI_VENDOR_ID, 2, PCI_VENDOR_ID_REDHAT);
  header.define(PCI_DEVICE_ID, 2, PCI_DEVICE_ID_REDHAT_PCIE_HOST);
  header.define(PCI_CLASS_DEVICE, 2, PCI_CLASS_BRIDGE_HOST);
  header.define(PCI_SUBSYSTEM_VENDOR_ID, 2, PCI_VENDOR_ID_REDHAT);
  header.define(PCI_SUBSYSTEM_ID, 2, PCI_DEVICE_ID_REDHAT_PCIE_HOST);
  return {
    mustWait: () => false,
    read: (offset, bytes) => header.read(offset, bytes),
    write: () => {},
  };
}

function placeOf(device: number): number {
  const { slot, function: number } = pciPlace(device);
  return slot * FUNCTIONS + number;
}

export class PciBus implements Bus {
  readonly #functions: readonly PciFunction[];
  /** The device at each place that has one: device and function in eight bits. */
  readonly #devices: ReadonlyMap<number, number>;
  readonly #bridge = hostBridge();
  #address = 0;
  /** The address register; only a 32-bit access is one to it. */
  readonly #addressRegister: Window = {
    mustWait: () => false,
    read: (_, bytes) => (bytes === 4 ? this.#address : 0xff),
    write: (_, bytes, value) => {
      if (bytes === 4) this.#address = value >>> 0;
    },
  };

  /** @param functions those of the devices, where pciPlace() has them */
  constructor(functions: readonly PciFunction[]) {
    this.#functions = functions;
    this.#devices = new Map(functions.map((_, device) => [placeOf(device), device]));
  }

  find(access: BusAccess): Place | undefined {
    const { address } = access;
    if (access.space === PORT) return this.#findPort(address);
    if (address >= PCI_ECAM_BASE && address < PCI_ECAM_BASE + PCI_ECAM_BYTES) {
      const at = address - PCI_ECAM_BASE;
      return this.#findConfig(Math.floor(at / ECAM_BYTES), at % ECAM_BYTES);
    }
    const device = this.#functions.findIndex(({ barGpa: gpa }) => {
      return gpa !== undefined && address >= gpa && address < gpa + BAR_BYTES;
    });
    if (device === -1) return undefined;
    const { bar, barGpa } = this.#functions[device]!;
    return { device, window: bar, offset: address - barGpa! };
  }

  #findPort(port: number): Place | undefined {
    if (port === PCI_CONFIG_ADDRESS_PORT) return { window: this.#addressRegister, offset: 0 };
    const within = port - PCI_CONFIG_DATA_PORT;
    if (within < 0 || (this.#address & CONFIG_ENABLE) === 0) return undefined;
    const at = this.#address & ~CONFIG_ENABLE & ~3;
    return this.#findConfig(Math.floor(at / CONFIG_BYTES), (at % CONFIG_BYTES) + within);
  }

  /** @param place bus, device and function in 16 bits, from the highest on */
  #findConfig(place: number, offset: number): Place | undefined {
    if (place === 0) return { window: this.#bridge, offset };
    const device = this.#devices.get(place);
    if (device === undefined) return undefined;
    return { device, window: this.#functions[device]!.config, offset };
  }
}
