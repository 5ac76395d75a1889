// The identity map that a 64-bit kernel starts on, and the flat segments of both kinds of entry.

import type { BootMode } from "./image.js";

const PAGE_BYTES = 4096;
const TABLE_ENTRIES = 512;
const LARGE_PAGE_BYTES = 2 * 1024 * 1024;
/** Page directories, 1 GiB each: everything below 4 GiB, device windows included. */
const DIRECTORIES = 4;

const PTE_PRESENT = 1 << 0;
const PTE_WRITE = 1 << 1;
const PTE_LARGE = 1 << 7;

/** PML4, page-directory-pointer table and the page directories. */
export const PAGE_TABLES_BYTES = (2 + DIRECTORIES) * PAGE_BYTES;

/** 4 GiB mapped to themselves in 2 MiB pages, which every CPU and emulator has; `root` is CR3. */
export function identityMap(root: number): Uint8Array {
  const tables = new Uint8Array(PAGE_TABLES_BYTES);
  const view = new DataView(tables.buffer);
  const link = PTE_PRESENT | PTE_WRITE;
  const pdpt = root + PAGE_BYTES;
  const directories = pdpt + PAGE_BYTES;
  // All addresses here are below 4 GiB: the high word of an entry stays zero.
  view.setUint32(0, pdpt | link, true);
  for (let i = 0; i < DIRECTORIES; i++) {
    view.setUint32(PAGE_BYTES + i * 8, (directories + i * PAGE_BYTES) | link, true);
  }
  for (let i = 0; i < DIRECTORIES * TABLE_ENTRIES; i++) {
    view.setUint32(2 * PAGE_BYTES + i * 8, (i * LARGE_PAGE_BYTES) | link | PTE_LARGE, true);
  }
  return tables;
}

/** A segment descriptor with the fields of `struct kvm_segment`; `limit` is in bytes. */
export interface SegmentDescriptor {
  readonly selector: number;
  readonly base: number;
  readonly limit: number;
  readonly type: number;
  readonly present: number;
  readonly dpl: number;
  readonly db: number;
  readonly s: number;
  readonly l: number;
  readonly g: number;
}

/** The two flat segments: `code` for CS, `data` for DS, ES, FS, GS and SS. */
export interface BootSegments {
  readonly code: SegmentDescriptor;
  readonly data: SegmentDescriptor;
}

/** Selectors that the boot protocol prescribes (boot.rst); PVH leaves them open. */
const BOOT_CS = 0x10;
const BOOT_DS = 0x18;
const CODE_READ_ACCESSED = 0xb;
const DATA_WRITE_ACCESSED = 0x3;

/** Null, unused, code, data. */
export const GDT_BYTES = BOOT_DS + 8;

/** The segments to start with: 64-bit code for the Linux entry, 32-bit code for PVH. */
export function bootSegments(mode: BootMode): BootSegments {
  const flat = { base: 0, limit: 0xffffffff, present: 1, dpl: 0, s: 1, g: 1 };
  const l = mode === "long64" ? 1 : 0;
  return {
    code: { ...flat, selector: BOOT_CS, type: CODE_READ_ACCESSED, l, db: 1 - l },
    data: { ...flat, selector: BOOT_DS, type: DATA_WRITE_ACCESSED, l: 0, db: 1 },
  };
}

/** The GDT that holds them, GDT_BYTES. */
export function globalDescriptorTable({ code, data }: BootSegments): Uint8Array {
  const table = new Uint8Array(GDT_BYTES);
  const view = new DataView(table.buffer);
  for (const descriptor of [code, data]) {
    view.setBigUint64(descriptor.selector, encoded(descriptor), true);
  }
  return table;
}

/** Intel SDM vol. 3A §3.4.5, figure 3-8. */
function encoded(d: SegmentDescriptor): bigint {
  const limit = d.g === 1 ? d.limit >>> 12 : d.limit;
  const access = d.type | (d.s << 4) | (d.dpl << 5) | (d.present << 7);
  const flags = (d.l << 1) | (d.db << 2) | (d.g << 3);
  const low = BigInt(limit & 0xffff) | (BigInt(d.base & 0xffffff) << 16n);
  const high = access | (((limit >>> 16) & 0xf) << 8) | (flags << 12);
  return low | (BigInt(high) << 40n) | (BigInt(d.base >>> 24) << 56n);
}
