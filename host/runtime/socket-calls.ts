// The calls on a granted socket that move no data.

import { syscall } from "../ffi/libc.js";
import { ACCEPTED_FLAGS } from "../sandbox/grant-kinds.js";
import { syscallNumber } from "../sandbox/syscalls.js";

const CLOSE = syscallNumber("close");
const ACCEPT4 = syscallNumber("accept4");

/** Takes the next who connects: a descriptor that does not wait, or -1. */
export function accept(listener: number): number {
  return syscall(ACCEPT4, listener, 0, 0, ACCEPTED_FLAGS, 0, 0);
}

/** Ends a connection. All 64 bits of the argument are what the filter compares. */
export function closeConnection(fd: number): number {
  return syscall(CLOSE, fd, 0, 0, 0, 0, 0);
}
