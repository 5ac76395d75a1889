import assert from "node:assert/strict";
import { test } from "uvu";
import { boot_params } from "../../host/boot/params.js";
import { hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info } from "../../host/boot/pvh.js";
import {
  elf,
  LAYOUT,
  littleEndian,
  load,
  MIB,
  note,
  notes,
  plan,
  pvhNote,
  segment,
  throwsVmmError,
} from "./fixtures.js";

const CODE = new Uint8Array(64).fill(0xf4);
const sound = () => elf([load(MIB, CODE)]);

function refused(kernel: Uint8Array, message: RegExp): void {
  throwsVmmError(() => plan(kernel), "ERR_KERNEL_IMAGE", message);
}

test("planBoot() enters an ELF file without a note at e_entry, in long mode", () => {
  const kernel = elf([load(MIB, CODE), load(2 * MIB, CODE, 8192)], { entry: MIB + 16 });
  const result = plan(kernel);
  assert.ok(result.mode === "long64");
  assert.equal(result.entry, MIB + 16);
  assert.equal(result.bootParamsGpa, LAYOUT.bootParams);
  assert.equal(result.pageTablesGpa, LAYOUT.pageTables);
  const second = result.segments.find(({ name }) => name === "kernel segment 1");
  assert.equal(second?.gpa, 2 * MIB);
  assert.deepEqual(Buffer.from(second?.bytes ?? []), Buffer.from(CODE));
  assert.equal(second?.zeroBytes, 8192 - 64);
});

test("planBoot() gives an ELF kernel a setup header that Linux accepts", () => {
  const result = plan(sound(), { initrd: new Uint8Array(5000) });
  const params = boot_params.read(segment(result, "boot_params").view, 0);
  assert.equal(params.hdr.boot_flag, 0xaa55);
  assert.equal(params.hdr.header, 0x53726448);
  assert.equal(params.hdr.type_of_loader, 0xff);
  assert.equal(params.hdr.cmd_line_ptr, LAYOUT.cmdline);
  assert.equal(params.hdr.ramdisk_image, 64 * MIB - 8192);
  assert.equal(params.hdr.ramdisk_size, 5000);
  assert.equal(params.acpi_rsdp_addr, BigInt(LAYOUT.acpi));
});

test("planBoot() enters an ELF file with a PVH note at the note's address", () => {
  const kernel = elf([load(MIB, CODE), notes(pvhNote(MIB + 32))]);
  const result = plan(kernel, { initrd: new Uint8Array(5000) });
  assert.ok(result.mode === "pvh32");
  assert.equal(result.entry, MIB + 32);
  assert.equal(result.gdt.code.db, 1);
  const { gpa, view } = segment(result, "hvm_start_info");
  assert.equal(gpa, result.startInfoGpa);
  const info = hvm_start_info.read(view, 0);
  assert.equal(info.magic, 0x336ec578);
  assert.equal(info.version, 1);
  assert.equal(info.cmdline_paddr, BigInt(LAYOUT.cmdline));
  assert.equal(info.rsdp_paddr, BigInt(LAYOUT.acpi));
  assert.equal(info.nr_modules, 1);
  const module = hvm_modlist_entry.read(view, Number(info.modlist_paddr) - gpa);
  assert.equal(module.paddr, BigInt(64 * MIB - 8192));
  assert.equal(module.size, 5000n);
  const map = Array.from({ length: info.memmap_entries }, (_, i) =>
    hvm_memmap_table_entry.read(view, Number(info.memmap_paddr) - gpa + i * 24),
  );
  assert.deepEqual(
    map.map(({ addr, size, type }) => [addr, addr + size, type]),
    [
      [0n, 0xa0000n, 1],
      [0xa0000n, 0x100000n, 2],
      [0x100000n, BigInt(64 * MIB), 1],
    ],
  );
});

test("planBoot() tells a PVH kernel of no module when there is no initrd", () => {
  const result = plan(elf([load(MIB, CODE), notes(pvhNote(MIB))]));
  const info = hvm_start_info.read(segment(result, "hvm_start_info").view, 0);
  assert.equal(info.nr_modules, 0);
  assert.equal(info.modlist_paddr, 0n);
});

test("planBoot() finds a PVH note of 8 bytes behind other notes", () => {
  const others = [
    note("GNU\0", 3, { desc: new Uint8Array(20) }),
    note("Xen\0", 6, { desc: Buffer.from("linux\0") }),
    note("Xen", 18, { desc: littleEndian(4, 4) }),
  ];
  const pvh = note("Xen\0", 18, { desc: littleEndian(MIB + 8, 8) });
  const result = plan(elf([load(MIB, CODE), notes(Buffer.concat([...others, pvh]))]));
  assert.equal(result.mode, "pvh32");
  assert.equal(result.entry, MIB + 8);
});

