// What is behind a disk: an image that bytes are read from and written to, whatever its format.

import { Chain, copyBytes, errnoName, File, logLine } from "bulkhead/sdk";

/** Whatever the block size, sectors are counted in these (virtio v1.2 §5.2.4). */
export const SECTOR_BYTES: u32 = 512;

/** Bytes that are made zero, or copied, at a time: a system call costs as much as writing them. */
export const PIECE_BYTES: u32 = 256 * 1024;

/** Nothing, as often as one likes: read only. */
export const ZEROES = new StaticArray<u8>(<i32>PIECE_BYTES);

/** Where bytes are on their way from one file to another. */
export const SCRATCH_BYTES: u32 = 64 * 1024;
export const SCRATCH = new StaticArray<u8>(<i32>SCRATCH_BYTES);

/** Says that a file of the host failed; where it ends too early, nobody says why. */
export function complain(what: string, offset: u64, errno: u32): void {
  const why = errno == 0 ? "the file ends before that" : errnoName(errno);
  logLine(what).text(" at byte ").number(offset).text(" failed: ").text(why).end();
}

/** What was written to a file is on the disk before anything goes on. */
@final
export class Barrier {
  /**
   * It failed: the host may have dropped what it was for, and would call the next one a success.
   * But that would be one of what is left.
   */
  private lost: bool = false;

  constructor(private readonly file: File) {}

  /** Returns whether all that was written until now is safe; never again after it was not. */
  wait(): bool {
    if (this.lost) return false;
    if (this.file.datasync()) return true;
    this.lost = true;
    complain("flushing", 0, this.file.errno);
    return false;
  }
}

/** Where what is read goes: to the driver, or to an array. Filled from its front. */
@final
export class Target {
  private chain: Chain | null = null;
  private array: StaticArray<u8> = ZEROES;
  private at: u32 = 0;

  /** The answer to the driver's request. */
  toChain(chain: Chain): Target {
    this.chain = chain;
    return this;
  }

  /** `array` from its index `at` on. */
  toArray(array: StaticArray<u8>, at: u32): Target {
    this.chain = null;
    this.array = array;
    this.at = at;
    return this;
  }

  /**
   * Adds `bytes` bytes of a file; false, with a line in the log, if they are not all there. Those
   * behind its end are zeros where `isOpen`.
   */
  addFile(file: File, offset: u64, bytes: u32, isOpen: bool = false): bool {
    const chain = this.chain;
    let count: u32;
    if (chain != null) {
      count = chain.writeFromAt(file, offset, bytes);
    } else {
      count = file.readBytesAt(offset, this.array, this.at, bytes);
      this.at += count;
    }
    if (count == bytes) return true;
    if (isOpen && file.errno == 0) {
      this.addZeroes(bytes - count);
      return true;
    }
    complain("reading", offset + count, file.errno);
    return false;
  }

  /** Adds `bytes` bytes of an array. */
  addArray(array: StaticArray<u8>, at: u32, bytes: u32): void {
    const chain = this.chain;
    if (chain != null) {
      chain.writeOf(array, at, bytes);
    } else {
      copyBytes(array, at, bytes, this.array, this.at);
      this.at += bytes;
    }
  }

  /** Adds `bytes` zeros. */
  addZeroes(bytes: u32): void {
    const chain = this.chain;
    if (chain != null) {
      chain.fill(0, bytes);
    } else {
      this.array.fill(0, this.at, this.at + bytes);
      this.at += bytes;
    }
  }
}

/**
 * An image. Offsets and lengths are in bytes, and inside of it: the device has looked. What returns
 * false has failed, with a line in the log; then nothing is said of the bytes in question.
 */
export abstract class Image {
  /** Bytes of the disk that it is. */
  size: u64 = 0;
  /** Bytes that are best read and written together, at multiples of themselves. */
  clusterBytes: u32 = 4096;

  /** Reads into `target`. */
  abstract read(offset: u64, bytes: u32, target: Target): bool;

  /** Writes the next bytes of the driver's request. */
  abstract write(offset: u64, bytes: u32, chain: Chain): bool;

  /** Makes bytes zero. */
  abstract zero(offset: u64, bytes: u64): bool;

  /** All that was written is on the disk when this returns true. */
  abstract flush(): bool;

  /** The driver is gone, for now: what is held for it can be given back. */
  rest(): void {}
}
