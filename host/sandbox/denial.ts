// Which system call a filter killed a process for. The kernel tells nobody but its log, which root
// may read, and others where kernel.dmesg_restrict is 0.

import { syscall } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { syscallName, syscallNumber } from "./syscalls.js";

/** syslog(2): read the last bytes of the kernel's log. */
const SYSLOG_ACTION_READ_ALL = 3;
/**
 * A record has 250 bytes: this reaches back far enough, and is read in well under a millisecond.
 */
const LOG_BYTES = 64 * 1024;
/** AUDIT_SECCOMP of linux/audit.h. */
const RECORD = /type=1326 .* pid=(\d+) .* syscall=(\d+) /g;

/** Name of the system call of the last record about `pid` in the kernel's log `text`. */
export function denialIn(text: string, pid: number): string | undefined {
  const records = [...text.matchAll(RECORD)].filter((record) => Number(record[1]) === pid);
  const last = records.at(-1);
  return last === undefined ? undefined : syscallName(Number(last[2]));
}

/** The end of the kernel's log, or undefined if this user may not read it. */
export function kernelLog(): string | undefined {
  const buffer = Mapping.anonymous(LOG_BYTES);
  try {
    const nr = syscallNumber("syslog");
    const length = syscall(nr, SYSLOG_ACTION_READ_ALL, buffer.address, LOG_BYTES, 0, 0, 0);
    if (length < 0) return undefined;
    return Buffer.from(buffer.view.buffer, 0, length).toString("latin1");
  } finally {
    buffer.close();
  }
}