test("planBoot() finds a PVH note in a segment aligned to 8", () => {
  const other = note("GNU\0", 5, { desc: new Uint8Array(12), align: 8 });
  const pvh = note("Xen\0", 18, { desc: littleEndian(MIB + 8, 4), align: 8 });
  const result = plan(elf([load(MIB, CODE), notes(Buffer.concat([other, pvh]), 8n)]));
  assert.equal(result.entry, MIB + 8);
});

test("planBoot() skips PT_LOAD segments without memory", () => {
  const result = plan(elf([load(MIB, CODE), load(0, new Uint8Array(0))]));
  assert.equal(result.segments.filter(({ name }) => name.startsWith("kernel")).length, 1);
});

test("planBoot() refuses an empty file", () => {
  refused(new Uint8Array(0), /neither ELF64 nor bzImage/);
});

test("planBoot() refuses a file that is neither ELF nor bzImage", () => {
  refused(Uint8Array.of(0x1f, 0x8b, 8, 0), /starts with \[1f 8b 08 00\].*is it compressed/);
});

test("planBoot() refuses an ELF file cut off in its header", () => {
  refused(sound().subarray(0, 63), /the ELF header .* past the file's 63 bytes/);
});

test("planBoot() refuses an ELF file cut off in its program headers", () => {
  refused(sound().subarray(0, 64 + 55), /program header 0 .* is it truncated/);
});

test("planBoot() refuses an ELF file cut off in a segment", () => {
  refused(sound().subarray(0, 64 + 56 + 63), /kernel segment 0 .* is it truncated/);
});

test("planBoot() refuses 32-bit ELF files", () => {
  refused(sound().fill(1, 4, 5), /ELF class is 1, not ELFCLASS64/);
});

test("planBoot() refuses big-endian ELF files", () => {
  refused(sound().fill(2, 5, 6), /not little-endian/);
});

test("planBoot() refuses an unknown ELF version", () => {
  refused(elf([load(MIB, CODE)], { header: { e_version: 2 } }), /ELF version is 1\/2/);
});

test("planBoot() refuses ELF files for another CPU", () => {
  refused(elf([load(MIB, CODE)], { header: { e_machine: 183 } }), /machine is 183/);
});

test("planBoot() refuses position-independent ELF files", () => {
  refused(elf([load(MIB, CODE)], { header: { e_type: 3 } }), /type is 3, not ET_EXEC/);
});

test("planBoot() refuses program headers of another size", () => {
  refused(elf([load(MIB, CODE)], { header: { e_phentsize: 32 } }), /e_phentsize is 32/);
});

test("planBoot() refuses more program headers than it would compare with each other", () => {
  refused(elf([load(MIB, CODE)], { header: { e_phnum: 65535 } }), /65535 program headers/);
});

test("planBoot() refuses program headers beyond 2^53", () => {
  refused(elf([load(MIB, CODE)], { header: { e_phoff: 2n ** 64n - 56n } }), /e_phoff is 0xff/);
});

test("planBoot() refuses program headers whose offset is just below 2^53", () => {
  refused(elf([load(MIB, CODE)], { header: { e_phoff: 2n ** 53n - 1n } }), /past the file's/);
});

test("planBoot() refuses an ELF file without a segment to load", () => {
  refused(elf([notes(pvhNote(MIB))]), /no PT_LOAD segment/);
});

test("planBoot() refuses a segment with more bytes in the file than in memory", () => {
  refused(elf([load(MIB, CODE, 63)]), /p_filesz 0x40, more than its p_memsz 0x3f/);
});

test("planBoot() refuses a segment whose offset wraps around 2^64", () => {
  const headers = [{ p_offset: 2n ** 64n - 16n }];
  refused(elf([load(MIB, CODE)], { headers }), /p_offset of kernel segment 0 is 0xfff/);
});

test("planBoot() refuses a segment whose offset and size add up to more than 2^53", () => {
  const headers = [{ p_offset: 2n ** 53n - 1n, p_filesz: 2n ** 53n - 1n, p_memsz: 2n ** 53n - 1n }];
  refused(elf([load(MIB, CODE)], { headers }), /past the file's/);
});

test("planBoot() refuses a segment whose address is no number", () => {
  refused(elf([load(2n ** 64n - 4096n, CODE)]), /p_paddr of kernel segment 0 is 0xfff/);
});

test("planBoot() refuses a segment whose address and size add up to more than 2^53", () => {
  const kernel = elf([load(MIB, CODE), load(2n ** 53n - 1n, CODE, 2n ** 53n - 1n)]);
  throwsVmmError(() => plan(kernel), "ERR_MEMORY_LAYOUT", /not in usable RAM/);
});

test("planBoot() refuses a segment beyond the end of RAM", () => {
  const kernel = elf([load(64 * MIB - 32, CODE)]);
  throwsVmmError(() => plan(kernel), "ERR_MEMORY_LAYOUT", /has the guest enough memory/);
});

test("planBoot() refuses a segment whose zeros reach beyond the end of RAM", () => {
  const kernel = elf([load(MIB, CODE, 64 * MIB)]);
  throwsVmmError(() => plan(kernel), "ERR_MEMORY_LAYOUT", /0x100000\+0x4000000/);
});

test("planBoot() refuses a segment in the reserved part below 1 MiB", () => {
  const kernel = elf([load(0xf0000, CODE)]);
  throwsVmmError(() => plan(kernel), "ERR_MEMORY_LAYOUT", /not in usable RAM/);
});

test("planBoot() refuses a segment above 4 GiB, where the boot page tables do not reach", () => {
  const kernel = elf([load(4 * 1024 * MIB, CODE)]);
  const memoryBytes = 8 * 1024 * MIB;
  throwsVmmError(() => plan(kernel, { memoryBytes }), "ERR_MEMORY_LAYOUT", /below 4 GiB/);
});

test("planBoot() refuses segments that overlap each other", () => {
  const kernel = elf([load(MIB, CODE), load(MIB + 63, CODE)]);
  refused(kernel, /kernel segment 1 at 0x10003f\+0x40 overlaps kernel segment 0 at 0x100000/);
});

test("planBoot() refuses a segment whose zeros overlap another one", () => {
  refused(elf([load(MIB, CODE, 8192), load(MIB + 4096, CODE)]), /overlaps kernel segment 0/);
});

for (const [name, gpa] of [
  ["GDT", LAYOUT.gdt + 8],
  ["boot_params", LAYOUT.bootParams + 4095],
  ["page tables", LAYOUT.pageTables - 1],
  ["command line", LAYOUT.cmdline],
] as const) {
  test(`planBoot() refuses a segment that overlaps the ${name}`, () => {
    refused(elf([load(MIB, CODE), load(gpa, CODE)]), new RegExp(`overlaps ${name}`));
  });
}

test("planBoot() refuses a segment that overlaps the PVH start info", () => {
  const kernel = elf([load(MIB, CODE), load(LAYOUT.startInfo, CODE), notes(pvhNote(MIB))]);
  refused(kernel, /overlaps hvm_start_info/);
});

test("planBoot() refuses an entry outside all segments", () => {
  refused(elf([load(MIB, CODE)], { entry: MIB + 64 }), /e_entry 0x100040 is in none/);
});

test("planBoot() refuses an entry in the zeros behind a segment's bytes", () => {
  refused(elf([load(MIB, CODE, 4096)], { entry: MIB + 64 }), /e_entry 0x100040 is in none/);
});

test("planBoot() refuses an entry that is no number", () => {
  refused(elf([load(MIB, CODE)], { entry: 2n ** 64n - 1n }), /e_entry is 0xfff/);
});

test("planBoot() refuses a PVH entry outside all segments", () => {
  refused(elf([load(MIB, CODE), notes(pvhNote(2 * MIB))]), /the PVH entry 0x200000 is in none/);
});

test("planBoot() refuses a PVH entry above 4 GiB", () => {
  const desc = littleEndian(2n ** 32n + BigInt(MIB), 8);
  refused(elf([load(MIB, CODE), notes(note("Xen\0", 18, { desc }))]), /PVH entry is above 4 GiB/);
});

test("planBoot() refuses a PVH note whose header is cut off", () => {
  refused(elf([load(MIB, CODE), notes(pvhNote(MIB).subarray(0, 11))]), /the ELF note at 0x0/);
});

test("planBoot() refuses a PVH note whose name is cut off", () => {
  refused(elf([load(MIB, CODE), notes(pvhNote(MIB).subarray(0, 15))]), /the ELF note at 0x0/);
});

test("planBoot() refuses a PVH note whose address is cut off", () => {
  refused(elf([load(MIB, CODE), notes(pvhNote(MIB).subarray(0, 19))]), /the ELF note at 0x0/);
});

test("planBoot() refuses a PVH note with an address of an odd size", () => {
  const odd = note("Xen\0", 18, { desc: new Uint8Array(2) });
  refused(elf([load(MIB, CODE), notes(odd)]), /the PVH note has 2 bytes/);
});

test("planBoot() refuses a note whose sizes add up to more than 2^32", () => {
  const huge = pvhNote(MIB).fill(0xff, 0, 8);
  refused(elf([load(MIB, CODE), notes(huge)]), /the ELF note at 0x0/);
});

test("planBoot() refuses a note segment beyond the file", () => {
  const kernel = elf([load(MIB, CODE), notes(pvhNote(MIB))], { headers: [{}, { p_filesz: 100n }] });
  refused(kernel, /note segment 1 .* is it truncated/);
});

test("planBoot() refuses more notes than it would walk", () => {
  refused(elf([load(MIB, CODE), notes(new Uint8Array(65537))]), /has 65537 bytes, at most 65536/);
});

test.run();
