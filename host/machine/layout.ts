// Every guest-physical address, I/O port and interrupt line of the machine, in one place.
//
//   0x0000_0000_0000 ┌──────────────────┐
//                    │ low RAM          │ boot tables below 1 MiB, then the kernel
//   0x0000_d000_0000 ├──────────────────┤ LOW_RAM_END
//                    │ virtio-mmio, or  │ one 4 KiB window a device, in --device order
//                    │ BARs of PCI      │ 32 KiB a device, wherever the guest moves them to
//   0x0000_e000_0000 ├──────────────────┤ PCI_ECAM_BASE
//                    │ PCI configuration│ of the one bus that there is
//   0x0000_e010_0000 ├──────────────────┤
//   0x0000_fec0_0000 ├──────────────────┤ I/O APIC
//   0x0000_fee0_0000 ├──────────────────┤ local APIC
//   0x0001_0000_0000 ├──────────────────┤ HIGH_RAM_START
//                    │ high RAM         │ whatever did not fit below
//                    └──────────────────┘

import type { BootLayout, PciHost, VirtioMmioWindow } from "../boot/layout.js";
import { ramRanges } from "../boot/memory.js";
import { assert, VmmError } from "../errors.js";
import { BAR_BYTES, type PciFunctionPlace } from "../virtio/pci.js";

export const MIB = 1024 * 1024;
export const GIB = 1024 * MIB;

/** End of RAM below 4 GiB; the virtio-mmio windows follow it. */
export const LOW_RAM_END = 0xd0000000;
export const HIGH_RAM_START = 4 * GIB;

/** A kernel, its initrd and the boot tables need some room: less than this boots nothing. */
export const MEMORY_BYTES_MIN = 16 * MIB;
/** 1 TiB: guest addresses stay far below 2^53, and the host's overcommit is not a joke. */
export const MEMORY_BYTES_MAX = 1024 * GIB;

export const VIRTIO_MMIO_BASE = LOW_RAM_END;
export const VIRTIO_MMIO_BYTES = 0x1000;
/** What the PCI host bridge passes on: a BAR that a guest moves elsewhere is nowhere. */
export const PCI_MEMORY_BASE = LOW_RAM_END;
export const PCI_MEMORY_BYTES = 256 * MIB;
/** Enhanced configuration access of bus 0: 4 KiB for each of 32 × 8 functions. */
export const PCI_ECAM_BASE = 0xe0000000;
export const PCI_ECAM_BYTES = MIB;
/** Configuration mechanism 1: an address register and a data register of 32 bits each. */
export const PCI_CONFIG_ADDRESS_PORT = 0xcf8;
export const PCI_CONFIG_DATA_PORT = 0xcfc;
/** INTA# of the functions, in turn: pins of the I/O APIC that nothing else uses. */
const PCI_GSIS = [16, 17, 18, 19, 20, 21, 22, 23] as const;

/** Interrupt lines are few: pins of the I/O APIC that nothing else uses. */
export const DEVICE_GSIS = [16, 17, 18, 19, 20, 21, 22, 23, 5, 6, 7, 10, 11, 12, 14, 15] as const;
/**
 * Two devices a line: a handler has two to ask whether it was they. More would make an interrupt
 * slower, a machine with more disks is better off with one that has partitions, and each is a
 * process.
 */
export const DEVICES_MAX = 2 * DEVICE_GSIS.length;

export const IOAPIC_BASE = 0xfec00000;
export const LAPIC_BASE = 0xfee00000;

export const COM1 = { port: 0x3f8, bytes: 8, gsi: 4 } as const;
export const CMOS = { port: 0x70, bytes: 2 } as const;
export const I8042 = { dataPort: 0x60, commandPort: 0x64, resetCommand: 0xfe } as const;
/** ACPI fixed hardware: PM1a event block (4 bytes) and control block (2 bytes), interrupt 9. */
export const ACPI_PM1A_EVT_PORT = 0x600;
export const ACPI_PM1A_CNT_PORT = 0x604;
export const ACPI_SCI_GSI = 9;
/** SLP_TYP of S5, as the \_S5 object in the DSDT tells the guest. */
export const ACPI_S5_SLP_TYP = 5;
/** QEMU's isa-debug-exit, at the port that its documentation uses. */
export const DEBUG_EXIT_PORT = 0x501;

