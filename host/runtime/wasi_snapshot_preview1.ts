// The functions of WASI preview 1 that a device module can be given, over granted descriptors. Data
// moves between the descriptor and the module's memory in one system call, without a copy here.
//
// Everything a module passes is hostile: a pointer and a length are checked against the memory's
// size as it is now, before the system call that would follow them.

import { pread64, pwrite64, read, write } from "../ffi/libc.js";
import { DIRECTORY_FILES_MAX } from "../sandbox/grant-kinds.js";
import {
  type ClockName,
  type GrantedFd,
  NO_FD,
  WASI_FD_FIRST,
  wasiFdOf,
} from "../sandbox/grants.js";
import type { Manifest } from "../sandbox/manifest.js";
import { IO_BYTES_MAX } from "./assembly/limits.js";
import { CLOCK_MONOTONIC, CLOCK_REALTIME, nanosecondsOf } from "./clock.js";
import { DirectoryCalls, Listing, openFlagsOf, writes } from "./directory-calls.js";
import {
  ERRNO_AGAIN,
  ERRNO_BADF,
  ERRNO_FAULT,
  ERRNO_INVAL,
  ERRNO_IO,
  ERRNO_MFILE,
  ERRNO_NOTCAPABLE,
  ERRNO_SUCCESS,
  lastErrno,
} from "./errno.js";
import { FILESTAT_BYTES, Stat, sync, truncate, Winsize, writeFilestat } from "./file-calls.js";
import type { ImportedCall, Say, World } from "./instance.js";
import type { LinearMemory } from "./linear-memory.js";
import { LOG_WRITE_BYTES_MAX, ModuleLog } from "./log.js";
import { type OpenFile, openedFrom, openFile } from "./open-file.js";
import { OtherEnd } from "./other-end.js";
import { accept, closeConnection } from "./socket-calls.js";
import { Transfers } from "./transfers.js";

/** The descriptor of a module's that is the VMM's log. */
const STDERR = 2;

/** WASI's `clockid` (wasi_snapshot_preview1.witx): the first two are Linux' own. */
const CLOCKID_REALTIME = CLOCK_REALTIME;
const CLOCKID_MONOTONIC = CLOCK_MONOTONIC;

/** WASI's `fdflags`: calls do not wait, as none of ours on a connection does. */
export const FDFLAGS_NONBLOCK = 4;

/** Elements of an iovec array, as Linux limits them (IOV_MAX). */
export const IOVECS_MAX = 1024;
const IOVEC_BYTES = 8;

/** The world of a device: the descriptors that it was granted and nothing else. */
export class GrantedFiles implements World {
  /** By WASI descriptor; one that does not exist or was not granted is a hole. */
  readonly #files: (OpenFile | undefined)[] = [];
  #memory: LinearMemory | undefined;
  #log: ModuleLog | undefined;
  /** The clocks of WASI that may be read, by id: none, until one is granted. */
  readonly #clocks: boolean[] = [];
  /** The transfer that is being checked: fields, so that a call allocates nothing. */
  #fd = -1;
  #address = 0;
  #bytes = 0;

  /** A connection from the n-th capability, counted from 0, is n descriptors behind this one. */
  readonly #connectionFdFirst: number;
  /** Behind those, DIRECTORY_FILES_MAX descriptors for files of each capability. */
  readonly #fileFdFirst: number;
  readonly #directory = new DirectoryCalls();
  #beforeClose: (fd: number) => void = () => {};
  #transfers: Transfers | undefined;
  /** What random_get() reads from: the first grant that links it. */
  readonly #random: OpenFile | undefined;
  readonly #stat = new Stat();
  readonly #winsize = new Winsize();
  readonly #otherEnd = new OtherEnd();

