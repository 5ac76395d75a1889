// Kernel images made to measure, and the machine that they boot on.

import assert from "node:assert/strict";
import { Elf64_Ehdr, Elf64_Nhdr, Elf64_Phdr } from "../../host/boot/elf.js";
import type { BootLayout } from "../../host/boot/layout.js";
import { setup_header } from "../../host/boot/params.js";
import { type BootOptions, type BootPlan, planBoot } from "../../host/boot/plan.js";
import { type ErrorCode, VmmError } from "../../host/errors.js";

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

export const LAYOUT: BootLayout = {
  conventionalEnd: 0xa0000,
  extendedStart: 0x100000,
  lowRamEnd: 0xd0000000,
  highRamStart: 4 * GIB,
  gdt: 0x500,
  startInfo: 0x6000,
  bootParams: 0x7000,
  pageTables: 0x9000,
  cmdline: 0x20000,
  cmdlineBytes: 4096,
  acpi: 0xe0000,
  acpiEnd: 0x100000,
  lapic: 0xfee00000,
  ioapic: 0xfec00000,
  sciGsi: 9,
  pm1aEventPort: 0x600,
  pm1aControlPort: 0x604,
  sleepTypeS5: 5,
  resetPort: 0x64,
  resetValue: 0xfe,
  serialPort: 0x3f8,
  serialGsi: 4,
  has8259: true,
  has8042: false,
  hasCmosRtc: true,
};

export interface ElfSegment {
  type: number;
  paddr: bigint;
  data: Uint8Array;
  memsz: bigint;
  align: bigint;
}

export const PT_LOAD = 1;
export const PT_NOTE = 4;

/** A segment to load at `paddr`; `memsz` is the size of `data` unless given. */
export function load(
  paddr: number | bigint,
  data: Uint8Array,
  memsz?: number | bigint,
): ElfSegment {
  const size = BigInt(memsz ?? data.length);
  return { type: PT_LOAD, paddr: BigInt(paddr), data, memsz: size, align: 4096n };
}

/** A segment of notes. */
export function notes(data: Uint8Array, align = 4n): ElfSegment {
  return { type: PT_NOTE, paddr: 0n, data, memsz: BigInt(data.length), align };
}

/** One ELF note, padded to `align`. */
export function note(
  name: string,
  type: number,
  { desc, align = 4 }: { desc: Uint8Array; align?: number },
): Uint8Array {
  const pad = (size: number) => Math.ceil(size / align) * align;
  const descStart = pad(Elf64_Nhdr.size + name.length);
  const whole = new Uint8Array(pad(descStart + desc.length));
  whole.set(Elf64_Nhdr.encode({ n_namesz: name.length, n_descsz: desc.length, n_type: type }));
  whole.set(Buffer.from(name, "latin1"), Elf64_Nhdr.size);
  whole.set(desc, descStart);
  return whole;
}

/** The bytes of a little-endian number. */
export function littleEndian(value: number | bigint, bytes: number): Uint8Array {
  const buffer = new Uint8Array(8);
  new DataView(buffer.buffer).setBigUint64(0, BigInt(value), true);
  return buffer.subarray(0, bytes);
}

/** The PVH note with a 32-bit entry, as an assembler writes it. */
export function pvhNote(entry: number): Uint8Array {
  return note("Xen\0", 18, { desc: littleEndian(entry, 4) });
}

type Ehdr = Parameters<typeof Elf64_Ehdr.encode>[0];
type Phdr = Parameters<typeof Elf64_Phdr.encode>[0];

/** An ELF64 file; `header` and `headers[i]` replace fields after everything else is computed. */
export function elf(
  segments: ElfSegment[],
  options: { entry?: number | bigint; header?: Ehdr; headers?: Phdr[] } = {},
): Uint8Array {
  const first = Elf64_Ehdr.size;
  let offset = first + segments.length * Elf64_Phdr.size;
  const headers: Uint8Array[] = [];
  for (const [i, { type, paddr, data, memsz, align }] of segments.entries()) {
    headers.push(
      Elf64_Phdr.encode({
        p_type: type,
        p_flags: 7,
        p_offset: BigInt(offset),
        p_vaddr: paddr,
        p_paddr: paddr,
        p_filesz: BigInt(data.length),
        p_memsz: memsz,
        p_align: align,
        ...options.headers?.[i],
      }),
    );
    offset += data.length;
  }
  const header = Elf64_Ehdr.encode({
    e_ident: Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1, 1),
    e_type: 2,
    e_machine: 62,
    e_version: 1,
    e_entry: BigInt(options.entry ?? segments[0]?.paddr ?? 0),
    e_phoff: BigInt(first),
    e_ehsize: first,
    e_phentsize: Elf64_Phdr.size,
    e_phnum: segments.length,
    ...options.header,
  });
  return Buffer.concat([header, ...headers, ...segments.map(({ data }) => data)]);
}

type Header = Parameters<typeof setup_header.encode>[0];

export const BZIMAGE_SECTS = 4;

/** A bzImage with `kernelBytes` of 0xf4 (hlt); `header` replaces fields of a sound setup header. */
export function bzImage(header: Header = {}, kernelBytes = 8 * KIB): Uint8Array {
  const start = (1 + BZIMAGE_SECTS) * 512;
  const file = new Uint8Array(start + kernelBytes).fill(0xf4, start);
  // Real-mode code lies around the header and must not reach boot_params: the sentinel at 0x1ef.
  file.fill(0xff, 0, 0x1f1);
  file.fill(0xcc, 0x1f1 + setup_header.size, start);
  const encoded = setup_header.encode({
    setup_sects: BZIMAGE_SECTS,
    syssize: kernelBytes / 16,
    boot_flag: 0xaa55,
    jump: 0x6aeb,
    header: 0x53726448,
    version: 0x20f,
    loadflags: 0x03,
    initrd_addr_max: 0x7fffffff,
    kernel_alignment: 0x200000,
    relocatable_kernel: 1,
    xloadflags: 0x03,
    cmdline_size: 2047,
    setup_data: 0x1234n,
    pref_address: 0x1000000n,
    init_size: 0x100000,
    ...header,
  });
  file.set(encoded, 0x1f1);
  return file;
}

/** Boots `kernel` on 64 MiB with one CPU and no devices, unless told otherwise. */
export function plan(kernel: Uint8Array, options: Partial<BootOptions> = {}): BootPlan {
  return planBoot({
    kernel,
    cmdline: "console=ttyS0",
    memoryBytes: 64 * MIB,
    cpuCount: 1,
    layout: LAYOUT,
    virtioMmio: [],
    ...options,
  });
}

/** The bytes of the segment called `name`. */
export function segment(plan: BootPlan, name: string): { gpa: number; view: DataView } {
  const found = plan.segments.find((candidate) => candidate.name === name);
  assert.ok(found, `a segment "${name}"`);
  const { buffer, byteOffset, byteLength } = found.bytes;
  return { gpa: found.gpa, view: new DataView(buffer, byteOffset, byteLength) };
}

/** Asserts that `fn` fails with this code and a message that matches. */
export function throwsVmmError(fn: () => unknown, code: ErrorCode, message: RegExp): void {
  assert.throws(fn, (error: unknown) => {
    assert.ok(error instanceof VmmError, `a VmmError, not ${String(error)}`);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  });
}
