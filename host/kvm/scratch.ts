// Memory for the arguments of ioctls.

import { checked, ioctl, ioctlAside } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import type { Struct } from "../ffi/struct.js";

/** One argument of an ioctl: encoded into `scratch`, passed by address, read back from there. */
export class Scratch {
  readonly mapping = Mapping.anonymous(16 * 1024);

  call(fd: number, request: number, name: string): number {
    return checked(ioctl(fd, request, this.mapping.address), `ioctl(${name})`, "KVM refused");
  }

  /**
   * As call(), while this thread does something else: the kernel waits until no processor looks at
   * what it changes. One that fails is made again, to say why.
   */
  async callAside(fd: number, request: number, name: string): Promise<void> {
    const { address } = this.mapping;
    if ((await ioctlAside(fd, request, address)) === -1) this.call(fd, request, name);
  }

  /**
   * Writes `value` over a zeroed struct and calls; the argument is the kernel's only in between.
   */
  set<S extends Struct>(
    type: S,
    value: Parameters<S["write"]>[2],
    target: { fd: number; request: number; name: string },
  ): number {
    this.fill(type, value);
    return this.call(target.fd, target.request, target.name);
  }

  /** Writes `value` over a zeroed struct. */
  fill<S extends Struct>(type: S, value: Parameters<S["write"]>[2]): void {
    new Uint8Array(this.mapping.view.buffer, 0, type.size).fill(0);
    type.write(this.mapping.view, 0, value);
  }
}
