// System calls that a policy refuses, told as they are tried (seccomp_unotify(2)). A refused thread
// does not return from its call: it stops, and whoever holds the listener of the filter hears which
// call it was and decides. Nothing can make the call happen unless that one lets it through.
//
// A device hands the listener to the VMM as its very first message, limits its descriptors and
// closes its own copy. Those two are themselves calls that no policy allows: the first that the VMM
// hears of, and the only ones that it ever lets through in `enforce`. So each start also shows that
// filter and listener work.

import { IOWR } from "../ffi/ioctl.js";
import { checked, close, errno, ioctl, syscall } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { DESCRIPTOR_MESSAGE_BYTES, receiveDescriptor, sendDescriptor } from "../ffi/scm.js";
import { waitingBytes } from "../ffi/socket.js";
import { RLIMIT } from "./linux.js";
import { syscallName, syscallNumber } from "./syscalls.js";

/** linux/seccomp.h: SECCOMP_IOC_MAGIC. */
const MAGIC = 0x21;
/** struct seccomp_notif: u64 id; u32 pid; u32 flags; struct seccomp_data data. */
export const NOTIF = { size: 80, id: 0, nr: 16, args: 32 };
/** struct seccomp_notif_resp: u64 id; s64 val; s32 error; u32 flags. */
export const RESPONSE = { size: 24, id: 0, flags: 20 };
export const SECCOMP_IOCTL_NOTIF_RECV = IOWR(MAGIC, 0, NOTIF);
export const SECCOMP_IOCTL_NOTIF_SEND = IOWR(MAGIC, 1, RESPONSE);
/** linux/seccomp.h: the call is made as if there were no filter. */
export const SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1;

const ARGUMENTS = 6;
const ENOENT = 2;

/** A system call that a thread tried to make and that its policy does not allow. */
export interface Denial {
  /** Names this one attempt to the kernel. */
  id: bigint;
  nr: number;
  /** All six registers; a call that takes fewer leaves the others as they were. */
  args: bigint[];
}

/** `openat(0xffffff9c, 0x7f0012345678, 0x0, 0x0, 0x0, 0x0)` */
export function describeDenial({ nr, args }: Pick<Denial, "nr" | "args">): string {
  return `${syscallName(nr)}(${args.map((arg) => `0x${arg.toString(16)}`).join(", ")})`;
}

/**
 * Whether a denied call is the next that a device takes leave with, after `count` others: it limits
 * its own descriptors, and then closes its copy of the listener.
 */
export function isFarewell({ nr, args }: Denial, count: number): boolean {
  if (count === 1) return nr === syscallNumber("close");
  const [pid, resource, , old] = args;
  const isLimit = nr === syscallNumber("prlimit64") && resource === BigInt(RLIMIT.RLIMIT_NOFILE);
  return count === 0 && isLimit && pid === 0n && old === 0n;
}

/**
 * Added to a descriptor it means the same to close(2), which reads an `int`, but not to a filter
 * that compares all 64 bits.
 */
const UPPER_HALF = 1n << 32n;

/**
 * Gives the listener of this process's filter to the VMM, limits descriptors by `last`, and keeps
 * no copy; the VMM lets both through, so this returns when it has the listener and serves it. The
 * number of the listener may be one that the device may close later, when it is that of a
 * connection: then the VMM would not be told of this close, and take the first that is an attack
 * for it.
 */
export function handOver(
  listener: number,
  { socketFd, last }: { socketFd: number; last: () => void },
): void {
  sendDescriptor(socketFd, listener);
  last();
  const closed = syscall(syscallNumber("close"), UPPER_HALF + BigInt(listener), 0, 0, 0, 0, 0);
  checked(closed, "close", "Cannot confine the device", "ERR_SANDBOX");
}

/** The VMM's hold on the filter of one device process. */
export class DenialListener {
  readonly fd: number;
  readonly #notif = Mapping.anonymous(NOTIF.size + RESPONSE.size);

  private constructor(fd: number) {
    this.fd = fd;
  }

  /**
   * Takes the listener from the first message that waits on `socketFd`. Undefined, and the message
   * is left alone, if it is another: a device that fails before its lock-down says why.
   */
  static receive(socketFd: number): DenialListener | undefined {
    if (waitingBytes(socketFd) !== DESCRIPTOR_MESSAGE_BYTES) return undefined;
    const fd = receiveDescriptor(socketFd);
    return fd === undefined ? undefined : new DenialListener(fd);
  }

  /**
   * The call that a thread waits with: call it when the descriptor is readable, or it blocks.
   * Undefined if the thread has died meanwhile.
   */
  next(): Denial | undefined {
    const { view, address } = this.#notif;
    new Uint8Array(view.buffer).fill(0); // the kernel insists
    const result = ioctl(this.fd, SECCOMP_IOCTL_NOTIF_RECV, address);
    if (result === -1 && errno() === ENOENT) return undefined;
    checked(result, "ioctl(SECCOMP_IOCTL_NOTIF_RECV)", "Cannot hear of a denied call");
    const args = Array.from({ length: ARGUMENTS }, (_, i) =>
      view.getBigUint64(NOTIF.args + 8 * i, true),
    );
    return { id: view.getBigUint64(NOTIF.id, true), nr: view.getInt32(NOTIF.nr, true), args };
  }

  /** Lets the thread make its call; one that has died meanwhile makes none. */
  letThrough({ id }: Denial): void {
    const { view, address } = this.#notif;
    const at = NOTIF.size;
    new Uint8Array(view.buffer).fill(0);
    view.setBigUint64(at + RESPONSE.id, id, true);
    view.setUint32(at + RESPONSE.flags, SECCOMP_USER_NOTIF_FLAG_CONTINUE, true);
    const result = ioctl(this.fd, SECCOMP_IOCTL_NOTIF_SEND, address + at);
    if (result === -1 && errno() === ENOENT) return;
    checked(result, "ioctl(SECCOMP_IOCTL_NOTIF_SEND)", "Cannot let a call through");
  }

  /** From then on the kernel answers every denied call with ENOSYS. */
  close(): void {
    close(this.fd);
    this.#notif.close();
  }
}
