// A granted terminal.

import { Awaitable, COUNT, IOVEC, place } from "./descriptor";
import { ERRNO_BADF, ERRNO_SUCCESS, fd_filestat_get, fd_read } from "./wasi_snapshot_preview1";

/** `filestat` of WASI; the size of a terminal is where that of a file would be (wit/world.wit). */
const FILESTAT: usize = memory.data(64, 8);
const FILESTAT_SIZE: usize = 32;

/** A terminal: read() and write() do not wait; where there is nothing to do, `again` is true. */
@final
export class Tty extends Awaitable {
  constructor(fd: u32) {
    super(fd);
  }

  /** Whether there is one: always, unless its declaration says Need.Optional. */
  get granted(): bool {
    place(IOVEC, 0);
    return fd_read(this.fd, IOVEC, 1, COUNT) != ERRNO_BADF;
  }

  /**
   * Rows in the upper 16 bits, columns in the lower; 0 where the terminal has no size, or fails.
   * Device.wake() is called when it has another one.
   */
  get size(): u32 {
    this.errno = fd_filestat_get(this.fd, FILESTAT);
    return this.errno == ERRNO_SUCCESS ? load<u32>(FILESTAT, FILESTAT_SIZE) : 0;
  }
}
