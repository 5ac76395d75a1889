// What a device holds of one grant in the world of a test: a descriptor whose other end is memory.

import type { Opening } from "../runtime/directory-calls.js";
import { wasiErrno } from "../runtime/errno.js";

const ERRNO_NOTSUP = wasiErrno("NOTSUP");

/**
 * Each call moves bytes from or to the module's memory and returns how many, or the negative of a
 * WASI errno. A kind of grant has those that make sense for it.
 */
export abstract class Descriptor {
  /** Whether a device that waits to read, or to write, is woken now. */
  get readable(): boolean {
    return true;
  }

  get writable(): boolean {
    return true;
  }

  /** Bytes that fd_filestat_get() tells. */
  get size(): number {
    return 0;
  }

  /** Returns 0, or a negative errno. */
  resize(_bytes: number): number {
    return -ERRNO_NOTSUP;
  }

  /** What was written is on the disk; returns 0, or a negative errno. */
  sync(): number {
    return 0;
  }

  /** The next connection, or a negative errno. */
  accept(): Descriptor | number {
    return -ERRNO_NOTSUP;
  }

  /** Opens what a directory has of that name, or makes it; or a negative errno. */
  openAt(_name: string, _how: Opening): Descriptor | number {
    return -ERRNO_NOTSUP;
  }

  /** Removes what a directory has of that name; returns 0, or a negative errno. */
  unlink(_name: string): number {
    return -ERRNO_NOTSUP;
  }

  /** Writes entries of a directory from `cookie` on (`dirent` of WASI); their bytes. */
  list(_into: DataView, _cookie: bigint): number {
    return -ERRNO_NOTSUP;
  }

  /** The device is done with it. */
  close(): void {}

  read(_into: Uint8Array): number {
    return -ERRNO_NOTSUP;
  }

  pread(_into: Uint8Array, _offset: number): number {
    return -ERRNO_NOTSUP;
  }

  write(_from: Uint8Array): number {
    return -ERRNO_NOTSUP;
  }

  pwrite(_from: Uint8Array, _offset: number): number {
    return -ERRNO_NOTSUP;
  }
}
