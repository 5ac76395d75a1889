// What all capabilities with a descriptor have in common: bytes move between it and the module's
// memory, and each call leaves its errno behind.

import { attention, FD_FIRST } from "./attention";
import {
  ERRNO_AGAIN,
  ERRNO_INTR,
  ERRNO_IO,
  ERRNO_SUCCESS,
  fd_read,
  fd_write,
} from "./wasi_snapshot_preview1";

/** `struct ciovec { buf, len }` and the result of a call: static, so that no call allocates. */
export const IOVEC: usize = memory.data(8);
export const COUNT: usize = memory.data(4);

/** Points IOVEC at `bytes` bytes from `address` on. */
@unsafe
export function place(address: usize, bytes: u32): void {
  store<u32>(IOVEC, <u32>address);
  store<u32>(IOVEC, bytes, 4);
}

/** A granted descriptor that bytes are read from or written to, in order. */
export class Descriptor {
  /** WASI errno of the last call; 0 after success. */
  errno: u32 = ERRNO_SUCCESS;

  /**
   * @param fd WASI descriptor
   * @param packets one read is one packet and no more, as with a tap
   */
  constructor(
    protected fd: u32,
    public readonly packets: bool = false,
  ) {}

  /** Whether the last call had nothing to do: nobody sent anything, or nobody makes room. */
  get again(): bool {
    return this.errno == ERRNO_AGAIN;
  }

  /**
   * Reads up to `bytes` bytes to `address`. Returns how many were read: 0 at the end, or when
   * `errno` is not 0.
   */
  @unsafe
  read(address: usize, bytes: u32): u32 {
    place(address, bytes);
    do {
      this.errno = fd_read(this.fd, IOVEC, 1, COUNT);
    } while (this.errno == ERRNO_INTR);
    return this.errno == ERRNO_SUCCESS ? load<u32>(COUNT) : 0;
  }

  /** Writes up to `bytes` bytes from `address`; returns how many, 0 when `errno` is not 0. */
  @unsafe
  write(address: usize, bytes: u32): u32 {
    place(address, bytes);
    do {
      this.errno = fd_write(this.fd, IOVEC, 1, COUNT);
    } while (this.errno == ERRNO_INTR);
    return this.errno == ERRNO_SUCCESS ? load<u32>(COUNT) : 0;
  }

  /** Reads up to `bytes` bytes into `buffer` from `offset` on; as read(). */
  readBytes(buffer: StaticArray<u8>, offset: u32, bytes: u32): u32 {
    assert(<u64>offset + bytes <= <u64>buffer.length, "read beyond the buffer");
    return this.read(changetype<usize>(buffer) + offset, bytes);
  }

  /** Writes up to `bytes` bytes of `buffer` from `offset` on; as write(). */
  writeBytes(buffer: StaticArray<u8>, offset: u32, bytes: u32): u32 {
    assert(<u64>offset + bytes <= <u64>buffer.length, "write beyond the buffer");
    return this.write(changetype<usize>(buffer) + offset, bytes);
  }
}

/** A descriptor that may have nothing for now, and that a device can wait for. */
export class Awaitable extends Descriptor {
  /**
   * @param source WASI descriptor of the capability
   * @param fd descriptor that bytes move over, if that is another one
   */
  constructor(
    protected readonly source: u32,
    packets: bool = false,
    fd: u32 = source,
  ) {
    super(fd, packets);
  }

  /**
   * Whether nobody was at the other end at the last call, and somebody may come: of a
   * pseudo-terminal that Bulkhead made, as long as nobody has it open. Do not wait for it then:
   * Device.wake() is called when somebody comes. What was written may be there for who comes next.
   */
  get alone(): bool {
    return this.errno == ERRNO_IO;
  }

  /** Finds out whether somebody is at the other end (`alone`), of what was granted as it is. */
  look(): void {
    this.errno = ERRNO_SUCCESS;
    if (this.fd != this.source) return;
    place(IOVEC, 0);
    this.errno = fd_write(this.fd, IOVEC, 1, COUNT);
  }

  /** Has Device.wake() called, once, when there is something to read or the other end is gone. */
  awaitReadable(): void {
    attention.interest |= 1 << (this.source - FD_FIRST);
  }

  /** Has Device.wake() called, once, when there is room to write or the other end is gone. */
  awaitWritable(): void {
    attention.interest |= 1 << (8 + this.source - FD_FIRST);
  }
}
