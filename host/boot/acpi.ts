// The ACPI tables: how a stock kernel finds its CPUs, interrupts, power button and, through the
// DSDT, the virtio-mmio windows. Structs carry the names and fields of ACPICA; section numbers are
// those of ACPI 6.3.

import { assert, VmmError } from "../errors.js";
import { bytes, type Struct, struct, u8 } from "../ffi/struct.js";
import { hostBridge, mcfgBody, motherboard } from "./acpi-pci.js";
import * as aml from "./aml.js";
import { alignUp, packed, type Segment } from "./image.js";
import type { BootLayout, PciHost, VirtioMmioWindow } from "./layout.js";

/** Local APIC ids are 8 bits in the MADT's basic entries, and 255 means "all of them". */
export const CPU_COUNT_MAX = 254;

/** Device names count windows in three hexadecimal digits. */
export const VIRTIO_MMIO_WINDOWS_MAX = 0x1000;

const OEM_ID = "BULKHD";
const OEM_TABLE_ID = "BULKHEAD";
const CREATOR_ID = "BLKH";

export const acpi_table_header = struct("acpi_table_header", 36, {
  signature: bytes(4),
  length: packed.u32,
  revision: u8,
  checksum: u8,
  oem_id: bytes(6),
  oem_table_id: bytes(8),
  oem_revision: packed.u32,
  asl_compiler_id: bytes(4),
  asl_compiler_revision: packed.u32,
});

const acpi_table_rsdp = struct("acpi_table_rsdp", 36, {
  signature: bytes(8),
  checksum: u8,
  oem_id: bytes(6),
  revision: u8,
  rsdt_physical_address: packed.u32,
  length: packed.u32,
  xsdt_physical_address: packed.u64,
  extended_checksum: u8,
  reserved: bytes(3),
});

const acpi_table_facs = struct("acpi_table_facs", 64, {
  signature: bytes(4),
  length: packed.u32,
  hardware_signature: packed.u32,
  firmware_waking_vector: packed.u32,
  global_lock: packed.u32,
  flags: packed.u32,
  xfirmware_waking_vector: packed.u64,
  version: u8,
  reserved: bytes(31),
});

const acpi_generic_address = struct("acpi_generic_address", 12, {
  space_id: u8,
  bit_width: u8,
  bit_offset: u8,
  access_width: u8,
  address: packed.u64,
});

const acpi_table_fadt = struct("acpi_table_fadt", 276, {
  header: acpi_table_header,
  facs: packed.u32,
  dsdt: packed.u32,
  model: u8,
  preferred_profile: u8,
  sci_interrupt: packed.u16,
  smi_command: packed.u32,
  acpi_enable: u8,
  acpi_disable: u8,
  s4_bios_request: u8,
  pstate_control: u8,
  pm1a_event_block: packed.u32,
  pm1b_event_block: packed.u32,
  pm1a_control_block: packed.u32,
  pm1b_control_block: packed.u32,
  pm2_control_block: packed.u32,
  pm_timer_block: packed.u32,
  gpe0_block: packed.u32,
  gpe1_block: packed.u32,
  pm1_event_length: u8,
  pm1_control_length: u8,
  pm2_control_length: u8,
  pm_timer_length: u8,
  gpe0_block_length: u8,
  gpe1_block_length: u8,
  gpe1_base: u8,
  cst_control: u8,
  c2_latency: packed.u16,
  c3_latency: packed.u16,
  flush_size: packed.u16,
  flush_stride: packed.u16,
  duty_offset: u8,
  duty_width: u8,
  day_alarm: u8,
  month_alarm: u8,
  century: u8,
  boot_flags: packed.u16,
  reserved: u8,
  flags: packed.u32,
  reset_register: acpi_generic_address,
  reset_value: u8,
  arm_boot_flags: packed.u16,
  minor_revision: u8,
  Xfacs: packed.u64,
  Xdsdt: packed.u64,
  xpm1a_event_block: acpi_generic_address,
  xpm1b_event_block: acpi_generic_address,
  xpm1a_control_block: acpi_generic_address,
  xpm1b_control_block: acpi_generic_address,
  xpm2_control_block: acpi_generic_address,
  xpm_timer_block: acpi_generic_address,
  xgpe0_block: acpi_generic_address,
  xgpe1_block: acpi_generic_address,
  sleep_control: acpi_generic_address,
  sleep_status: acpi_generic_address,
  hypervisor_id: bytes(8),
});

