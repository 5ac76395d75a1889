// The four WASI functions that move bytes, for what is plain: one iovec, of a descriptor that was
// granted, all of it inside the device's memory, which is this module's, too. A confined process
// interprets its JavaScript, and there these checks take as long as reading a block. Everything
// else goes to the function in JavaScript, which makes the same checks, and more.

import * as javascript from "./javascript";
import { pread64, pwrite64, read, write } from "./libc";
import { IO_BYTES_MAX } from "./limits";
import { base, pages } from "./place";

/** A larger offset is no exact number in JavaScript. */
const OFFSET_MAX: u64 = 2 ** 53 - 1;
const PAGE_SHIFT: u64 = 16;
const IOVEC_BYTES = 8;
const COUNT_BYTES = 4;

/** Whether [from, from + bytes) is in the memory as it was when it was looked at. */
function isInside(from: u32, bytes: u32): bool {
  return <u64>from + <u64>bytes <= (<u64>(<u32>pages)) << PAGE_SHIFT;
}

/**
 * Bytes that a transfer moves, if it is plain: one iovec, all of it inside, of a file that may be
 * used, in a memory that is where it was. 0 for any other.
 */
function plainBytes(file: u32, iovecs: u32, count: u32, done: u32): u32 {
  if (file === 0 || count !== 1 || memory.size() !== pages) return 0;
  if (!isInside(iovecs, IOVEC_BYTES) || !isInside(done, COUNT_BYTES)) return 0;
  const bytes = load<u32>(iovecs, 4);
  return bytes <= <u32>IO_BYTES_MAX && isInside(load<u32>(iovecs), bytes) ? bytes : 0;
}

/** Native address of what a plain iovec describes; nobody runs who could have changed it. */
function addressOf(iovecs: u32): f64 {
  return base + <f64>load<u32>(iovecs);
}

/** The WASI errno of a call that returned `result`; what it moved is told at `done`. */
function ended(result: i32, done: u32): i32 {
  if (result < 0) return javascript.errno();
  store<i32>(done, result);
  return 0;
}

/** `file` is one more than the process's descriptor of `fd`, or 0: see linked.ts. */
export function fd_read(file: u32, fd: u32, iovecs: u32, count: u32, done: u32): i32 {
  const bytes = plainBytes(file, iovecs, count, done);
  if (bytes === 0) return javascript.fd_read(fd, iovecs, count, done);
  return ended(read(file - 1, addressOf(iovecs), bytes), done);
}

export function fd_write(file: u32, fd: u32, iovecs: u32, count: u32, done: u32): i32 {
  const bytes = plainBytes(file, iovecs, count, done);
  if (bytes === 0) return javascript.fd_write(fd, iovecs, count, done);
  return ended(write(file - 1, addressOf(iovecs), bytes), done);
}

export function fd_pread(file: u32, fd: u32, iovecs: u32, count: u32, at: u64, done: u32): i32 {
  const bytes = plainBytes(file, iovecs, count, done);
  if (bytes === 0 || at > OFFSET_MAX) return javascript.fd_pread(fd, iovecs, count, at, done);
  return ended(pread64(file - 1, addressOf(iovecs), bytes, <f64>at), done);
}

export function fd_pwrite(file: u32, fd: u32, iovecs: u32, count: u32, at: u64, done: u32): i32 {
  const bytes = plainBytes(file, iovecs, count, done);
  if (bytes === 0 || at > OFFSET_MAX) return javascript.fd_pwrite(fd, iovecs, count, at, done);
  return ended(pwrite64(file - 1, addressOf(iovecs), bytes, <f64>at), done);
}
