// A granted network interface.

import { Awaitable } from "./descriptor";

/**
 * The other end of a network interface of the host: one read() or write() is one Ethernet frame,
 * cut if there is not enough room. Neither waits: where there is nothing to do, `again` is true.
 */
@final
export class Tap extends Awaitable {
  constructor(fd: u32) {
    super(fd, true);
  }
}