  constructor(manifest: Manifest, grants: readonly GrantedFd[]) {
    for (const { name, kind, rights, fd, clock, deviceBytes = 0 } of grants) {
      if (kind === "clock") this.#grantClock(clock);
      if (fd === NO_FD) continue;
      this.#files[wasiFdOf(manifest, name)] = openFile({ fd, kind, rights, deviceBytes });
    }
    this.#connectionFdFirst = WASI_FD_FIRST + manifest.capabilities.length;
    this.#fileFdFirst = this.#connectionFdFirst + manifest.capabilities.length;
    this.#random = this.#files.find((file) => file?.functions.has("random_get"));
  }

  link(): Record<string, ImportedCall> {
    const transfers = {
      fd_read: this.fd_read.bind(this),
      fd_pread: this.fd_pread.bind(this),
      fd_write: this.fd_write.bind(this),
      fd_pwrite: this.fd_pwrite.bind(this),
    };
    this.#transfers = new Transfers(transfers, this.#files);
    return {
      ...transfers,
      ...this.#transfers.functions,
      fd_filestat_get: this.fd_filestat_get.bind(this),
      fd_filestat_set_size: this.fd_filestat_set_size.bind(this),
      fd_datasync: this.fd_datasync.bind(this),
      fd_sync: this.fd_sync.bind(this),
      sock_accept: this.sock_accept.bind(this),
      fd_close: this.fd_close.bind(this),
      path_open: this.path_open.bind(this),
      path_unlink_file: this.path_unlink_file.bind(this),
      fd_readdir: this.fd_readdir.bind(this),
      clock_time_get: this.clock_time_get.bind(this),
      random_get: this.random_get.bind(this),
    };
  }

  /** Closes the connections that the module did not. */
  release(): void {
    for (const file of this.#files.splice(this.#connectionFdFirst)) {
      if (file === undefined) continue;
      this.#beforeClose(file.fd);
      closeConnection(file.fd);
    }
  }

  connectionOf(index: number): number | undefined {
    return this.#files[this.#connectionFdFirst + index]?.fd;
  }

  beforeClose(listener: (fd: number) => void): void {
    this.#beforeClose = listener;
  }

