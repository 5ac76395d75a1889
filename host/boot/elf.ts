// ELF64 executables: an uncompressed vmlinux, or anything linked to run on bare x86-64. With a PVH
// note it is entered by that note, otherwise at e_entry by the 64-bit Linux protocol.

import { bytes, struct, u16, u32, u64 } from "../ffi/struct.js";
import {
  alignUp,
  CMDLINE_BYTES_MAX,
  checkedNumber,
  hex,
  type KernelImage,
  readStruct,
  refuse,
  type Segment,
  slice,
} from "./image.js";
import { LOADED_HIGH, setup_header } from "./params.js";

/** Program headers of one image: a vmlinux has 5, and placing n segments takes n² comparisons. */
export const PROGRAM_HEADERS_MAX = 64;

/** Notes of one image: a vmlinux has 512 bytes, and the walk visits every one of them. */
export const NOTES_BYTES_MAX = 64 * 1024;

const EI_CLASS = 4;
const EI_DATA = 5;
const EI_VERSION = 6;
const ELFCLASS64 = 2;
const ELFDATA2LSB = 1;
const EV_CURRENT = 1;
const ET_EXEC = 2;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;
/** Where a PVH kernel wants to be entered (xen/include/public/elfnote.h). */
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

export const Elf64_Ehdr = struct("Elf64_Ehdr", 64, {
  e_ident: bytes(16),
  e_type: u16,
  e_machine: u16,
  e_version: u32,
  e_entry: u64,
  e_phoff: u64,
  e_shoff: u64,
  e_flags: u32,
  e_ehsize: u16,
  e_phentsize: u16,
  e_phnum: u16,
  e_shentsize: u16,
  e_shnum: u16,
  e_shstrndx: u16,
});

export const Elf64_Phdr = struct("Elf64_Phdr", 56, {
  p_type: u32,
  p_flags: u32,
  p_offset: u64,
  p_vaddr: u64,
  p_paddr: u64,
  p_filesz: u64,
  p_memsz: u64,
  p_align: u64,
});

export const Elf64_Nhdr = struct("Elf64_Nhdr", 12, { n_namesz: u32, n_descsz: u32, n_type: u32 });

type Ehdr = ReturnType<typeof Elf64_Ehdr.read>;
type Phdr = ReturnType<typeof Elf64_Phdr.read>;

/** Whether `file` begins as an ELF file does. */
export function isElf(file: Uint8Array): boolean {
  return file[0] === 0x7f && file[1] === 0x45 && file[2] === 0x4c && file[3] === 0x46;
}

/**
 * Reads an ELF64 x86-64 executable.
 *
 * @throws VmmError ERR_KERNEL_IMAGE that says what is wrong with it
 */
export function readElf(file: Uint8Array): KernelImage {
  const header = readHeader(file);
  const headers = readProgramHeaders(file, header);
  const segments = headers.flatMap((phdr, i) => readSegment(file, phdr, i));
  if (segments.length === 0) refuse("the ELF file has no PT_LOAD segment");
  const pvhEntry = findPvhEntry(file, headers);
  const entry = pvhEntry ?? checkedNumber(header.e_entry, "e_entry");
  requireLoaded(segments, entry, pvhEntry === undefined ? "e_entry" : "the PVH entry");
  return {
    mode: pvhEntry === undefined ? "long64" : "pvh32",
    entry,
    segments,
    cmdlineBytesMax: CMDLINE_BYTES_MAX,
    // PVH Linux keeps the module's address in 32 bits, and a bare vmlinux makes no promise.
    initrdAddrMax: 0xffffffff,
    initrdAnywhere: false,
    setupHeader: setup_header.encode({
      boot_flag: 0xaa55,
      header: 0x53726448,
      version: 0x20c,
      loadflags: LOADED_HIGH,
    }),
  };
}

function readHeader(file: Uint8Array): Ehdr {
  const header = readStruct(file, Elf64_Ehdr, { offset: 0, what: "the ELF header" });
  const ident = header.e_ident;
  if (ident[EI_CLASS] !== ELFCLASS64) {
    refuse(`ELF class is ${ident[EI_CLASS]}, not ELFCLASS64, is it a 32-bit program?`);
  }
  if (ident[EI_DATA] !== ELFDATA2LSB) {
    refuse(`ELF data encoding is ${ident[EI_DATA]}, not little-endian`);
  }
  if (ident[EI_VERSION] !== EV_CURRENT || header.e_version !== EV_CURRENT) {
    refuse(`ELF version is ${ident[EI_VERSION]}/${header.e_version}, not 1`);
  }
  if (header.e_machine !== EM_X86_64) {
    refuse(`ELF machine is ${header.e_machine}, not EM_X86_64 (62), is it for this CPU?`);
  }
  if (header.e_type !== ET_EXEC) {
    refuse(`ELF type is ${header.e_type}, not ET_EXEC (2), link it statically and without -pie`);
  }
  return header;
}