const acpi_madt_local_apic = struct("acpi_madt_local_apic", 8, {
  type: u8,
  length: u8,
  processor_id: u8,
  id: u8,
  lapic_flags: packed.u32,
});

const acpi_madt_io_apic = struct("acpi_madt_io_apic", 12, {
  type: u8,
  length: u8,
  id: u8,
  reserved: u8,
  address: packed.u32,
  global_irq_base: packed.u32,
});

const acpi_madt_interrupt_override = struct("acpi_madt_interrupt_override", 10, {
  type: u8,
  length: u8,
  bus: u8,
  source_irq: u8,
  global_irq: packed.u32,
  inti_flags: packed.u16,
});

const acpi_madt_local_apic_nmi = struct("acpi_madt_local_apic_nmi", 6, {
  type: u8,
  length: u8,
  processor_id: u8,
  inti_flags: packed.u16,
  lint: u8,
});

// IAPC_BOOT_ARCH (§5.2.9.3)
const ACPI_FADT_LEGACY_DEVICES = 1 << 0;
const ACPI_FADT_8042 = 1 << 1;
const ACPI_FADT_NO_VGA = 1 << 2;
const ACPI_FADT_NO_CMOS_RTC = 1 << 5;
// Fixed feature flags (§5.2.9, table 5-35). The sleep button's flag means "not a fixed
// feature": there is none. The power button is one, as its flag is not set.
const ACPI_FADT_WBINVD = 1 << 0;
const ACPI_FADT_C1_SUPPORTED = 1 << 2;
const ACPI_FADT_SLEEP_BUTTON = 1 << 5;
const ACPI_FADT_FIXED_RTC = 1 << 6;
const ACPI_FADT_RESET_REGISTER = 1 << 10;
const ACPI_FADT_HEADLESS = 1 << 12;
/** Latencies beyond these say "no such C state" (§5.2.9). */
const C2_UNSUPPORTED = 101;
const C3_UNSUPPORTED = 1001;

const ACPI_ADR_SPACE_SYSTEM_IO = 1;
const ACPI_MADT_PCAT_COMPAT = 1 << 0;
const ACPI_MADT_ENABLED = 1 << 0;
/** MPS INTI flags (§5.2.12.5): active high, level-triggered. */
const LEVEL_ACTIVE_HIGH = 0x1 | (0x3 << 2);
const ALL_PROCESSORS = 0xff;

const RSDP_CHECKED_V1_BYTES = 20;

/** What the tables describe. */
export interface AcpiMachine {
  readonly layout: BootLayout;
  readonly cpuCount: number;
  readonly virtioMmio: readonly VirtioMmioWindow[];
  readonly pci?: PciHost;
}

/**
 * All ACPI tables as one segment at `layout.acpi`, the RSDP first.
 *
 * @throws VmmError ERR_MEMORY_LAYOUT for more CPUs or windows than the tables can hold
 */
export function acpiTables(machine: AcpiMachine): Segment {
  const { layout, cpuCount, virtioMmio, pci } = machine;
  if (!Number.isInteger(cpuCount) || cpuCount < 1 || cpuCount > CPU_COUNT_MAX) {
    throw tooMany(`${cpuCount} CPUs, 1 to ${CPU_COUNT_MAX} are possible`);
  }
  if (virtioMmio.length > VIRTIO_MMIO_WINDOWS_MAX) {
    throw tooMany(`${virtioMmio.length} devices, ${VIRTIO_MMIO_WINDOWS_MAX} are possible`);
  }
  const blocks: { gpa: number; table: Uint8Array }[] = [];
  let end = layout.acpi + acpi_table_rsdp.size;
  const place = (table: Uint8Array): number => {
    const gpa = alignUp(end, 64); // FACS must be on a 64-byte boundary (§5.2.10)
    blocks.push({ gpa, table });
    end = gpa + table.length;
    return gpa;
  };
  const facs = place(acpi_table_facs.encode({ signature: text("FACS"), length: 64, version: 2 }));
  const dsdt = place(differentiated(machine));
  const fadt = place(fixed(layout, { facs, dsdt }));
  const madt = place(multipleApic(layout, cpuCount));
  const mcfg = pci === undefined ? [] : [place(table("MCFG", 1, mcfgBody(pci)))];
  const xsdt = place(extendedRoot([fadt, madt, ...mcfg]));
  if (end > layout.acpiEnd) {
    throw tooMany(`${virtioMmio.length} devices, their tables end at 0x${end.toString(16)}`);
  }
  const segment = new Uint8Array(end - layout.acpi);
  segment.set(rootPointer(xsdt));
  for (const { gpa, table } of blocks) segment.set(table, gpa - layout.acpi);
  return { name: "ACPI tables", gpa: layout.acpi, bytes: segment, zeroBytes: 0 };
}

