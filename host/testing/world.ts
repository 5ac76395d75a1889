// The outside world of a device in a test: WASI over what the test granted, all of it in memory.
// Nothing here reaches the host, so a test has the same result everywhere and every time.
//
// It refuses what host/runtime/wasi_snapshot_preview1.ts refuses, with the same errno.

import { IO_BYTES_MAX } from "../runtime/assembly/limits.js";
import { readableBit, writableBit } from "../runtime/attention.js";
import { isBeneath, openFlagsOf, writes } from "../runtime/directory-calls.js";
import {
  ERRNO_BADF,
  ERRNO_FAULT,
  ERRNO_INVAL,
  ERRNO_MFILE,
  ERRNO_NOTCAPABLE,
  ERRNO_SUCCESS,
} from "../runtime/errno.js";
import { FILESTAT_BYTES } from "../runtime/file-calls.js";
import type { ImportedCall, World } from "../runtime/instance.js";
import type { LinearMemory } from "../runtime/linear-memory.js";
import { FDFLAGS_NONBLOCK, IOVECS_MAX } from "../runtime/wasi_snapshot_preview1.js";
import { DIRECTORY_FILES_MAX, kindRow } from "../sandbox/grant-kinds.js";
import { functionsOn, type ResolvedGrant, WASI_FD_FIRST, wasiFdOf } from "../sandbox/grants.js";
import type { Manifest } from "../sandbox/manifest.js";
import { Descriptor } from "./descriptor.js";
import { Clock, type Grant } from "./grants.js";

const IOVEC_BYTES = 8;
const STDERR = 2;

/** `filestat` and `filetype` of wasi_snapshot_preview1.witx, as far as memory has them. */
const FILESTAT = { filetype: 16, nlink: 24, size: 32 } as const;
const FILETYPE_REGULAR_FILE = 4;

interface Open {
  descriptor: Descriptor;
  functions: ReadonlySet<string>;
  /** The functions that work on a connection that is accepted from it. */
  onOpened: ReadonlySet<string>;
  isAwaitable: boolean;
}

/** Descriptor 2 of every device: whole lines for the log. */
class Log extends Descriptor {
  readonly #line: (text: string) => void;

  constructor(line: (text: string) => void) {
    super();
    this.#line = line;
  }

  override write(from: Uint8Array): number {
    const lines = new TextDecoder().decode(from).split("\n");
    for (const line of lines) if (line !== "") this.#line(line);
    return from.length;
  }
}

export interface WorldOptions {
  /** What is granted, by name. */
  sources: Readonly<Record<string, Grant>>;
  /** Takes a line of the device's. */
  log(line: string): void;
  /** The device may have something to wake for. */
  changed(): void;
}

/** One transfer: what moves bytes, and between which arguments of the call. */
interface Transfer {
  name: string;
  iovs: number;
  count: number;
  /** Where the number of bytes moved is stored. */
  result: number;
}

export class MemoryWorld implements World {
  /** By WASI descriptor. */
  readonly #open: (Open | undefined)[] = [];
  readonly #log: Log;
  readonly #capabilityCount: number;
  #clock: Clock | undefined;
  #memory: LinearMemory | undefined;

  constructor(
    manifest: Manifest,
    granted: readonly ResolvedGrant[],
    { sources, log, changed }: WorldOptions,
  ) {
    this.#log = new Log(log);
    this.#capabilityCount = manifest.capabilities.length;
    for (const { name, kind, rights } of granted) {
      const source = sources[name]!;
      const descriptor = source.open(rights, changed);
      if (source instanceof Clock) this.#clock = source;
      if (descriptor === undefined) continue;
      const functions = functionsOn("grant", { kind, rights });
      const onOpened = functionsOn("opened", { kind, rights });
      const fd = wasiFdOf(manifest, name);
      const isAwaitable = kindRow(kind).isAwaitable === true;
      this.#open[fd] = { descriptor, functions, onOpened, isAwaitable };
    }
  }

  link(): Record<string, ImportedCall> {
    return {
      fd_read: (fd: number, iovs: number, count: number, result: number) =>
        this.#move(fd, { name: "fd_read", iovs, count, result }, (to, into) => to.read(into)),
      fd_write: (fd: number, iovs: number, count: number, result: number) =>
        this.#move(fd, { name: "fd_write", iovs, count, result }, (to, from) => to.write(from)),
      fd_pread: (fd: number, iovs: number, count: number, offset: bigint, result: number) =>
        this.#moveAt(fd, { name: "fd_pread", iovs, count, result }, offset),
      fd_pwrite: (fd: number, iovs: number, count: number, offset: bigint, result: number) =>
        this.#moveAt(fd, { name: "fd_pwrite", iovs, count, result }, offset),
      fd_filestat_get: (fd: number, at: number) => this.#filestat(fd, at),
      fd_filestat_set_size: (fd: number, bytes: bigint) => this.#resize(fd, bytes),
      fd_datasync: (fd: number) => this.#sync(fd, "fd_datasync"),
      fd_sync: (fd: number) => this.#sync(fd, "fd_sync"),
      sock_accept: (fd: number, flags: number, at: number) => this.#accept(fd, flags, at),
      fd_close: (fd: number) => this.#close(fd),
      path_open: this.#pathOpen.bind(this),
      path_unlink_file: (fd: number, at: number, bytes: number) => this.#unlink(fd, at, bytes),
      fd_readdir: this.#list.bind(this),
      random_get: (at: number, bytes: number) => this.#random(at >>> 0, bytes >>> 0),
      clock_time_get: (id: number, _precision: bigint, time: number) => this.#time(id, time),
    };
  }

