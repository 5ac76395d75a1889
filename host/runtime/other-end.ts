// Whether somebody is at the other end of a granted stream. A pseudo-terminal that nobody has open
// takes what is written to it as long as there is room, and then says EAGAIN, as if somebody were
// about to read it: whoever waited for that would be told of a hang-up again and again.

import { ppoll } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";

/** poll.h */
const POLLHUP = 0x010;
/** `struct pollfd`: fd, events, revents; behind it a `struct timespec` of no time at all. */
const REVENTS = 6;
const TIMEOUT = 8;

export class OtherEnd {
  readonly #memory = Mapping.anonymous(TIMEOUT + 16);

  /** Whether `fd` has hung up. */
  isGone(fd: number): boolean {
    const { address, view } = this.#memory;
    view.setInt32(0, fd, true);
    view.setUint32(4, 0, true); // no events: a hang-up is told unasked
    const count = ppoll(address, 1, address + TIMEOUT, 0);
    return count === 1 && (view.getUint16(REVENTS, true) & POLLHUP) !== 0;
  }
}