export { CPU_COUNT_MAX } from "../boot/acpi.js";

/** Below 1 MiB lie the tables that the boot code writes; the kernel owns what is above. */
export const BOOT_LAYOUT: BootLayout = {
  conventionalEnd: 0x9fc00,
  extendedStart: MIB,
  lowRamEnd: LOW_RAM_END,
  highRamStart: HIGH_RAM_START,
  gdt: 0x500,
  startInfo: 0x6000,
  bootParams: 0x7000,
  pageTables: 0x9000,
  cmdline: 0x20000,
  cmdlineBytes: 0x1000,
  acpi: 0xe0000,
  acpiEnd: 0x100000,
  lapic: LAPIC_BASE,
  ioapic: IOAPIC_BASE,
  sciGsi: ACPI_SCI_GSI,
  pm1aEventPort: ACPI_PM1A_EVT_PORT,
  pm1aControlPort: ACPI_PM1A_CNT_PORT,
  sleepTypeS5: ACPI_S5_SLP_TYP,
  resetPort: I8042.commandPort,
  resetValue: I8042.resetCommand,
  serialPort: COM1.port,
  serialGsi: COM1.gsi,
  has8259: true,
  has8042: false,
  hasCmosRtc: true,
};

/** The host bridge, as the guest is told of it. */
export const PCI_HOST: Omit<PciHost, "slots"> = {
  memory: { base: PCI_MEMORY_BASE, bytes: PCI_MEMORY_BYTES },
  ecam: { base: PCI_ECAM_BASE, bytes: PCI_ECAM_BYTES },
  configPort: PCI_CONFIG_ADDRESS_PORT,
};

export interface RamRegion {
  gpa: number;
  bytes: number;
  /** Where the region starts in the memfd that backs all RAM. */
  offset: number;
}

/** RAM of `memoryBytes` around the hole for devices. */
export function ramRegions(memoryBytes: number): RamRegion[] {
  if (memoryBytes < MEMORY_BYTES_MIN || memoryBytes > MEMORY_BYTES_MAX) {
    throw new VmmError(
      "ERR_MEMORY_LAYOUT",
      `Cannot make a guest of ${memoryBytes / MIB} MiB: give between 16 MiB and 1 TiB, see -m`,
    );
  }
  let offset = 0;
  return ramRanges(memoryBytes, BOOT_LAYOUT).map(({ gpa, bytes }) => {
    offset += bytes;
    return { gpa, bytes, offset: offset - bytes };
  });
}

/**
 * Window and interrupt line of device `index`, in --device order. A line is an edge for each news
 * of each device on it, and a driver that is told that it is shared looks at all of them.
 */
export function virtioMmioWindow(index: number): VirtioMmioWindow {
  assert(index < DEVICES_MAX, `device ${index}`);
  const gsi = DEVICE_GSIS[index % DEVICE_GSIS.length]!;
  return { base: VIRTIO_MMIO_BASE + index * VIRTIO_MMIO_BYTES, bytes: VIRTIO_MMIO_BYTES, gsi };
}

/** Slots of a bus (PCI Local Bus Specification 3.0 §3.2.2.3.2), of which 0 has the host bridge. */
const PCI_SLOT_LAST = 31;

/** A device as a PCI function: its slot on bus 0, and what firmware would have decided of it. */
export interface PciPlace extends PciFunctionPlace {
  slot: number;
  /** 0 to 7. */
  function: number;
}

/**
 * Place of device `index`, in --device order: a slot each, as long as there are slots, and those
 * that are left are further functions of the last one. All functions of a slot have its INTA#.
 */
export function pciPlace(index: number): PciPlace {
  assert(index < DEVICES_MAX, `device ${index}`);
  const slot = Math.min(index + 1, PCI_SLOT_LAST);
  return {
    slot,
    function: index + 1 - slot,
    gpa: PCI_MEMORY_BASE + index * BAR_BYTES,
    gsi: PCI_GSIS[(slot - 1) % PCI_GSIS.length]!,
    sharesSlot: slot === PCI_SLOT_LAST,
  };
}
