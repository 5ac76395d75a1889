// What a vCPU reaches of the machine: places that are read and written, a few bytes at a time.

/** Registers in a row; a place outside of them reads as zero and takes no write. */
export interface Window {
  /** Whether an access must wait until the device has answered what was written before. */
  mustWait(offset: number): boolean;
  /** Reads `bytes` bytes (1, 2 or 4), little-endian. */
  read(offset: number, bytes: number): number;
  /** Writes the lowest `bytes` bytes of `value`. */
  write(offset: number, bytes: number, value: number): void;
}

/** All ones: what a read finds where nobody is, on any bus. */
export function nobody(bytes: number): number {
  return bytes >= 4 ? 0xffff_ffff : 2 ** (8 * bytes) - 1;
}
