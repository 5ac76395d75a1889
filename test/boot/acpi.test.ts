import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import { acpiTables } from "../../host/boot/acpi.js";
import type { BootLayout, PciHost, VirtioMmioWindow } from "../../host/boot/layout.js";
import { skip } from "../support/skip.js";
import { LAYOUT, throwsVmmError } from "./fixtures.js";

const WINDOWS = [
  { base: 0xd0000000, bytes: 4096, gsi: 16 },
  { base: 0xd0001000, bytes: 4096, gsi: 5 },
];

interface Options {
  layout?: BootLayout;
  cpuCount?: number;
  virtioMmio?: VirtioMmioWindow[];
  pci?: PciHost;
}

function tables(options: Options = {}): Buffer {
  const machine = { layout: LAYOUT, cpuCount: 2, virtioMmio: WINDOWS, ...options };
  return Buffer.from(acpiTables(machine).bytes);
}

/** Every table by signature, found as a guest finds them: from the RSDP. */
function walk(block: Buffer): Map<string, Buffer> {
  const at = (gpa: number) => {
    const offset = gpa - LAYOUT.acpi;
    return block.subarray(offset, offset + block.readUInt32LE(offset + 4));
  };
  const xsdt = at(Number(block.readBigUInt64LE(24)));
  const found = [xsdt];
  for (let i = 36; i < xsdt.length; i += 8) found.push(at(Number(xsdt.readBigUInt64LE(i))));
  const fadt = found.find((table) => signature(table) === "FACP");
  assert.ok(fadt, "an FADT");
  found.push(at(fadt.readUInt32LE(36)), at(Number(fadt.readBigUInt64LE(140))));
  return new Map(found.map((table) => [signature(table), table]));
}

function signature(table: Buffer): string {
  return table.toString("latin1", 0, 4);
}

function sum(bytes: Buffer): number {
  return bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
}

function table(name: string, options?: Options): Buffer {
  const found = walk(tables(options)).get(name);
  assert.ok(found, `a table ${name}`);
  return found;
}

test("acpiTables() starts with a revision 2 RSDP", () => {
  const rsdp = tables().subarray(0, 36);
  assert.equal(rsdp.toString("latin1", 0, 8), "RSD PTR ");
  assert.equal(rsdp[15], 2);
  assert.equal(sum(rsdp.subarray(0, 20)), 0);
  assert.equal(sum(rsdp), 0);
});

test("acpiTables() links XSDT, FADT, MADT, FACS and DSDT, all with sound checksums", () => {
  const found = walk(tables());
  assert.deepEqual([...found.keys()], ["XSDT", "FACP", "APIC", "FACS", "DSDT"]);
  found.delete("FACS"); // has none
  for (const [name, bytes] of found) assert.equal(sum(bytes), 0, name);
});

test("acpiTables() describes one local APIC a CPU", () => {
  const madt = table("APIC", { cpuCount: 254 });
  assert.equal(madt.readUInt32LE(36), LAYOUT.lapic);
  const ids = Array.from({ length: 254 }, (_, i) => madt.subarray(44 + i * 8, 52 + i * 8));
  for (const [i, entry] of ids.entries()) {
    assert.deepEqual([...entry], [0, 8, i, i, 1, 0, 0, 0]);
  }
  assert.equal(madt[44 + 254 * 8], 1, "then the I/O APIC");
});

for (const cpuCount of [0, 255, 1.5]) {
  test(`acpiTables() refuses ${cpuCount} CPUs`, () => {
    throwsVmmError(() => tables({ cpuCount }), "ERR_MEMORY_LAYOUT", /1 to 254 are possible/);
  });
}

test("acpiTables() refuses more devices than its room takes", () => {
  const virtioMmio = Array.from({ length: 4000 }, () => ({
    base: 0xd0000000,
    bytes: 4096,
    gsi: 5,
  }));
  throwsVmmError(() => tables({ virtioMmio }), "ERR_MEMORY_LAYOUT", /4000 devices, their tables/);
});

