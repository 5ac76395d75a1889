// A granted file, or a device such as a disk.

import { COUNT, Descriptor, IOVEC, place } from "./descriptor";
import {
  ERRNO_BADF,
  ERRNO_INTR,
  ERRNO_SUCCESS,
  fd_datasync,
  fd_filestat_get,
  fd_filestat_set_size,
  fd_pread,
  fd_pwrite,
  fd_sync,
} from "./wasi_snapshot_preview1";

/** `filestat` of WASI; its size is at 32. */
const FILESTAT: usize = memory.data(64, 8);
const FILESTAT_SIZE: usize = 32;

/** A granted file: read(), write() at its position, and at any offset. */
export class File extends Descriptor {
  constructor(fd: u32) {
    super(fd);
  }

  /** Whether there is one: always, unless its declaration says Need.Optional. */
  get granted(): bool {
    this.errno = fd_filestat_get(this.fd, FILESTAT);
    return this.errno != ERRNO_BADF;
  }

  /** Whether writeAt() and its like may be called: the user may grant less than was asked for. */
  get writable(): bool {
    place(IOVEC, 0);
    return fd_pwrite(this.fd, IOVEC, 1, 0, COUNT) == ERRNO_SUCCESS;
  }

  /** Bytes of the file or block device; 0 when `errno` is not 0. */
  get size(): u64 {
    this.errno = fd_filestat_get(this.fd, FILESTAT);
    return this.errno == ERRNO_SUCCESS ? load<u64>(FILESTAT, FILESTAT_SIZE) : 0;
  }

  /** Makes the file larger, by a hole, or smaller; needs Rights.Write. */
  setSize(bytes: u64): bool {
    this.errno = fd_filestat_set_size(this.fd, bytes);
    return this.errno == ERRNO_SUCCESS;
  }

  /** Waits until the data that was written is on the disk. */
  datasync(): bool {
    this.errno = fd_datasync(this.fd);
    return this.errno == ERRNO_SUCCESS;
  }

  /** Waits until all that was written is on the disk, what is known of the file included. */
  sync(): bool {
    this.errno = fd_sync(this.fd);
    return this.errno == ERRNO_SUCCESS;
  }

  /**
   * Reads the `bytes` bytes at `offset` into `buffer` from its index `at` on, fewer if the file
   * ends or fails before: then `errno` says why. Returns how many were read.
   */
  readBytesAt(offset: u64, buffer: StaticArray<u8>, at: u32, bytes: u32): u32 {
    assert(<u64>at + bytes <= <u64>buffer.length, "read beyond the buffer");
    const start = changetype<usize>(buffer) + at;
    let done: u32 = 0;
    while (done < bytes) {
      const count = this.readAt(offset + done, start + done, bytes - done);
      if (count == 0) break;
      done += count;
    }
    return done;
  }

  /** Writes `bytes` bytes of `buffer`, from its index `at` on, at `offset`; as readBytesAt(). */
  writeBytesAt(offset: u64, buffer: StaticArray<u8>, at: u32, bytes: u32): u32 {
    assert(<u64>at + bytes <= <u64>buffer.length, "write beyond the buffer");
    const start = changetype<usize>(buffer) + at;
    let done: u32 = 0;
    while (done < bytes) {
      const count = this.writeAt(offset + done, start + done, bytes - done);
      if (count == 0) break;
      done += count;
    }
    return done;
  }

  /** Reads up to `bytes` bytes at `offset` to `address`; as read(). */
  @unsafe
  readAt(offset: u64, address: usize, bytes: u32): u32 {
    place(address, bytes);
    do {
      this.errno = fd_pread(this.fd, IOVEC, 1, offset, COUNT);
    } while (this.errno == ERRNO_INTR);
    return this.errno == ERRNO_SUCCESS ? load<u32>(COUNT) : 0;
  }

  /** Writes up to `bytes` bytes from `address` at `offset`; as write(). */
  @unsafe
  writeAt(offset: u64, address: usize, bytes: u32): u32 {
    place(address, bytes);
    do {
      this.errno = fd_pwrite(this.fd, IOVEC, 1, offset, COUNT);
    } while (this.errno == ERRNO_INTR);
    return this.errno == ERRNO_SUCCESS ? load<u32>(COUNT) : 0;
  }
}
