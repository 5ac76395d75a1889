// Errors as WASI preview 1 numbers them.

import { constants } from "node:os";
import { errno } from "../ffi/libc.js";

/** WASI's `errno` in the order of its values (wasi_snapshot_preview1.witx), by Linux' names. */
const ERRNO_NAMES = (
  "SUCCESS 2BIG ACCES ADDRINUSE ADDRNOTAVAIL AFNOSUPPORT AGAIN ALREADY BADF BADMSG BUSY " +
  "CANCELED CHILD CONNABORTED CONNREFUSED CONNRESET DEADLK DESTADDRREQ DOM DQUOT EXIST " +
  "FAULT FBIG HOSTUNREACH IDRM ILSEQ INPROGRESS INTR INVAL IO ISCONN ISDIR LOOP MFILE MLINK " +
  "MSGSIZE MULTIHOP NAMETOOLONG NETDOWN NETRESET NETUNREACH NFILE NOBUFS NODEV NOENT NOEXEC " +
  "NOLCK NOLINK NOMEM NOMSG NOPROTOOPT NOSPC NOSYS NOTCONN NOTDIR NOTEMPTY NOTRECOVERABLE " +
  "NOTSOCK NOTSUP NOTTY NXIO OVERFLOW OWNERDEAD PERM PIPE PROTO PROTONOSUPPORT PROTOTYPE " +
  "RANGE ROFS SPIPE SRCH STALE TIMEDOUT TXTBSY XDEV NOTCAPABLE"
).split(" ");

export function wasiErrno(name: string): number {
  return ERRNO_NAMES.indexOf(name);
}

export const ERRNO_SUCCESS = 0;
export const ERRNO_AGAIN = wasiErrno("AGAIN");
export const ERRNO_BADF = wasiErrno("BADF");
export const ERRNO_FAULT = wasiErrno("FAULT");
export const ERRNO_INVAL = wasiErrno("INVAL");
export const ERRNO_IO = wasiErrno("IO");
export const ERRNO_MFILE = wasiErrno("MFILE");
export const ERRNO_NOTCAPABLE = wasiErrno("NOTCAPABLE");

const WASI_ERRNO_OF = new Map(
  Object.entries(constants.errno).flatMap(([name, linux]) => {
    const wasi = wasiErrno(name.slice(1));
    return wasi < 0 ? [] : [[linux as number, wasi] as const];
  }),
);

/** WASI's errno of the last failed call on this thread; EIO for one that WASI does not know. */
export function lastErrno(): number {
  return WASI_ERRNO_OF.get(errno()) ?? ERRNO_IO;
}
