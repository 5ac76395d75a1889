// Which guest-physical addresses are RAM, what the guest is told of them, and who has taken which.

import { assert, VmmError } from "../errors.js";
import { hex, refuse, type Segment } from "./image.js";
import type { BootLayout, PciHost } from "./layout.js";

/** The boot tables are below 1 MiB, kernels above: with less, there is no room for any. */
export const MEMORY_BYTES_MIN = 2 * 1024 * 1024;

/** 32 TiB, more than a host has: with the hole below 4 GiB it stays within 46 address bits. */
export const MEMORY_BYTES_MAX = 2 ** 45;

const PAGE_BYTES = 4096;

/** Types of the memory map; e820 and PVH use the same numbers. */
export const E820_TYPE_RAM = 1;
export const E820_TYPE_RESERVED = 2;

/** A stretch of guest-physical memory, in bytes. */
export interface RamRange {
  readonly gpa: number;
  readonly bytes: number;
}

/** One entry of the memory map that the guest gets. */
export interface MemoryRange extends RamRange {
  readonly type: number;
}

/** Somebody's part of RAM, [gpa, end). */
export interface Claim {
  readonly name: string;
  readonly gpa: number;
  readonly end: number;
}

/**
 * Where a machine with `memoryBytes` has RAM: from 0 up to the device windows, the rest from 4 GiB.
 *
 * @throws VmmError ERR_MEMORY_LAYOUT for a size that no machine can have
 */
export function ramRanges(memoryBytes: number, layout: BootLayout): RamRange[] {
  const size = `Cannot lay out ${memoryBytes} bytes of memory`;
  if (!Number.isSafeInteger(memoryBytes) || memoryBytes % PAGE_BYTES !== 0) {
    throw new VmmError("ERR_MEMORY_LAYOUT", `${size}: not a multiple of ${PAGE_BYTES}`);
  }
  if (memoryBytes < MEMORY_BYTES_MIN) {
    throw new VmmError("ERR_MEMORY_LAYOUT", `${size}: at least ${MEMORY_BYTES_MIN} are needed`);
  }
  if (memoryBytes > MEMORY_BYTES_MAX) {
    throw new VmmError("ERR_MEMORY_LAYOUT", `${size}: at most ${MEMORY_BYTES_MAX} are possible`);
  }
  const low = Math.min(memoryBytes, layout.lowRamEnd);
  const ranges = [{ gpa: 0, bytes: low }];
  if (memoryBytes > low) ranges.push({ gpa: layout.highRamStart, bytes: memoryBytes - low });
  return ranges;
}

/**
 * The memory map for the guest: RAM, without the reserved part below 1 MiB, which has our tables.
 */
export function memoryMap(
  ram: readonly RamRange[],
  { layout, pci }: { layout: BootLayout; pci?: PciHost },
): MemoryRange[] {
  const { conventionalEnd, extendedStart } = layout;
  const reservedBytes = extendedStart - conventionalEnd;
  const [low, ...high] = ram;
  assert(low !== undefined && low.bytes > extendedStart, "RAM ends below 1 MiB");
  const ecam = pci === undefined ? [] : [pci.ecam]; // Linux wants to find it reserved
  return [
    { gpa: 0, bytes: conventionalEnd, type: E820_TYPE_RAM },
    { gpa: conventionalEnd, bytes: reservedBytes, type: E820_TYPE_RESERVED },
    { gpa: extendedStart, bytes: low.bytes - extendedStart, type: E820_TYPE_RAM },
    ...ecam.map(({ base, bytes }) => ({ gpa: base, bytes, type: E820_TYPE_RESERVED })),
    ...high.map((range) => ({ ...range, type: E820_TYPE_RAM })),
  ];
}

function sizeOf(segment: Segment): number {
  return segment.bytes.length + segment.zeroBytes;
}

function overlapping(claims: readonly Claim[], gpa: number, end: number): Claim | undefined {
  return claims.find((claim) => gpa < claim.end && claim.gpa < end);
}

/** Claims RAM for one of our own tables: the layout is ours, so an overlap is our bug. */
export function claimTable(claims: Claim[], segment: Segment): void {
  const end = segment.gpa + sizeOf(segment);
  const other = overlapping(claims, segment.gpa, end);
  assert(other === undefined, `${segment.name} overlaps ${other?.name}`);
  claims.push({ name: segment.name, gpa: segment.gpa, end });
}

/**
 * Claims what a segment of the kernel wants: usable RAM below 4 GiB, which the boot page tables map
 * and a PVH kernel can reach, and nobody else's.
 */
export function claimKernel(
  claims: Claim[],
  segment: Segment,
  { map, below }: { map: readonly MemoryRange[]; below: number },
): void {
  const { gpa, name } = segment;
  const end = gpa + sizeOf(segment);
  // Both parts are below 2^53; a sum that is not cannot lie inside any range, rounded or not.
  const place = `${name} at ${hex(gpa)}+${hex(end - gpa)}`;
  const usable = map.some(
    (range) =>
      range.type === E820_TYPE_RAM &&
      gpa >= range.gpa &&
      end <= Math.min(range.gpa + range.bytes, below),
  );
  if (!usable) {
    throw new VmmError(
      "ERR_MEMORY_LAYOUT",
      `Cannot place ${place}: not in usable RAM below 4 GiB, has the guest enough memory?`,
    );
  }
  const other = overlapping(claims, gpa, end);
  if (other !== undefined) {
    refuse(`${place} overlaps ${other.name} at ${hex(other.gpa)}+${hex(other.end - other.gpa)}`);
  }
  claims.push({ name, gpa, end });
}

/** The highest page-aligned address of [from, to) at which `bytes` of RAM are free, if any are. */
export function highestFree(
  claims: readonly Claim[],
  bytes: number,
  { from, to }: { from: number; to: number },
): number | undefined {
  let gpa = pageDown(to - bytes);
  while (gpa >= from) {
    const other = overlapping(claims, gpa, gpa + bytes);
    if (other === undefined) return gpa;
    gpa = pageDown(other.gpa - bytes);
  }
  return undefined;
}

function pageDown(gpa: number): number {
  return Math.floor(gpa / PAGE_BYTES) * PAGE_BYTES;
}
