// Every error class, code and exit status of Bulkhead. Three kinds are never mixed: a guest fault
// is a value (logged as "driver bug: …", then DEVICE_NEEDS_RESET), an operating error is a
// VmmError, and our own bug is a failed assert.

import { constants } from "node:os";

/** Exit statuses of the command line. */
export const EXIT = {
  ok: 0,
  internal: 1,
  usage: 2,
  kvmUnavailable: 3,
  guestCrashed: 4,
  deviceFailed: 5,
  sandboxFailed: 6,
} as const;

/** Stable codes of operating errors, each with the exit status that it leads to. */
const EXIT_STATUS_OF = {
  ERR_INTERNAL: EXIT.internal,
  ERR_SYSCALL: EXIT.internal,
  ERR_USAGE: EXIT.usage,
  ERR_FILE: EXIT.usage,
  ERR_KERNEL_IMAGE: EXIT.usage,
  ERR_MEMORY_LAYOUT: EXIT.usage,
  ERR_DEVICE_UNKNOWN: EXIT.usage,
  ERR_GRANT: EXIT.usage,
  ERR_MODULE: EXIT.usage,
  ERR_COMPILE: EXIT.usage,
  ERR_VM_NOT_FOUND: EXIT.usage,
  ERR_CONTROL: EXIT.internal,
  ERR_KVM_UNAVAILABLE: EXIT.kvmUnavailable,
  ERR_KVM_CAPABILITY: EXIT.kvmUnavailable,
  ERR_GUEST_CRASHED: EXIT.guestCrashed,
  ERR_DEVICE_FAILED: EXIT.deviceFailed,
  ERR_SANDBOX: EXIT.sandboxFailed,
} as const;

export type ErrorCode = keyof typeof EXIT_STATUS_OF;

export interface VmmErrorDetail {
  /** errno of the failed system call, if one failed. */
  errno?: number | undefined;
  /** Name of the system call or ioctl that failed. */
  syscall?: string | undefined;
  cause?: unknown;
}

/**
 * An operating error: something outside Bulkhead is not as it must be. The message reads
 * "action: value, likely cause, what to do next".
 */
export class VmmError extends Error {
  override readonly name = "VmmError";
  readonly code: ErrorCode;
  readonly errno: number | undefined;
  readonly syscall: string | undefined;

  constructor(code: ErrorCode, message: string, detail: VmmErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.code = code;
    this.errno = detail.errno;
    this.syscall = detail.syscall;
  }

  /** Exit status that the command line reports for this error. */
  get exitStatus(): number {
    return EXIT_STATUS_OF[this.code];
  }
}

const ERRNO_NAMES = new Map(
  Object.entries(constants.errno).map(([name, value]) => [value as number, name]),
);

/** Symbolic name of an errno value (`13` → `"EACCES"`), or `"errno 9999"` for an unknown one. */
export function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? `errno ${errno}`;
}

/** Why a write(2) that works at first fails later. */
const WRITE_CAUSES: Readonly<Record<string, string>> = {
  ENOSPC: "the file system is full",
  EDQUOT: "the quota of the file system is used up",
  EFBIG: "the file may not grow any more, see ulimit -f",
  EPIPE: "nobody reads it any more",
  EIO: "the terminal is gone, or the disk is broken",
};

/** Name and likely cause of an errno of write(2): `ENOSPC, the file system is full`. */
export function writeFailure(errno: number): string {
  const name = errnoName(errno);
  const cause = WRITE_CAUSES[name];
  return cause === undefined ? name : `${name}, ${cause}`;
}

/** Our own code is wrong. */
export class Bug extends Error {
  override readonly name = "Bug";
}

/**
 * Throws a Bug when our own code is wrong; never for what a guest, device or user did. (node:assert
 * would cost each device process 8 ms and 0.4 MB.)
 */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Bug(message);
}
