// eventfd(2): the doorbell between kernel, threads and processes.

import { checked, close, eventfd, write } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";

const EFD_CLOEXEC = 0x80000;
const EFD_NONBLOCK = 0x800;

let one: Mapping | undefined;

/** Address of a 64-bit 1 in this thread's memory: what every signal writes. */
function addressOfOne(): number {
  if (one === undefined) {
    one = Mapping.anonymous(8);
    one.view.setBigUint64(0, 1n, true);
  }
  return one.address;
}

/** A descriptor that one side signals and another (the kernel, an epoll) waits for. */
export class EventFd {
  readonly fd: number;
  readonly #address = addressOfOne();

  constructor(fd: number) {
    this.fd = fd;
  }

  /**
   * Non-blocking: a counter at its limit would be a waiter that never looks, not one to wait for.
   */
  static create(): EventFd {
    return new EventFd(checked(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd", "Cannot signal"));
  }

  signal(): void {
    write(this.fd, this.#address, 8);
  }

  close(): void {
    close(this.fd);
  }
}
