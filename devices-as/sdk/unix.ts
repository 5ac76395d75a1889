// A granted unix socket: connected to somebody, or somebody connects to it.

import { Awaitable, COUNT, IOVEC, place } from "./descriptor";
import {
  ERRNO_BADF,
  ERRNO_NOTCAPABLE,
  ERRNO_SUCCESS,
  FDFLAGS_NONBLOCK,
  fd_close,
  fd_read,
  sock_accept,
} from "./wasi_snapshot_preview1";

/** No descriptor: nobody is connected. */
const NOBODY: u32 = 0xffff_ffff;

/**
 * A stream to a peer. read() and write() do not wait: where there is nothing to do, `again` is
 * true. A read of 0 bytes without an errno means that the peer is gone. awaitReadable() waits for
 * what a peer sends, and while there is none, for somebody to connect.
 */
@final
export class Unix extends Awaitable {
  constructor(granted: u32, listens: bool) {
    super(granted, false, listens ? NOBODY : granted);
  }

  /** Whether there is one: always, unless its declaration says Need.Optional. */
  get granted(): bool {
    place(IOVEC, 0);
    return fd_read(this.source, IOVEC, 1, COUNT) != ERRNO_BADF;
  }

  /** Whether there is a peer, gone or not. */
  get connected(): bool {
    return this.fd != NOBODY;
  }

  /**
   * Takes the next who connects, unless there is a peer already; false if nobody has come. Needs
   * Rights.Listen; where the user granted a connection instead, that is the peer.
   */
  accept(): bool {
    this.errno = ERRNO_SUCCESS;
    if (this.connected) return true;
    this.errno = sock_accept(this.source, FDFLAGS_NONBLOCK, COUNT);
    if (this.errno == ERRNO_SUCCESS) this.fd = load<u32>(COUNT);
    if (this.errno == ERRNO_NOTCAPABLE) this.fd = this.source;
    return this.connected;
  }

  /** Ends a connection that was accepted, so that the next can come. */
  close(): void {
    if (!this.connected) return;
    this.errno = fd_close(this.fd);
    if (this.errno == ERRNO_SUCCESS) this.fd = NOBODY;
  }
}
