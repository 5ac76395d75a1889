// What every kind of kernel image comes down to, and the checked reads that get it there. A kernel
// file is hostile: each offset, size and address in it is a number that somebody chose, so nothing
// is read, added or sliced here without a bound.

import { VmmError } from "../errors.js";
import { type CType, type Struct, u16, u32, u64 } from "../ffi/struct.js";

/** How the first vCPU enters the guest: 64-bit Linux entry, or PVH's 32-bit entry. */
export type BootMode = "long64" | "pvh32";

/** Bytes to copy to a guest-physical address; `zeroBytes` after them stay as fresh RAM is: zero. */
export interface Segment {
  readonly name: string;
  readonly gpa: number;
  readonly bytes: Uint8Array;
  readonly zeroBytes: number;
}

/** A kernel image that has been understood; its segments are not yet checked against RAM. */
export interface KernelImage {
  readonly mode: BootMode;
  /** Guest-physical address of the first instruction; inside one of the segments. */
  readonly entry: number;
  /** Views of the file, not copies. */
  readonly segments: readonly Segment[];
  /** Longest command line that the kernel takes, without the final NUL. */
  readonly cmdlineBytesMax: number;
  /** Highest address that a byte of the initrd may have (boot.rst, initrd_addr_max). */
  readonly initrdAddrMax: number;
  /** Whether the kernel finds an initrd above that, and above 4 GiB, too. */
  readonly initrdAnywhere: boolean;
  /** Starts boot_params.hdr (64-bit Linux entry only). */
  readonly setupHeader: Uint8Array;
}

/** COMMAND_LINE_SIZE of x86 Linux is 2048 with the NUL; only a bzImage can say otherwise. */
export const CMDLINE_BYTES_MAX = 2047;

/** A field at any offset: x86 boot structs and ACPI tables are packed. */
function unaligned<T>(type: CType<T>): CType<T> {
  return { ...type, align: 1 };
}

/** Unaligned integers, for `__attribute__((packed))` structs. */
export const packed = { u16: unaligned(u16), u32: unaligned(u32), u64: unaligned(u64) };

/** `value` as C writes an address. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** Throws the error for an image that is not what it claims to be. */
export function refuse(reason: string): never {
  throw new VmmError("ERR_KERNEL_IMAGE", `Cannot load the kernel image: ${reason}`);
}

/** A 64-bit number from the file, if it is one that can be calculated with (below 2^53). */
export function checkedNumber(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER))
    refuse(`${what} is ${hex(value)}, beyond any memory`);
  return Number(value);
}

/** `bytes` of `image` from `offset`, without copying; both numbers come from the file. */
export function slice(
  image: Uint8Array,
  offset: number,
  { bytes, what }: { bytes: number; what: string },
): Uint8Array {
  // The sum of two numbers below 2^53 is rounded by one at most, and no file is that long.
  if (offset + bytes > image.length) {
    const end = `${hex(offset)}+${hex(bytes)}`;
    refuse(`${what} is at ${end}, past the file's ${image.length} bytes, is it truncated?`);
  }
  return image.subarray(offset, offset + bytes);
}

/** Reads one struct of `image` at `offset`, a number from the file. */
export function readStruct<S extends Struct>(
  image: Uint8Array,
  layout: S,
  { offset, what }: { offset: number; what: string },
): ReturnType<S["read"]> {
  const bytes = slice(image, offset, { bytes: layout.size, what });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return layout.read(view, 0) as ReturnType<S["read"]>;
}

/** Rounds `value` up to a multiple of `align`; exact while the result is below 2^53. */
export function alignUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}