test("acpiTables() tells which legacy parts there are", () => {
  const flags = (options: Partial<BootLayout>) => {
    return table("FACP", { layout: { ...LAYOUT, ...options } }).readUInt16LE(109);
  };
  assert.equal(flags({ has8042: false, hasCmosRtc: true }), 0b000101);
  assert.equal(flags({ has8042: true, hasCmosRtc: false }), 0b100111);
  const TWO_BUTTONS = 0x30;
  const SLEEP_BUTTON = 0x20; // whose bit means that it is not among the fixed registers
  assert.equal(table("FACP").readUInt32LE(112) & TWO_BUTTONS, SLEEP_BUTTON);
  const madt = (has8259: boolean) => table("APIC", { layout: { ...LAYOUT, has8259 } });
  assert.equal(madt(true).readUInt32LE(40), 1);
  assert.equal(madt(false).readUInt32LE(40), 0);
});

/** Every table as ASL, or nothing without iasl (Debian package acpica-tools). */
function disassembled(options?: Options): Record<string, string> | undefined {
  const folder = mkdtempSync(join(tmpdir(), "bulkhead-acpi-"));
  try {
    const text: Record<string, string> = {};
    for (const [name, bytes] of walk(tables(options))) {
      writeFileSync(join(folder, `${name}.aml`), bytes);
      const iasl = spawnSync("iasl", ["-d", `${name}.aml`], { cwd: folder, encoding: "utf8" });
      if (iasl.error !== undefined) return undefined;
      assert.equal(iasl.status, 0, iasl.stderr);
      text[name] = readFileSync(join(folder, `${name}.dsl`), "utf8");
      assert.doesNotMatch(text[name], /Invalid|Warning|Error|Unknown|\*\*\*\*/, text[name]);
    }
    const args = ["-we", "-p", "again", "DSDT.dsl"];
    const again = spawnSync("iasl", args, { cwd: folder, encoding: "utf8" });
    assert.equal(again.status, 0, again.stdout + again.stderr);
    const original = readFileSync(join(folder, "DSDT.aml")).subarray(36);
    const compiled = readFileSync(join(folder, "again.aml")).subarray(36);
    assert.deepEqual(compiled, original, "iasl compiles the DSDT to the same AML");
    return text;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** `text` without comments and with single spaces. */
function plain(text: string): string {
  return text
    .replace(/\/\*.*?\*\//gs, "")
    .replace(/\/\/.*$/gm, "")
    .replace(/\s+/g, " ");
}

test("acpiTables() makes a DSDT that iasl reads as it was meant", () => {
  const dsdt = plain(disassembled()?.DSDT ?? "");
  if (dsdt === "") return skip("no iasl (acpica-tools) to disassemble the DSDT with");
  for (const part of [
    "Name (_S5, Package (0x04) { 0x05, 0x05, Zero, Zero })",
    "Scope (_SB)",
    'Name (_HID, EisaId ("PNP0501") ) Name (_UID, One)',
    "IO (Decode16, 0x03F8, 0x03F8, 0x01, 0x08, ) IRQNoFlags () {4}",
    'Device (V000) { Name (_HID, "LNRO0005") Name (_UID, Zero)',
    "Memory32Fixed (ReadWrite, 0xD0000000, 0x00001000, )",
    "Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, ) { 0x00000010, }",
    'Device (V001) { Name (_HID, "LNRO0005") Name (_UID, One)',
    "0xD0001000",
    "{ 0x00000005, }",
  ]) {
    assert.ok(dsdt.includes(part), `${part}\nin\n${dsdt}`);
  }
});

test("acpiTables() says of an interrupt whether other windows have it too", () => {
  const virtioMmio = [16, 17, 16].map((gsi, i) => {
    return { base: 0xd0000000 + i * 4096, bytes: 4096, gsi };
  });
  const text = disassembled({ virtioMmio });
  if (text === undefined) return skip("no iasl (acpica-tools) to disassemble the DSDT with");
  const kinds = [...text.DSDT!.matchAll(/ActiveHigh, (\w+)/g)].map(([, kind]) => kind);
  assert.deepEqual(kinds, ["Shared", "Exclusive", "Shared"]);
});

test("acpiTables() encodes packages of every length", () => {
  for (const count of [0, 1, 60, 1000]) {
    const virtioMmio = Array.from({ length: count }, (_, i) => {
      return { base: 0xd0000000 + i * 4096, bytes: 4096, gsi: 16 };
    });
    const text = disassembled({ virtioMmio });
    if (text === undefined) return skip("no iasl (acpica-tools) to disassemble the DSDT with");
    assert.equal(text.DSDT?.match(/Device \(V/g)?.length ?? 0, count);
  }
});

const PCI = {
  memory: { base: 0xd0000000, bytes: 0x10000000 },
  ecam: { base: 0xe0000000, bytes: 0x100000 },
  configPort: 0xcf8,
  slots: [
    { slot: 1, gsi: 16 },
    { slot: 2, gsi: 17 },
  ],
};

test("acpiTables() makes a PCI host bridge and an MCFG that iasl reads as they were meant", () => {
  const text = disassembled({ pci: PCI });
  if (text === undefined) return skip("no iasl (acpica-tools) to disassemble the tables with");
  const dsdt = plain(text.DSDT ?? "");
  for (const part of [
    'Device (PCI0) { Name (_HID, EisaId ("PNP0A03") )',
    "WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0x0000, 0x0000, 0x0000,",
    "IO (Decode16, 0x0CF8, 0x0CF8, 0x01, 0x08, )",
    "DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, " +
      "0x00000000, 0xD0000000, 0xDFFFFFFF, 0x00000000, 0x10000000,",
    "Package (0x04) { 0x0001FFFF, Zero, Zero, 0x10 }, " +
      "Package (0x04) { 0x0002FFFF, Zero, Zero, 0x11 }",
    'Device (MBRD) { Name (_HID, EisaId ("PNP0C02") )',
    "Memory32Fixed (ReadWrite, 0xE0000000, 0x00100000, )",
  ]) {
    assert.ok(dsdt.includes(part), `${part}\nin\n${dsdt}`);
  }
  const mcfg = text.MCFG ?? "";
  assert.match(mcfg, /Base Address : 00000000E0000000/);
  assert.match(mcfg, /Start Bus Number : 00.*End Bus Number : 00/s);
});

test("acpiTables() makes an FADT and a MADT that iasl reads as they were meant", () => {
  const text = disassembled();
  if (text === undefined) return skip("no iasl (acpica-tools) to disassemble the tables with");
  const field = (name: string, value: string) => new RegExp(`${name} : ${value}\\b`);
  const fadt = text.FACP ?? "";
  for (const [name, value] of [
    ["SCI Interrupt", "0009"],
    ["PM1A Event Block Address", "00000600"],
    ["PM1A Control Block Address", "00000604"],
    ["PM1 Event Block Length", "04"],
    ["PM1 Control Block Length", "02"],
    [String.raw`Reset Register Supported \(V2\)`, "1"],
    [String.raw`Control Method Power Button \(V1\)`, "0"],
    [String.raw`Control Method Sleep Button \(V1\)`, "1"],
    [String.raw`Headless - No Video \(V3\)`, "1"],
    [String.raw`Hardware Reduced \(V5\)`, "0"],
    ["Value to cause reset", "FE"],
    ["Hypervisor ID", "444145484B4C5542"],
  ] as const) {
    assert.match(fadt, field(name, value));
  }
  const madt = text.APIC ?? "";
  assert.match(madt, field("Local Apic Address", "FEE00000"));
  assert.match(madt, field("Address", "FEC00000"));
  assert.doesNotMatch(madt, /Source : 00/, "KVM wires the timer to pin 0");
  assert.match(madt, /Source : 09.*?Interrupt : 00000009.*?Polarity : 1.*?Trigger Mode : 3/s);
  assert.match(madt, field("Interrupt Input LINT", "01"));
});

test.run();
