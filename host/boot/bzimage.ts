// bzImage, entered by the 64-bit boot protocol (Linux Documentation/arch/x86/boot.rst).

import {
  alignUp,
  checkedNumber,
  hex,
  type KernelImage,
  readStruct,
  refuse,
  slice,
} from "./image.js";
import {
  HDR_BYTES_MAX,
  HDR_OFFSET,
  LOADED_HIGH,
  setup_header,
  XLF_CAN_BE_LOADED_ABOVE_4G,
  XLF_KERNEL_64,
} from "./params.js";

const SECTOR_BYTES = 512;
const BOOT_FLAG = 0xaa55;
const HDRS = 0x53726448;
/** 2.12 (Linux 3.8) brought xloadflags, without which nobody can tell a 64-bit entry. */
const PROTOCOL_MIN = 0x20c;
/** Offset of the 64-bit entry in the protected-mode kernel. */
const ENTRY_64 = 0x200;
/** Where a bzImage goes that has no preference. */
const LOAD_ADDRESS = 0x100000;
/** The header ends as far behind this offset as the byte before it says (boot.rst). */
const HEADER_END_BASE = 0x202;

type SetupHeader = ReturnType<typeof setup_header.read>;

/** Whether `file` has the boot sector signature and the magic of a bzImage's setup header. */
/** Bytes from the start on in which isBzImage() finds all that it looks at. */
export const BZIMAGE_HEAD_BYTES = HDR_OFFSET + setup_header.size;

export function isBzImage(file: Uint8Array): boolean {
  if (file.length < HDR_OFFSET + setup_header.size) return false;
  const header = readHeader(file);
  return header.boot_flag === BOOT_FLAG && header.header === HDRS;
}

/**
 * Reads a bzImage.
 *
 * @throws VmmError ERR_KERNEL_IMAGE that says what is wrong with it
 */
export function readBzImage(file: Uint8Array): KernelImage {
  const header = readHeader(file);
  if (header.version < PROTOCOL_MIN) {
    const version = `${header.version >> 8}.${header.version & 0xff}`;
    refuse(`bzImage has boot protocol ${version}, older than 2.12, is it before Linux 3.8?`);
  }
  if ((header.loadflags & LOADED_HIGH) === 0) refuse("it is a zImage, not a bzImage");
  if ((header.xloadflags & XLF_KERNEL_64) === 0) {
    refuse("bzImage has no 64-bit entry (XLF_KERNEL_64), is it a 32-bit kernel?");
  }
  const bytes = protectedModeKernel(file, header);
  const gpa = loadAddress(header);
  return {
    mode: "long64",
    entry: gpa + ENTRY_64,
    // The kernel unpacks itself within init_size bytes, before it has looked at the memory map.
    segments: [
      { name: "kernel", gpa, bytes, zeroBytes: Math.max(0, header.init_size - bytes.length) },
    ],
    cmdlineBytesMax: header.cmdline_size,
    initrdAddrMax: header.initrd_addr_max,
    initrdAnywhere: (header.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G) !== 0,
    setupHeader: copyOfHeader(file),
  };
}

function readHeader(file: Uint8Array): SetupHeader {
  return readStruct(file, setup_header, { offset: HDR_OFFSET, what: "the bzImage setup header" });
}

/** What follows the real-mode sectors: at least syssize, then perhaps a signature. */
function protectedModeKernel(file: Uint8Array, header: SetupHeader): Uint8Array {
  const setupSects = header.setup_sects === 0 ? 4 : header.setup_sects;
  const start = (1 + setupSects) * SECTOR_BYTES;
  const bytes = header.syssize * 16;
  if (bytes <= ENTRY_64) refuse(`bzImage has syssize ${header.syssize}, no room for a kernel`);
  slice(file, start, { bytes, what: "the protected-mode kernel" });
  return file.subarray(start);
}

/** pref_address: a kernel that lies elsewhere moves itself there or, if relocatable, above it. */
function loadAddress(header: SetupHeader): number {
  const preferred = checkedNumber(header.pref_address, "pref_address") || LOAD_ADDRESS;
  if (header.relocatable_kernel === 0) return preferred;
  const align = header.kernel_alignment;
  if (align === 0 || (align & (align - 1)) !== 0) {
    refuse(`kernel_alignment is ${hex(align)}, not a power of two`);
  }
  return checkedNumber(BigInt(alignUp(preferred, align)), "the aligned pref_address");
}

/** The header as long as the image says it is: a newer one may have fields not known here. */
function copyOfHeader(file: Uint8Array): Uint8Array {
  const end = HEADER_END_BASE + (file[HEADER_END_BASE - 1] ?? 0);
  const bytes = end - HDR_OFFSET;
  // A shorter one would leave fields to be read from the real-mode code that follows it.
  if (bytes < setup_header.offsets.kernel_info_offset) {
    refuse(`the setup header ends at ${hex(end)}, too early for protocol 2.12`);
  }
  if (bytes > HDR_BYTES_MAX) {
    refuse(`the setup header ends at ${hex(end)}, more than boot_params has room for`);
  }
  return slice(file, HDR_OFFSET, { bytes, what: "the bzImage setup header" });
}