function tooMany(what: string): VmmError {
  return new VmmError("ERR_MEMORY_LAYOUT", `Cannot describe the machine in ACPI tables: ${what}`);
}

function text(value: string): Uint8Array {
  return Uint8Array.from(value, (char) => char.charCodeAt(0));
}

/** The byte that makes the sum of all bytes zero. */
function checksum(table: Uint8Array): number {
  return -table.reduce((sum, byte) => sum + byte, 0) & 0xff;
}

/** `whole` with its first bytes made into a table header. */
function withHeader(whole: Uint8Array, signature: string, revision: number): Uint8Array {
  acpi_table_header.write(new DataView(whole.buffer), 0, {
    signature: text(signature),
    length: whole.length,
    revision,
    oem_id: text(OEM_ID),
    oem_table_id: text(OEM_TABLE_ID),
    oem_revision: 1,
    asl_compiler_id: text(CREATOR_ID),
    asl_compiler_revision: 1,
  });
  whole[acpi_table_header.offsets.checksum] = checksum(whole);
  return whole;
}

function table(signature: string, revision: number, ...parts: Uint8Array[]): Uint8Array {
  const header = new Uint8Array(acpi_table_header.size);
  return withHeader(aml.concat(header, ...parts), signature, revision);
}

function rootPointer(xsdt: number): Uint8Array {
  const rsdp = acpi_table_rsdp.encode({
    signature: text("RSD PTR "),
    oem_id: text(OEM_ID),
    revision: 2,
    length: acpi_table_rsdp.size,
    xsdt_physical_address: BigInt(xsdt),
  });
  rsdp[acpi_table_rsdp.offsets.checksum] = checksum(rsdp.subarray(0, RSDP_CHECKED_V1_BYTES));
  rsdp[acpi_table_rsdp.offsets.extended_checksum] = checksum(rsdp);
  return rsdp;
}

function extendedRoot(tables: number[]): Uint8Array {
  const addresses = new DataView(new ArrayBuffer(tables.length * 8));
  for (const [i, gpa] of tables.entries()) addresses.setBigUint64(i * 8, BigInt(gpa), true);
  return table("XSDT", 1, new Uint8Array(addresses.buffer));
}

/** Registers in I/O ports, `bytes` of them, accessed `access` bytes at a time (§5.2.3.2). */
function ports(port: number, { bytes: count, access }: { bytes: number; access: 1 | 2 }) {
  return {
    space_id: ACPI_ADR_SPACE_SYSTEM_IO,
    bit_width: count * 8,
    access_width: access, // 1 is a byte, 2 is a word
    address: BigInt(port),
  };
}

