// struct hvm_start_info: what a kernel entered by its PVH note is told
// (xen/include/public/arch-x86/hvm/start_info.h).

import { struct, u32, u64 } from "../ffi/struct.js";
import type { Segment } from "./image.js";
import type { MemoryRange } from "./memory.js";

const XEN_HVM_START_MAGIC_VALUE = 0x336ec578;
/** Version 1 is the first with a memory map. */
const VERSION = 1;

export const hvm_start_info = struct("hvm_start_info", 56, {
  magic: u32,
  version: u32,
  flags: u32,
  nr_modules: u32,
  modlist_paddr: u64,
  cmdline_paddr: u64,
  rsdp_paddr: u64,
  memmap_paddr: u64,
  memmap_entries: u32,
  reserved: u32,
});

export const hvm_modlist_entry = struct("hvm_modlist_entry", 32, {
  paddr: u64,
  size: u64,
  cmdline_paddr: u64,
  reserved: u64,
});

export const hvm_memmap_table_entry = struct("hvm_memmap_table_entry", 24, {
  addr: u64,
  size: u64,
  type: u32,
  reserved: u32,
});

/** What goes into the start info at `gpa`; all addresses are guest-physical. */
export interface StartInfoContent {
  readonly gpa: number;
  readonly cmdline: number;
  readonly initrd: Segment | undefined;
  readonly rsdp: number;
  readonly map: readonly MemoryRange[];
}

const MODLIST_OFFSET = hvm_start_info.size;
const MEMMAP_OFFSET = MODLIST_OFFSET + hvm_modlist_entry.size;

/** Bytes of a start info with room for one module and `mapEntries` of the memory map. */
export function startInfoBytes(mapEntries: number): number {
  return MEMMAP_OFFSET + mapEntries * hvm_memmap_table_entry.size;
}

/** Start info, module list and memory map in one block of `startInfoBytes(map.length)`. */
export function startInfo({ gpa, cmdline, initrd, rsdp, map }: StartInfoContent): Uint8Array {
  const block = new Uint8Array(startInfoBytes(map.length));
  const view = new DataView(block.buffer);
  hvm_start_info.write(view, 0, {
    magic: XEN_HVM_START_MAGIC_VALUE,
    version: VERSION,
    nr_modules: initrd === undefined ? 0 : 1,
    modlist_paddr: initrd === undefined ? 0n : BigInt(gpa + MODLIST_OFFSET),
    cmdline_paddr: BigInt(cmdline),
    rsdp_paddr: BigInt(rsdp),
    memmap_paddr: BigInt(gpa + MEMMAP_OFFSET),
    memmap_entries: map.length,
  });
  if (initrd !== undefined) {
    hvm_modlist_entry.write(view, MODLIST_OFFSET, {
      paddr: BigInt(initrd.gpa),
      size: BigInt(initrd.bytes.length),
    });
  }
  for (const [i, range] of map.entries()) {
    hvm_memmap_table_entry.write(view, MEMMAP_OFFSET + i * hvm_memmap_table_entry.size, {
      addr: BigInt(range.gpa),
      size: BigInt(range.bytes),
      type: range.type,
    });
  }
  return block;
}
