// A granted terminal.

import { Descriptor } from "./descriptor";

/** A terminal: read() and write() do not wait; where there is nothing to do, `again` is true. */
@final
export class Tty extends Descriptor {
  constructor(fd: u32) {
    super(fd);
  }
}
