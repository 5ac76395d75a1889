// The descriptors of a device process, the same in every one.

export const STDERR_FD = 2;
/** The device's end of the socket to the VMM. */
export const SOCKET_FD = 3;
/** The module, open for reading; the process closes it before the lock-down. */
export const MODULE_FD = 4;
/** Grants, in manifest order. */
export const GRANT_FD_FIRST = 5;
