// The outside world of a device in a test: WASI over what the test granted, all of it in memory.
// Nothing here reaches the host, so a test has the same result everywhere and every time.
//
// It refuses what host/runtime/wasi_snapshot_preview1.ts refuses, with the same errno.

import { CLOCK_MONOTONIC, CLOCK_REALTIME } from "../runtime/clock.js";
import type { ImportedCall, World } from "../runtime/instance.js";
import type { LinearMemory } from "../runtime/linear-memory.js";
import {
  ERRNO_BADF,
  ERRNO_FAULT,
  ERRNO_INVAL,
  ERRNO_NOTCAPABLE,
  ERRNO_SUCCESS,
  IO_BYTES_MAX,
  IOVECS_MAX,
} from "../runtime/wasi_snapshot_preview1.js";
import { type ResolvedGrant, wasiFdOf } from "../sandbox/grants.js";
import type { Manifest, Right } from "../sandbox/manifest.js";
import type { Descriptor } from "./descriptor.js";
import { Clock, type Grant } from "./grants.js";

const IOVEC_BYTES = 8;

interface Open {
  descriptor: Descriptor;
  rights: readonly Right[];
}

/** One transfer: what moves bytes, and between which arguments of the call. */
interface Transfer {
  right: Right;
  iovs: number;
  count: number;
  /** Where the number of bytes moved is stored. */
  result: number;
}

export class MemoryWorld implements World {
  /** By WASI descriptor. */
  readonly #open: (Open | undefined)[] = [];
  /** By WASI's clock id. */
  readonly #clocks: (() => bigint)[] = [];
  #memory: LinearMemory | undefined;

  constructor(
    manifest: Manifest,
    granted: readonly ResolvedGrant[],
    sources: Readonly<Record<string, Grant>>,
  ) {
    for (const { name, rights } of granted) {
      const source = sources[name]!;
      const descriptor = source.open?.();
      if (source instanceof Clock) this.#grantClock(source);
      if (descriptor) this.#open[wasiFdOf(manifest, name)] = { descriptor, rights };
    }
  }

  link(): Record<string, ImportedCall> {
    return {
      fd_read: (fd: number, iovs: number, count: number, result: number) =>
        this.#move(fd, { right: "read", iovs, count, result }, (to, into) => to.read(into)),
      fd_write: (fd: number, iovs: number, count: number, result: number) =>
        this.#move(fd, { right: "write", iovs, count, result }, (to, from) => to.write(from)),
      fd_pread: (fd: number, iovs: number, count: number, offset: bigint, result: number) =>
        this.#moveAt(fd, { right: "read", iovs, count, result }, offset),
      fd_pwrite: (fd: number, iovs: number, count: number, offset: bigint, result: number) =>
        this.#moveAt(fd, { right: "write", iovs, count, result }, offset),
      clock_time_get: (id: number, _precision: bigint, time: number) => this.#time(id, time),
    };
  }

  #grantClock(clock: Clock): void {
    this.#clocks[CLOCK_MONOTONIC] = () => clock.now;
    if (clock.realtime !== undefined) this.#clocks[CLOCK_REALTIME] = () => clock.realtime ?? 0n;
  }

  #time(id: number, at: number): number {
    const clock = this.#clocks[id];
    if (clock === undefined) return ERRNO_NOTCAPABLE;
    const memory = this.#memory!;
    memory.update();
    if (!memory.contains(at >>> 0, 8)) return ERRNO_FAULT;
    memory.view.setBigUint64(at >>> 0, clock(), true);
    return ERRNO_SUCCESS;
  }

  attach(_instance: WebAssembly.Instance, memory: LinearMemory): void {
    this.#memory = memory;
  }

  #moveAt(fd: number, transfer: Transfer, offset: bigint): number {
    return this.#move(fd, transfer, (on, bytes) => {
      if (offset < 0n) return -ERRNO_INVAL;
      const at = Number(offset); // above 2^53 it is inexact, and behind the end of every file
      return transfer.right === "read" ? on.pread(bytes, at) : on.pwrite(bytes, at);
    });
  }

  /** Checks everything that the module passed, then has `call` move the bytes. */
  #move(
    fd: number,
    { right, iovs, count, result }: Transfer,
    call: (descriptor: Descriptor, bytes: Uint8Array) => number,
  ): number {
    const open = this.#open[fd];
    if (open === undefined) return ERRNO_BADF;
    if (!open.rights.includes(right)) return ERRNO_NOTCAPABLE;
    const memory = this.#memory!;
    memory.update();
    const place = this.#place(memory, iovs >>> 0, count >>> 0);
    if (typeof place === "number") return place;
    if (!memory.contains(result >>> 0, 4)) return ERRNO_FAULT;
    const moved = call(open.descriptor, place);
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