  attach(instance: WebAssembly.Instance, memory: LinearMemory, say: Say = () => {}): void {
    this.#memory = memory;
    this.#transfers?.attach(instance.exports.memory);
    this.#transfers?.follow(memory);
    this.#log = new ModuleLog(say);
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

  // The four below, called for what is not plain (transfers.ts), move the first iovec that is not
  // empty and no other: a short transfer is always legal, and one system call on one granted
  // descriptor is all that the filter has to allow.

  fd_read(fd: number, iovs: number, count: number, nread: number): number {
    const refused = this.#use(fd, "fd_read") || this.#place(iovs, count) || this.#check(nread);
    return refused || this.#finish(read(this.#fd, this.#address, this.#bytes), nread);
  }

  fd_write(fd: number, iovs: number, count: number, nwritten: number): number {
    if (fd === STDERR) return this.#logged(iovs, count, nwritten);
    const refused = this.#use(fd, "fd_write") || this.#place(iovs, count) || this.#check(nwritten);
    if (refused) return refused;
    const moved = write(this.#fd, this.#address, this.#bytes);
    const errno = this.#finish(moved, nwritten);
    // Where nothing moved, is there no room for it, or nobody to read it?
    if (moved > 0 || !this.#files[fd]!.hasOtherEnd) return errno;
    if (errno !== ERRNO_SUCCESS && errno !== ERRNO_AGAIN) return errno;
    return this.#otherEnd.isGone(this.#fd) ? ERRNO_IO : errno;
  }

  fd_pread(fd: number, iovs: number, count: number, offset: bigint, nread: number): number {
    const refused = this.#use(fd, "fd_pread") || this.#place(iovs, count) || this.#check(nread);
    return refused || this.#finish(pread64(this.#fd, this.#address, this.#bytes, offset), nread);
  }

  /** The same for the log, which every module may write to. */
  #logged(iovs: number, count: number, nwritten: number): number {
    const refused = this.#place(iovs, count) || this.#check(nwritten);
    if (refused) return refused;
    const { address, view } = this.#memory!;
    const bytes = Math.min(this.#bytes, LOG_WRITE_BYTES_MAX);
    this.#log!.write(new Uint8Array(view.buffer, this.#address - address, bytes));
    return this.#finish(bytes, nwritten);
  }

  fd_pwrite(fd: number, iovs: number, count: number, offset: bigint, nwritten: number): number {
    const refused = this.#use(fd, "fd_pwrite") || this.#place(iovs, count) || this.#check(nwritten);
    if (refused) return refused;
    return this.#finish(pwrite64(this.#fd, this.#address, this.#bytes, offset), nwritten);
  }

  fd_filestat_get(fd: number, at: number): number {
    const refused = this.#use(fd, "fd_filestat_get") || this.#check(at, FILESTAT_BYTES);
    if (refused) return refused;
    const { view } = this.#memory!;
    if (this.#files[fd]!.isTerminal) {
      if (this.#winsize.get(this.#fd) < 0) return lastErrno();
      this.#winsize.write(view, at >>> 0);
      return ERRNO_SUCCESS;
    }
    if (this.#stat.get(this.#fd) < 0) return lastErrno();
    const { deviceBytes } = this.#files[fd]!;
    writeFilestat(this.#stat.view, deviceBytes, { view, at: at >>> 0 });
    return ERRNO_SUCCESS;
  }

  fd_filestat_set_size(fd: number, bytes: bigint): number {
    return this.#use(fd, "fd_filestat_set_size") || this.#done(truncate(this.#fd, bytes));
  }

  fd_datasync(fd: number): number {
    return this.#use(fd, "fd_datasync") || this.#done(sync(this.#fd, "data"));
  }

  fd_sync(fd: number): number {
    return this.#use(fd, "fd_sync") || this.#done(sync(this.#fd, "all"));
  }

  /**
   * Takes the next who connects, and stores the descriptor of the connection, which is always the
   * same. There is one at a time from each capability: others wait, or are turned away.
   */
  sock_accept(fd: number, flags: number, at: number): number {
    const refused = this.#use(fd, "sock_accept") || this.#check(at);
    if (refused) return refused;
    if ((flags & ~FDFLAGS_NONBLOCK) !== 0) return ERRNO_INVAL;
    const connection = this.#connectionFdFirst + fd - WASI_FD_FIRST;
    if (this.#files[connection] !== undefined) return ERRNO_MFILE;
    const accepted = accept(this.#fd);
    if (accepted < 0) return lastErrno();
    this.#files[connection] = openedFrom(this.#files[fd]!, accepted);
    this.#memory!.view.setUint32(at >>> 0, connection, true);
    return ERRNO_SUCCESS;
  }

  /**
   * Opens what is at a path beneath a directory, and stores its descriptor: a file or a directory,
   * and nothing else. No link is followed.
   */
  path_open(
    fd: number,
    _dirflags: number,
    path: number,
    pathBytes: number,
    oflags: number,
    rights: bigint,
    _inheriting: bigint,
    fdflags: number,
    at: number,
  ): number {
    const refused = this.#use(fd, "path_open") || this.#take(path, pathBytes) || this.#check(at);
    if (refused) return refused;
    const flags = openFlagsOf({ oflags, fdflags, rights });
    if (flags === undefined) return ERRNO_INVAL;
    const from = this.#files[fd]!;
    if (writes(flags) && !from.onOpened.has("fd_write")) return ERRNO_NOTCAPABLE;
    const first = this.#fileFdFirst + (fd - WASI_FD_FIRST) * DIRECTORY_FILES_MAX;
    let free = first;
    while (this.#files[free] !== undefined) free++;
    if (free >= first + DIRECTORY_FILES_MAX) return ERRNO_MFILE;
    const opened = this.#directory.open(this.#fd, flags);
    if (opened < 0) return lastErrno();
    if (this.#stat.get(opened) < 0 || !this.#stat.isFileOrDirectory) {
      closeConnection(opened);
      return ERRNO_NOTCAPABLE;
    }
    this.#files[free] = openedFrom(from, opened);
    this.#memory!.view.setUint32(at >>> 0, free, true);
    return ERRNO_SUCCESS;
  }

  path_unlink_file(fd: number, path: number, pathBytes: number): number {
    const refused = this.#use(fd, "path_unlink_file") || this.#take(path, pathBytes);
    return refused || this.#done(this.#directory.unlink(this.#fd));
  }

  /** Stores whole entries of an opened directory, each once, in the order of their cookies. */
  fd_readdir(fd: number, at: number, bytes: number, cookie: bigint, used: number): number {
    const refused =
      this.#use(fd, "fd_readdir") || this.#check(at, bytes >>> 0) || this.#check(used);
    if (refused) return refused;
    const file = this.#files[fd]!;
    file.listing ??= new Listing();
    if (cookie !== file.listing.told) return ERRNO_INVAL;
    const into = new DataView(this.#memory!.view.buffer, at >>> 0, bytes >>> 0);
    return this.#finish(file.listing.fill(this.#fd, into), used);
  }

  /** Takes the path at `at` out of the module's memory. */
  #take(at: number, bytes: number): number {
    const refused = this.#check(at, bytes >>> 0);
    if (refused) return refused;
    const { buffer } = this.#memory!.view;
    const path = new Uint8Array(buffer, at >>> 0, bytes >>> 0);
    return this.#directory.take(path) ? ERRNO_SUCCESS : ERRNO_NOTCAPABLE;
  }

  /** Ends a connection that was accepted, or closes a file; what was granted stays open. */
  fd_close(fd: number): number {
    const refused = this.#use(fd, "fd_close");
    if (refused) return refused;
    this.#files[fd]!.listing?.close();
    this.#files[fd] = undefined;
    this.#beforeClose(this.#fd);
    return this.#done(closeConnection(this.#fd));
  }

  /** Fills all of the buffer, or fails; a short read of /dev/urandom is not an end. */
  random_get(at: number, bytes: number): number {
    if (this.#random === undefined) return ERRNO_NOTCAPABLE;
    const refused = this.#check(at, bytes >>> 0);
    if (refused) return refused;
    if (bytes >>> 0 > IO_BYTES_MAX) return ERRNO_INVAL;
    for (let done = 0; done < bytes; ) {
      const { address } = this.#memory!;
      const count = read(this.#random.fd, address + (at >>> 0) + done, bytes - done);
      if (count < 0) return lastErrno();
      if (count === 0) return ERRNO_IO;
      done += count;
    }
    return ERRNO_SUCCESS;
  }

  /** Finds the granted descriptor behind `fd`: 0, or the errno of its refusal. */
  #use(fd: number, name: string): number {
    const file = this.#files[fd];
    if (!file) return ERRNO_BADF;
    if (!file.functions.has(name)) return ERRNO_NOTCAPABLE;
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
    this.#transfers?.follow(memory);
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
  #check(at: number, bytes = 4): number {
    this.#memory!.update();
    return this.#memory!.contains(at >>> 0, bytes) ? ERRNO_SUCCESS : ERRNO_FAULT;
  }

  /** Translates the result of a finished call that counts nothing. */
  #done(result: number): number {
    return result < 0 ? lastErrno() : ERRNO_SUCCESS;
  }

  /** Stores the count of a finished call at `at`, or translates its errno. */
  #finish(result: number, at: number): number {
    if (result < 0) return lastErrno();
    this.#memory!.view.setUint32(at >>> 0, result, true);
    return ERRNO_SUCCESS;
  }
}