  /** Whether a deadline of the device has come; without a clock none ever does. */
  isDue(deadline: bigint): boolean {
    return deadline !== 0n && this.#clock !== undefined && this.#clock.now >= deadline;
  }

  /** Those bits of the device's `interest` that have come. */
  comeOf(interest: number): number {
    let bits = 0;
    for (let index = 0; index < this.#capabilityCount; index++) {
      const fd = WASI_FD_FIRST + index;
      if (this.#open[fd]?.isAwaitable !== true) continue;
      // While somebody is connected, what is awaited is the connection.
      const { descriptor } = this.#open[fd + this.#capabilityCount] ?? this.#open[fd]!;
      if (descriptor.readable) bits |= readableBit(index);
      if (descriptor.writable) bits |= writableBit(index);
    }
    return interest & bits;
  }

  #time(id: number, at: number): number {
    const { now, realtime } = this.#clock ?? {};
    const time = [realtime, now][id]; // CLOCK_REALTIME is 0, CLOCK_MONOTONIC 1
    if (time === undefined) return ERRNO_NOTCAPABLE;
    const view = this.#view(at >>> 0, 8);
    view?.setBigUint64(0, time, true);
    return view === undefined ? ERRNO_FAULT : ERRNO_SUCCESS;
  }

  attach(_instance: WebAssembly.Instance, memory: LinearMemory): void {
    this.#memory = memory;
  }

