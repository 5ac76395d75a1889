// struct boot_params, "the zero page": what a 64-bit Linux is told (<asm/bootparam.h>,
// Documentation/arch/x86/zero-page.rst).

import { assert } from "../errors.js";
import { array, bytes, struct, u8, u32, u64 } from "../ffi/struct.js";
import { packed, type Segment } from "./image.js";
import type { MemoryRange } from "./memory.js";

export const LOADED_HIGH = 1 << 0;
const KASLR_FLAG = 1 << 1;
export const XLF_KERNEL_64 = 1 << 0;
export const XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1;
export const E820_MAX_ENTRIES_ZEROPAGE = 128;
/** type_of_loader of a boot loader without an assigned number. */
const LOADER_UNDEFINED = 0xff;
/** vid_mode "normal". */
const VIDEO_NORMAL = 0xffff;

export const setup_header = struct("setup_header", 123, {
  setup_sects: u8,
  root_flags: packed.u16,
  syssize: packed.u32,
  ram_size: packed.u16,
  vid_mode: packed.u16,
  root_dev: packed.u16,
  boot_flag: packed.u16,
  jump: packed.u16,
  header: packed.u32,
  version: packed.u16,
  realmode_swtch: packed.u32,
  start_sys_seg: packed.u16,
  kernel_version: packed.u16,
  type_of_loader: u8,
  loadflags: u8,
  setup_move_size: packed.u16,
  code32_start: packed.u32,
  ramdisk_image: packed.u32,
  ramdisk_size: packed.u32,
  bootsect_kludge: packed.u32,
  heap_end_ptr: packed.u16,
  ext_loader_ver: u8,
  ext_loader_type: u8,
  cmd_line_ptr: packed.u32,
  initrd_addr_max: packed.u32,
  kernel_alignment: packed.u32,
  relocatable_kernel: u8,
  min_alignment: u8,
  xloadflags: packed.u16,
  cmdline_size: packed.u32,
  hardware_subarch: packed.u32,
  hardware_subarch_data: packed.u64,
  payload_offset: packed.u32,
  payload_length: packed.u32,
  setup_data: packed.u64,
  pref_address: packed.u64,
  init_size: packed.u32,
  handover_offset: packed.u32,
  kernel_info_offset: packed.u32,
});

export const boot_e820_entry = struct("boot_e820_entry", 20, {
  addr: packed.u64,
  size: packed.u64,
  type: packed.u32,
});

export const boot_params = struct("boot_params", 4096, {
  screen_info: bytes(64),
  apm_bios_info: bytes(20),
  _pad2: bytes(4),
  tboot_addr: u64,
  ist_info: bytes(16),
  acpi_rsdp_addr: u64,
  _pad3: bytes(8),
  hd0_info: bytes(16),
  hd1_info: bytes(16),
  sys_desc_table: bytes(16),
  olpc_ofw_header: bytes(16),
  ext_ramdisk_image: u32,
  ext_ramdisk_size: u32,
  ext_cmd_line_ptr: u32,
  _pad4: bytes(112),
  cc_blob_address: u32,
  edid_info: bytes(128),
  efi_info: bytes(32),
  alt_mem_k: u32,
  scratch: u32,
  e820_entries: u8,
  eddbuf_entries: u8,
  edd_mbr_sig_buf_entries: u8,
  kbd_status: u8,
  secure_boot: u8,
  _pad5: bytes(2),
  sentinel: u8,
  _pad6: bytes(1),
  hdr: setup_header,
  _pad7: bytes(0x290 - 0x1f1 - setup_header.size),
  edd_mbr_sig_buffer: array(u32, 16),
  e820_table: array(boot_e820_entry, E820_MAX_ENTRIES_ZEROPAGE),
  _pad8: bytes(48),
  eddbuf: bytes(492),
  _pad9: bytes(276),
});

/** Offset of the setup header in a bzImage and in boot_params alike. */
export const HDR_OFFSET = boot_params.offsets.hdr;
/** Room that boot_params has for a setup header, including versions still to come. */
export const HDR_BYTES_MAX = boot_params.offsets.edd_mbr_sig_buffer - HDR_OFFSET;

/** What goes into boot_params beyond the image's own header; addresses are guest-physical. */
export interface BootParamsContent {
  readonly setupHeader: Uint8Array;
  readonly kernel: number;
  readonly cmdline: number;
  readonly initrd: Segment | undefined;
  readonly rsdp: number;
  readonly map: readonly MemoryRange[];
}

/** The zero page, 4096 bytes. */
export function bootParams(content: BootParamsContent): Uint8Array {
  const { setupHeader, initrd, map } = content;
  assert(map.length <= E820_MAX_ENTRIES_ZEROPAGE, `${map.length} e820 entries`);
  assert(setupHeader.length <= HDR_BYTES_MAX, "a setup header larger than boot_params takes");
  const page = new Uint8Array(boot_params.size);
  page.set(setupHeader, HDR_OFFSET);
  const view = new DataView(page.buffer);
  const initrdGpa = BigInt(initrd?.gpa ?? 0);
  const initrdBytes = BigInt(initrd?.bytes.length ?? 0);
  boot_params.write(view, 0, {
    acpi_rsdp_addr: BigInt(content.rsdp),
    ext_ramdisk_image: high(initrdGpa),
    ext_ramdisk_size: high(initrdBytes),
    e820_entries: map.length,
    hdr: {
      vid_mode: VIDEO_NORMAL,
      type_of_loader: LOADER_UNDEFINED,
      // Only the decompressor may say that it has moved the kernel.
      loadflags: (page[HDR_OFFSET + setup_header.offsets.loadflags] ?? 0) & ~KASLR_FLAG,
      code32_start: content.kernel,
      ramdisk_image: low(initrdGpa),
      ramdisk_size: low(initrdBytes),
      cmd_line_ptr: content.cmdline,
      setup_data: 0n,
    },
    e820_table: map.map(({ gpa, bytes: size, type }) => ({
      addr: BigInt(gpa),
      size: BigInt(size),
      type,
    })),
  });
  return page;
}

function low(value: bigint): number {
  return Number(value & 0xffffffffn);
}

function high(value: bigint): number {
  return Number(value >> 32n);
}
