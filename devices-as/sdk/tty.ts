// A granted terminal.

import { Awaitable } from "./descriptor";

/** A terminal: read() and write() do not wait; where there is nothing to do, `again` is true. */
@final
export class Tty extends Awaitable {
  constructor(fd: u32) {
    super(fd);
  }
}