  /** The descriptor behind `fd`, or the errno of its refusal. */
  #use(fd: number, name: string): Descriptor | number {
    const open = this.#open[fd];
    if (open === undefined) return ERRNO_BADF;
    return open.functions.has(name) ? open.descriptor : ERRNO_NOTCAPABLE;
  }

  #filestat(fd: number, at: number): number {
    const open = this.#use(fd, "fd_filestat_get");
    if (typeof open === "number") return open;
    const view = this.#view(at >>> 0, FILESTAT_BYTES);
    if (view === undefined) return ERRNO_FAULT;
    new Uint8Array(view.buffer, view.byteOffset, FILESTAT_BYTES).fill(0);
    view.setUint8(FILESTAT.filetype, FILETYPE_REGULAR_FILE);
    view.setBigUint64(FILESTAT.nlink, 1n, true);
    view.setBigUint64(FILESTAT.size, BigInt(open.size), true);
    return ERRNO_SUCCESS;
  }

  #resize(fd: number, bytes: bigint): number {
    const open = this.#use(fd, "fd_filestat_set_size");
    if (typeof open === "number") return open;
    return bytes < 0n ? ERRNO_INVAL : -open.resize(Number(bytes));
  }

  #sync(fd: number, name: string): number {
    const open = this.#use(fd, name);
    return typeof open === "number" ? open : -open.sync();
  }

  /** As in the runtime, each capability has one connection at a time, and one number for it. */
  #accept(fd: number, flags: number, at: number): number {
    const listening = this.#use(fd, "sock_accept");
    if (typeof listening === "number") return listening;
    const view = this.#view(at >>> 0, 4);
    if (view === undefined) return ERRNO_FAULT;
    if ((flags & ~FDFLAGS_NONBLOCK) !== 0) return ERRNO_INVAL;
    const connection = fd + this.#capabilityCount;
    if (this.#open[connection] !== undefined) return ERRNO_MFILE;
    const descriptor = listening.accept();
    if (typeof descriptor === "number") return -descriptor;
    const { onOpened: functions } = this.#open[fd]!;
    const none = { onOpened: new Set<string>(), isAwaitable: false };
    this.#open[connection] = { descriptor, functions, ...none };
    view.setUint32(0, connection, true);
    return ERRNO_SUCCESS;
  }

  /** As in the runtime; the path is a name of the test's directory. */
  #pathOpen(
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
    const directory = this.#use(fd, "path_open");
    if (typeof directory === "number") return directory;
    const name = this.#path(path, pathBytes);
    const view = this.#view(at >>> 0, 4);
    if (typeof name === "number") return name;
    if (view === undefined) return ERRNO_FAULT;
    const flags = openFlagsOf({ oflags, fdflags, rights });
    if (flags === undefined) return ERRNO_INVAL;
    const { onOpened: functions } = this.#open[fd]!;
    if (writes(flags) && !functions.has("fd_write")) return ERRNO_NOTCAPABLE;
    const index = fd - WASI_FD_FIRST;
    const first = WASI_FD_FIRST + 2 * this.#capabilityCount + index * DIRECTORY_FILES_MAX;
    let free = first;
    while (this.#open[free] !== undefined) free++;
    if (free >= first + DIRECTORY_FILES_MAX) return ERRNO_MFILE;
    const descriptor = directory.openAt(name, { oflags, fdflags, rights });
    if (typeof descriptor === "number") return -descriptor;
    this.#open[free] = { descriptor, functions, onOpened: new Set(), isAwaitable: false };
    view.setUint32(0, free, true);
    return ERRNO_SUCCESS;
  }

  #unlink(fd: number, at: number, bytes: number): number {
    const directory = this.#use(fd, "path_unlink_file");
    if (typeof directory === "number") return directory;
    const name = this.#path(at, bytes);
    return typeof name === "number" ? name : -directory.unlink(name);
  }

  #list(fd: number, at: number, bytes: number, cookie: bigint, used: number): number {
    const directory = this.#use(fd, "fd_readdir");
    if (typeof directory === "number") return directory;
    const [into, result] = [this.#view(at >>> 0, bytes >>> 0), this.#view(used >>> 0, 4)];
    if (into === undefined || result === undefined) return ERRNO_FAULT;
    const told = directory.list(into, cookie);
    if (told < 0) return -told;
    result.setUint32(0, told, true);
    return ERRNO_SUCCESS;
  }

  /** The path in the module's memory, or an errno. */
  #path(at: number, bytes: number): string | number {
    const view = this.#view(at >>> 0, bytes >>> 0);
    if (view === undefined) return ERRNO_FAULT;
    const path = new Uint8Array(view.buffer, view.byteOffset, bytes >>> 0);
    return isBeneath(path) ? new TextDecoder().decode(path) : ERRNO_NOTCAPABLE;
  }

  #close(fd: number): number {
    const open = this.#use(fd, "fd_close");
    if (typeof open === "number") return open;
    open.close();
    this.#open[fd] = undefined;
    return ERRNO_SUCCESS;
  }

  #random(at: number, bytes: number): number {
    const source = this.#open.find((open) => open?.functions.has("random_get"));
    if (source === undefined) return ERRNO_NOTCAPABLE;
    const view = this.#view(at, bytes);
    if (view === undefined) return ERRNO_FAULT;
    if (bytes > IO_BYTES_MAX) return ERRNO_INVAL;
    source.descriptor.read(new Uint8Array(view.buffer, view.byteOffset, bytes));
    return ERRNO_SUCCESS;
  }

  /** The memory from `at` on, or undefined where it ends too early. */
  #view(at: number, bytes: number): DataView | undefined {
    const memory = this.#memory!;
    memory.update();
    if (!memory.contains(at, bytes)) return undefined;
    return new DataView(memory.view.buffer, at, bytes);
  }

  #moveAt(fd: number, transfer: Transfer, offset: bigint): number {
    return this.#move(fd, transfer, (on, bytes) => {
      if (offset < 0n) return -ERRNO_INVAL;
      const at = Number(offset); // above 2^53 it is inexact, and behind the end of every file
      return transfer.name === "fd_pread" ? on.pread(bytes, at) : on.pwrite(bytes, at);
    });
  }

  /** Checks everything that the module passed, then has `call` move the bytes. */
  #move(
    fd: number,
    { name, iovs, count, result }: Transfer,
    call: (descriptor: Descriptor, bytes: Uint8Array) => number,
  ): number {
    const open = fd === STDERR && name === "fd_write" ? this.#log : this.#use(fd, name);
    if (typeof open === "number") return open;
    const memory = this.#memory!;
    memory.update();
    const place = this.#place(memory, iovs >>> 0, count >>> 0);
    if (typeof place === "number") return place;
    if (!memory.contains(result >>> 0, 4)) return ERRNO_FAULT;
    const moved = call(open, place);
    if (moved < 0) return -moved;
    memory.view.setUint32(result >>> 0, moved, true);
    return ERRNO_SUCCESS;
  }

  /** The first iovec that is not empty, cut as the runtime cuts it; or an errno. */
  #place(memory: LinearMemory, at: number, count: number): Uint8Array | number {
    if (count > IOVECS_MAX) return ERRNO_INVAL;
    if (!memory.contains(at, count * IOVEC_BYTES)) return ERRNO_FAULT;
    for (let i = 0; i < count; i++) {
      const pointer = memory.view.getUint32(at + i * IOVEC_BYTES, true);
      const bytes = memory.view.getUint32(at + i * IOVEC_BYTES + 4, true);
      if (!memory.contains(pointer, bytes)) return ERRNO_FAULT;
      if (bytes === 0) continue;
      return new Uint8Array(memory.view.buffer, pointer, Math.min(bytes, IO_BYTES_MAX));
    }
    return new Uint8Array(0);
  }
}
