// The PCI host bridge in ACPI tables: MCFG, and a device in the DSDT (PCI Firmware Specification
// 3.3 §4; ACPI 6.3 §6.2.13).

import { struct, u8 } from "../ffi/struct.js";
import * as aml from "./aml.js";
import { packed } from "./image.js";
import type { PciHost } from "./layout.js";

/** Behind the header of an MCFG table: eight reserved bytes, then an entry a host bridge. */
const acpi_mcfg_allocation = struct("acpi_mcfg_allocation", 16, {
  address: packed.u64,
  pci_segment: packed.u16,
  start_bus_number: u8,
  end_bus_number: u8,
  reserved: packed.u32,
});
const RESERVED_BYTES = 8;

/** Of a routing table entry: all functions of a slot, its pin A, no link device (§6.2.13). */
const ALL_FUNCTIONS = 0xffff;
const PIN_A = 0;
const NO_LINK = 0;

/** What is in an MCFG table behind its header. */
export function mcfgBody({ ecam }: PciHost): Uint8Array {
  const allocation = acpi_mcfg_allocation.encode({ address: BigInt(ecam.base) });
  return aml.concat(new Uint8Array(RESERVED_BYTES), allocation);
}

/** No `PNP0A08`: a PCI Express host bridge would have to negotiate features that are not there. */
export function hostBridge({ memory, configPort, slots }: PciHost): aml.Aml {
  const routes = slots.map(({ slot, gsi }) => {
    const address = slot * 0x10000 + ALL_FUNCTIONS;
    return aml.packageOf(...[address, PIN_A, NO_LINK, gsi].map(aml.integer));
  });
  const resources = [
    aml.busNumbers(1),
    aml.io(configPort, 8),
    aml.memoryWindow(memory.base, memory.bytes),
  ];
  return aml.device(
    "PCI0",
    aml.name("_HID", aml.eisaId("PNP0A03")),
    aml.name("_UID", aml.integer(0)),
    aml.name("_SEG", aml.integer(0)),
    aml.name("_BBN", aml.integer(0)),
    aml.name("_CRS", aml.resourceTemplate(...resources)),
    aml.name("_PRT", aml.packageOf(...routes)),
  );
}

/** ECAM belongs to nobody else (PCI Firmware Specification 3.3 §4.1.2). */
export function motherboard({ ecam }: PciHost): aml.Aml {
  return aml.device(
    "MBRD",
    aml.name("_HID", aml.eisaId("PNP0C02")),
    aml.name("_UID", aml.integer(0)),
    aml.name("_CRS", aml.resourceTemplate(aml.memory32Fixed(ecam.base, ecam.bytes))),
  );
}
