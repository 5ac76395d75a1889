// The descriptors of a device process, the same in every one.

export const STDERR_FD = 2;
/** The device's end of the socket to the VMM. */
export const SOCKET_FD = 3;
/** The module, open for reading; the process closes it before the lock-down. */
export const MODULE_FD = 4;
/** Grants, in manifest order. */
export const GRANT_FD_FIRST = 5;

/**
 * The descriptors that connections and files get: accept4(2) and openat(2) take the lowest that is
 * free, which is that of the module, and then those behind the grants. There are `count` and no
 * more, because the process may have none beyond (RLIMIT_NOFILE).
 */
export function openedFds(grantCount: number, count: number): number[] {
  const behind = GRANT_FD_FIRST + grantCount;
  return Array.from({ length: count }, (_, i) => (i === 0 ? MODULE_FD : behind + i - 1));
}
