// The functions of WASI preview 1 that a device module can be given, over granted descriptors. Data
// moves between the descriptor and the module's memory in one system call, without a copy here.
//
// Everything a module passes is hostile: a pointer and a length are checked against the memory's
// size as it is now, before the system call that would follow them.

import os from "node:os";
import { errno, pread64, pwrite64, read, write } from "../ffi/libc.js";
import { type ClockName, type GrantedFd, NO_FD, wasiFdOf } from "../sandbox/grants.js";
import type { Manifest, Right } from "../sandbox/manifest.js";
import { CLOCK_MONOTONIC, CLOCK_REALTIME, nanosecondsOf } from "./clock.js";
import type { ImportedCall, World } from "./instance.js";
import type { LinearMemory } from "./linear-memory.js";

/** Bytes that one call moves at most: a larger one is cut short, which every caller must expect. */
export const IO_BYTES_MAX = 1024 * 1024;

/** WASI's `clockid` (wasi_snapshot_preview1.witx): the first two are Linux' own. */
const CLOCKID_REALTIME = CLOCK_REALTIME;
const CLOCKID_MONOTONIC = CLOCK_MONOTONIC;

/** Elements of an iovec array, as Linux limits them (IOV_MAX). */
export const IOVECS_MAX = 1024;
const IOVEC_BYTES = 8;

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
export const ERRNO_BADF = wasiErrno("BADF");
export const ERRNO_FAULT = wasiErrno("FAULT");
export const ERRNO_INVAL = wasiErrno("INVAL");
export const ERRNO_IO = wasiErrno("IO");
export const ERRNO_NOTCAPABLE = wasiErrno("NOTCAPABLE");

const WASI_ERRNO_OF = new Map(
  Object.entries(os.constants.errno).flatMap(([name, linux]) => {
    const wasi = wasiErrno(name.slice(1));
    return wasi < 0 ? [] : [[linux as number, wasi] as const];
  }),
);

/** WASI's errno of the last failed call on this thread; EIO for one that WASI does not know. */
function lastErrno(): number {
  return WASI_ERRNO_OF.get(errno()) ?? ERRNO_IO;
}

/** A granted descriptor and what may be done with it. */
type OpenFile = { fd: number } & Record<Right, boolean>;

/** The world of a device: the descriptors that it was granted and nothing else. */
export class GrantedFiles implements World {
  /** By WASI descriptor; one that does not exist or was not granted is a hole. */
  readonly #files: (OpenFile | undefined)[] = [];
  #memory: LinearMemory | undefined;
  /** The clocks of WASI that may be read, by id: none, until one is granted. */
  readonly #clocks: boolean[] = [];
  /** The transfer that is being checked: fields, so that a call allocates nothing. */
  #fd = -1;
  #address = 0;
  #bytes = 0;

  constructor(manifest: Manifest, grants: readonly GrantedFd[]) {
    for (const { name, kind, rights, fd, clock } of grants) {
      if (kind === "clock") this.#grantClock(clock);
      if (fd === NO_FD) continue;
      const [read, write] = [rights.includes("read"), rights.includes("write")];
      this.#files[wasiFdOf(manifest, name)] = { fd, read, write };
    }
  }

  link(): Record<string, ImportedCall> {
    return {
      fd_read: this.fd_read.bind(this),
      fd_pread: this.fd_pread.bind(this),
      fd_write: this.fd_write.bind(this),
      fd_pwrite: this.fd_pwrite.bind(this),
      clock_time_get: this.clock_time_get.bind(this),
    };
  }

  attach(_instance: WebAssembly.Instance, memory: LinearMemory): void {
    this.#memory = memory;
  }

  #grantClock(name: ClockName | undefined): void {
    this.#clocks[CLOCKID_MONOTONIC] = true;
    if (name === "realtime") this.#clocks[CLOCKID_REALTIME] = true;
  }

  /** Stores the nanoseconds of a granted clock, whatever `precision` asks for. */
  clock_time_get(id: number, _precision: bigint, time: number): number {
    if (this.#clocks[id] !== true) return ERRNO_NOTCAPABLE;
    const memory = this.#memory!;
    memory.update();
    if (!memory.contains(time >>> 0, 8)) return ERRNO_FAULT;
    memory.view.setBigUint64(time >>> 0, nanosecondsOf(id), true);
    return ERRNO_SUCCESS;
  }

  // The four below move the first iovec that is not empty and no other: a short transfer is always
  // legal, and one system call on one granted descriptor is all that the filter has to allow.

  fd_read(fd: number, iovs: number, count: number, nread: number): number {
    const refused = this.#use(fd, "read") || this.#place(iovs, count) || this.#check(nread);
    return refused || this.#finish(read(this.#fd, this.#address, this.#bytes), nread);
  }

  fd_write(fd: number, iovs: number, count: number, nwritten: number): number {
    const refused = this.#use(fd, "write") || this.#place(iovs, count) || this.#check(nwritten);
    return refused || this.#finish(write(this.#fd, this.#address, this.#bytes), nwritten);
  }

  fd_pread(fd: number, iovs: number, count: number, offset: bigint, nread: number): number {
    const refused = this.#use(fd, "read") || this.#place(iovs, count) || this.#check(nread);
    if (refused) return refused;
    return this.#finish(pread64(this.#fd, this.#address, this.#bytes, offset), nread);
  }

  fd_pwrite(fd: number, iovs: number, count: number, offset: bigint, nwritten: number): number {
    const refused = this.#use(fd, "write") || this.#place(iovs, count) || this.#check(nwritten);
    if (refused) return refused;
    return this.#finish(pwrite64(this.#fd, this.#address, this.#bytes, offset), nwritten);
  }

  /** Finds the granted descriptor behind `fd`: 0, or the errno of its refusal. */
  #use(fd: number, right: Right): number {
    const file = this.#files[fd];
    if (!file) return ERRNO_BADF;
    if (!file[right]) return ERRNO_NOTCAPABLE;
    this.#fd = file.fd;
    return ERRNO_SUCCESS;
  }

  /**
   * Finds the memory of the transfer: the first iovec that is not empty, read once, cut at
   * IO_BYTES_MAX. Without the check the kernel would follow the module's pointer out of its memory.
   */
  #place(iovs: number, iovsCount: number): number {
    const memory = this.#memory!;
    const at = iovs >>> 0;
    const count = iovsCount >>> 0;
    memory.update();
    if (count > IOVECS_MAX) return ERRNO_INVAL;
    if (!memory.contains(at, count * IOVEC_BYTES)) return ERRNO_FAULT;
    this.#address = memory.address;
    this.#bytes = 0;
    for (let i = 0; i < count && this.#bytes === 0; i++) {
      const pointer = memory.view.getUint32(at + i * IOVEC_BYTES, true);
      const bytes = memory.view.getUint32(at + i * IOVEC_BYTES + 4, true);
      if (!memory.contains(pointer, bytes)) return ERRNO_FAULT;
      this.#address = memory.address + pointer;
      this.#bytes = Math.min(bytes, IO_BYTES_MAX);
    }
    return ERRNO_SUCCESS;
  }

  /** Whether a result fits at `at`: asked before the call, or bytes would be lost. */
  #check(at: number): number {
    return this.#memory!.contains(at >>> 0, 4) ? ERRNO_SUCCESS : ERRNO_FAULT;
  }

  /** Stores the count of a finished call at `at`, or translates its errno. */
  #finish(result: number, at: number): number {
    if (result < 0) return lastErrno();
    this.#memory!.view.setUint32(at >>> 0, result, true);
    return ERRNO_SUCCESS;
  }
}
