// What the boot code must know of the machine. The values live in host/machine/layout.ts, the one
// file that names every address; this interface says which of them end up in tables for the guest.

/** Guest-physical addresses, I/O ports and interrupt lines of the machine to boot. */
export interface BootLayout {
  /** End of conventional RAM; from here to `extendedStart` the guest finds no usable RAM. */
  readonly conventionalEnd: number;
  /** Usable RAM goes on here: 1 MiB on every PC. */
  readonly extendedStart: number;
  /** End of RAM below 4 GiB: device windows start here. */
  readonly lowRamEnd: number;
  /** RAM beyond `lowRamEnd` bytes continues here: 4 GiB. */
  readonly highRamStart: number;

  /** GDT with the two flat boot segments, GDT_BYTES. */
  readonly gdt: number;
  /** hvm_start_info with its memory map and module list, a few hundred bytes (PVH only). */
  readonly startInfo: number;
  /** struct boot_params, "the zero page", 4 KiB (64-bit Linux entry only). */
  readonly bootParams: number;
  /** Root of the identity map, page-aligned, PAGE_TABLES_BYTES (64-bit Linux entry only). */
  readonly pageTables: number;
  /** The command line, with room for `cmdlineBytes`, its final NUL included. */
  readonly cmdline: number;
  readonly cmdlineBytes: number;
  /**
   * The ACPI tables, RSDP first, up to `acpiEnd`: in [0xe0000, 0x100000), where a guest that was
   * not told the address searches, and in the RAM that the memory map declares as reserved.
   */
  readonly acpi: number;
  readonly acpiEnd: number;

  /** Local APIC and I/O APIC registers; GSI 0 is the I/O APIC's first pin. */
  readonly lapic: number;
  readonly ioapic: number;
  /** GSI of the ACPI interrupt, level-triggered and active high. */
  readonly sciGsi: number;
  /** First port of the 4-byte PM1a event block and of the 2-byte PM1a control block. */
  readonly pm1aEventPort: number;
  readonly pm1aControlPort: number;
  /** SLP_TYP that means "power off" when the guest writes it to PM1a control. */
  readonly sleepTypeS5: number;
  /** Port and value that reset the machine. */
  readonly resetPort: number;
  readonly resetValue: number;
  /** First port of COM1's eight, and its ISA interrupt. */
  readonly serialPort: number;
  readonly serialGsi: number;

  /** Which legacy parts exist; a guest waits for, or stumbles over, a part that it is told of. */
  readonly has8259: boolean;
  readonly has8042: boolean;
  readonly hasCmosRtc: boolean;
}

/** One virtio-mmio window: where its registers are and which interrupt it raises. */
export interface VirtioMmioWindow {
  /** Guest-physical address. */
  readonly base: number;
  readonly bytes: number;
  readonly gsi: number;
}

/** A PCI host bridge with one bus, number 0. */
export interface PciHost {
  /** Where BARs may be: they have addresses in it already, as firmware would give them. */
  readonly memory: { readonly base: number; readonly bytes: number };
  /** Enhanced configuration access, 1 MiB a bus. */
  readonly ecam: { readonly base: number; readonly bytes: number };
  /** First of the eight ports of configuration mechanism 1. */
  readonly configPort: number;
  /** Slots with functions in them, and the interrupt line that their INTA# is on. */
  readonly slots: readonly { readonly slot: number; readonly gsi: number }[];
}