function readProgramHeaders(file: Uint8Array, header: Ehdr): Phdr[] {
  if (header.e_phentsize !== Elf64_Phdr.size) {
    refuse(`e_phentsize is ${header.e_phentsize}, not ${Elf64_Phdr.size}`);
  }
  if (header.e_phnum > PROGRAM_HEADERS_MAX) {
    refuse(`it has ${header.e_phnum} program headers, at most ${PROGRAM_HEADERS_MAX} are read`);
  }
  const start = checkedNumber(header.e_phoff, "e_phoff");
  return Array.from({ length: header.e_phnum }, (_, i) => {
    const offset = start + i * Elf64_Phdr.size;
    return readStruct(file, Elf64_Phdr, { offset, what: `program header ${i}` });
  });
}

function readSegment(file: Uint8Array, phdr: Phdr, index: number): Segment[] {
  if (phdr.p_type !== PT_LOAD) return [];
  const name = `kernel segment ${index}`;
  const memsz = checkedNumber(phdr.p_memsz, `p_memsz of ${name}`);
  if (phdr.p_filesz > phdr.p_memsz) {
    refuse(`${name} has p_filesz ${hex(phdr.p_filesz)}, more than its p_memsz ${hex(memsz)}`);
  }
  if (memsz === 0) return [];
  const filesz = Number(phdr.p_filesz);
  const offset = checkedNumber(phdr.p_offset, `p_offset of ${name}`);
  const gpa = checkedNumber(phdr.p_paddr, `p_paddr of ${name}`);
  return [
    {
      name,
      gpa,
      bytes: slice(file, offset, { bytes: filesz, what: name }),
      zeroBytes: memsz - filesz,
    },
  ];
}

/** An entry outside the bytes of the file would run whatever lies there: zeros, or nothing. */
function requireLoaded(segments: Segment[], entry: number, what: string): void {
  const inside = segments.some(({ gpa, bytes }) => entry >= gpa && entry < gpa + bytes.length);
  if (!inside) refuse(`${what} ${hex(entry)} is in none of its segments`);
}

function findPvhEntry(file: Uint8Array, headers: Phdr[]): number | undefined {
  for (const [i, phdr] of headers.entries()) {
    if (phdr.p_type !== PT_NOTE) continue;
    const what = `note segment ${i}`;
    const size = checkedNumber(phdr.p_filesz, `p_filesz of ${what}`);
    if (size > NOTES_BYTES_MAX) {
      refuse(`${what} has ${size} bytes, at most ${NOTES_BYTES_MAX} are read`);
    }
    const offset = checkedNumber(phdr.p_offset, `p_offset of ${what}`);
    const notes = slice(file, offset, { bytes: size, what });
    const entry = findPvhNote(notes, phdr.p_align === 8n ? 8 : 4);
    if (entry !== undefined) return entry;
  }
  return undefined;
}

/** Walks notes: header, name, descriptor, the last two padded to `align` (gABI, "Note Section"). */
function findPvhNote(notes: Uint8Array, align: number): number | undefined {
  let offset = 0;
  while (offset < notes.length) {
    const what = `the ELF note at ${hex(offset)}`;
    const note = readStruct(notes, Elf64_Nhdr, { offset, what });
    const nameStart = offset + Elf64_Nhdr.size;
    const name = slice(notes, nameStart, { bytes: note.n_namesz, what });
    const descStart = alignUp(nameStart + note.n_namesz, align);
    const desc = slice(notes, descStart, { bytes: note.n_descsz, what });
    if (note.n_type === XEN_ELFNOTE_PHYS32_ENTRY && isXen(name)) return readPvhEntry(desc);
    offset = alignUp(descStart + note.n_descsz, align);
  }
  return undefined;
}

function isXen(name: Uint8Array): boolean {
  return name.length === 4 && String.fromCharCode(...name) === "Xen\0";
}

/** The note holds a 32-bit address, in as many bytes as a pointer of the kernel has. */
function readPvhEntry(desc: Uint8Array): number {
  if (desc.length !== 4 && desc.length !== 8) {
    refuse(`the PVH note has ${desc.length} bytes, not 4 or 8`);
  }
  const view = new DataView(desc.buffer, desc.byteOffset, desc.byteLength);
  const high = desc.length === 8 ? view.getUint32(4, true) : 0;
  if (high !== 0) refuse(`the PVH entry is above 4 GiB (high word ${hex(high)})`);
  return view.getUint32(0, true);
}