function fixed(layout: BootLayout, { facs, dsdt }: { facs: number; dsdt: number }): Uint8Array {
  const has = (part: boolean, flag: number) => (part ? flag : 0);
  const fadt = acpi_table_fadt.encode({
    facs,
    dsdt,
    sci_interrupt: layout.sciGsi,
    pm1a_event_block: layout.pm1aEventPort,
    pm1a_control_block: layout.pm1aControlPort,
    pm1_event_length: 4,
    pm1_control_length: 2,
    c2_latency: C2_UNSUPPORTED,
    c3_latency: C3_UNSUPPORTED,
    boot_flags:
      ACPI_FADT_LEGACY_DEVICES |
      ACPI_FADT_NO_VGA |
      has(layout.has8042, ACPI_FADT_8042) |
      has(!layout.hasCmosRtc, ACPI_FADT_NO_CMOS_RTC),
    flags:
      ACPI_FADT_WBINVD |
      ACPI_FADT_C1_SUPPORTED |
      ACPI_FADT_SLEEP_BUTTON |
      ACPI_FADT_FIXED_RTC |
      ACPI_FADT_RESET_REGISTER |
      ACPI_FADT_HEADLESS,
    reset_register: ports(layout.resetPort, { bytes: 1, access: 1 }),
    reset_value: layout.resetValue,
    minor_revision: 3,
    Xdsdt: BigInt(dsdt),
    xpm1a_event_block: ports(layout.pm1aEventPort, { bytes: 4, access: 2 }),
    xpm1a_control_block: ports(layout.pm1aControlPort, { bytes: 2, access: 2 }),
    hypervisor_id: text("BULKHEAD"),
  });
  return withHeader(fadt, "FACP", 6);
}

/** An entry of the MADT: its type and length go before the rest. */
function entry<F extends Parameters<Struct["encode"]>[0]>(
  layout: { size: number; encode(value: F): Uint8Array },
  type: number,
  value: F,
): Uint8Array {
  return layout.encode({ type, length: layout.size, ...value });
}

function multipleApic(layout: BootLayout, cpuCount: number): Uint8Array {
  const head = new DataView(new ArrayBuffer(8));
  head.setUint32(0, layout.lapic, true);
  head.setUint32(4, layout.has8259 ? ACPI_MADT_PCAT_COMPAT : 0, true);
  const cpus = Array.from({ length: cpuCount }, (_, id) =>
    entry(acpi_madt_local_apic, 0, { processor_id: id, id, lapic_flags: ACPI_MADT_ENABLED }),
  );
  return table(
    "APIC",
    4,
    new Uint8Array(head.buffer),
    ...cpus,
    entry(acpi_madt_io_apic, 1, { id: 0, address: layout.ioapic, global_irq_base: 0 }),
    // The timer needs no override: KVM wires its PIT to pin 0, where a PC has it on pin 2.
    entry(acpi_madt_interrupt_override, 2, {
      source_irq: layout.sciGsi,
      global_irq: layout.sciGsi,
      inti_flags: LEVEL_ACTIVE_HIGH,
    }),
    entry(acpi_madt_local_apic_nmi, 4, { processor_id: ALL_PROCESSORS, lint: 1 }),
  );
}

function differentiated({ layout, virtioMmio, pci }: AcpiMachine): Uint8Array {
  const bridge = pci === undefined ? [] : [hostBridge(pci), motherboard(pci)];
  const { packageOf, integer, name, scope } = aml;
  const sleepType = integer(layout.sleepTypeS5);
  return table(
    "DSDT",
    2,
    name("_S5", packageOf(sleepType, sleepType, integer(0), integer(0))),
    scope("_SB", serialPort(layout), ...virtioMmioDevices(virtioMmio), ...bridge),
  );
}

function serialPort({ serialPort: port, serialGsi }: BootLayout): aml.Aml {
  return aml.device(
    "COM1",
    aml.name("_HID", aml.eisaId("PNP0501")),
    aml.name("_UID", aml.integer(1)),
    aml.name("_CRS", aml.resourceTemplate(aml.io(port, 8), aml.irqNoFlags(serialGsi))),
  );
}

/** `LNRO0005` is what Linux' virtio-mmio driver listens to. */
function virtioMmioDevices(windows: readonly VirtioMmioWindow[]): aml.Aml[] {
  return windows.map(({ base, bytes: size, gsi }, index) => {
    const number = index.toString(16).toUpperCase().padStart(3, "0");
    assert(number.length === 3, `device ${index} has no ACPI name`);
    const isShared = windows.some((other, i) => i !== index && other.gsi === gsi);
    const resources = [aml.memory32Fixed(base, size), aml.interrupt(gsi, { isShared })];
    return aml.device(
      `V${number}`,
      aml.name("_HID", aml.string("LNRO0005")),
      aml.name("_UID", aml.integer(index)),
      aml.name("_CRS", aml.resourceTemplate(...resources)),
    );
  });
}
