// A file that is granted is locked, so that nobody else changes it meanwhile: neither another
// device or VM, nor QEMU and its tools, which look for locks of these bytes (block/file-posix.c).
//
// What one does with a file, and what one does not bear from others, are bytes of it: locks are
// shared, so that two who only read get along, and each looks whether somebody holds a byte that
// tells against his own. A lock belongs to the open file, and goes with the last process that has
// it.

import { constants } from "node:os";
import { errnoName } from "../errors.js";
import { errno, fcntl } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import type { Right } from "./grant-kinds.js";
import { FCNTL } from "./linux.js";

/** Bytes of QEMU's (RAW_LOCK_PERM_BASE, RAW_LOCK_SHARED_BASE): what is done, what is not borne. */
const DOES = 100;
const BARS = 200;
/** Behind these, its permissions (BLK_PERM_…). */
const CONSISTENT_READ = 0;
const WRITE = 1;
const RESIZE = 3;

/** struct flock of x86-64 (asm-generic/fcntl.h): type │ whence │ start │ length │ pid. */
const FLOCK_BYTES = 32;
const L_START = 8;
const L_LEN = 16;
const { EAGAIN, EACCES } = constants.errno;
const { F_RDLCK, F_WRLCK, F_UNLCK } = FCNTL;

/** Bytes to lock, and bytes that nobody else may have locked. */
interface Locks {
  locked: number[];
  free: number[];
}

function locksOf(rights: readonly Right[]): Locks {
  const others = [WRITE, RESIZE];
  const does = rights.includes("write") ? [CONSISTENT_READ, ...others] : [CONSISTENT_READ];
  return {
    locked: [...does.map((each) => DOES + each), ...others.map((each) => BARS + each)],
    free: [...does.map((each) => BARS + each), ...others.map((each) => DOES + each)],
  };
}

/** One fcntl(2) with a struct flock; undefined when it failed, else the type that came back. */
function flock(
  fd: number,
  command: number,
  lock: { type: number; at: number },
): number | undefined {
  const memory = Mapping.anonymous(FLOCK_BYTES);
  try {
    memory.view.setInt16(0, lock.type, true);
    memory.view.setBigInt64(L_START, BigInt(lock.at), true);
    memory.view.setBigInt64(L_LEN, 1n, true);
    if (fcntl(fd, command, memory.address) < 0) return undefined;
    return memory.view.getInt16(0, true);
  } finally {
    memory.close();
  }
}

/**
 * Locks a file that is open for these rights, until everybody has closed it.
 *
 * @returns why it cannot be used, or undefined
 */
export function lockFile(fd: number, rights: readonly Right[]): string | undefined {
  // What is only appended to may have several writers, and none of them reads it.
  if (!rights.includes("read") && !rights.includes("write")) return undefined;
  const { locked, free } = locksOf(rights);
  // The kernel wants a file that can be read for the one kind, and one that can be written for the
  // other.
  const type = rights.includes("read") ? F_RDLCK : F_WRLCK;
  const busy = "another VM or a tool such as qemu-img uses it; end that, or grant it ro in both";
  for (const at of locked) {
    if (flock(fd, FCNTL.F_OFD_SETLK, { type, at }) !== undefined) continue;
    const error = errno();
    return error === EAGAIN || error === EACCES ? busy : `it cannot be locked, ${errnoName(error)}`;
  }
  // The other's byte would be in our way if we wanted it for ourselves.
  const isTaken = (at: number) => flock(fd, FCNTL.F_OFD_GETLK, { type: F_WRLCK, at }) !== F_UNLCK;
  return free.some(isTaken) ? busy : undefined;
}
