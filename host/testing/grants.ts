// What a test grants a device, by the words of `--grant ID.NAME=KIND:WHAT[:RIGHTS]`; but WHAT is in
// memory, where the test sees and changes it.

import { wasiErrno } from "../runtime/errno.js";
import type { GrantKind, Right } from "../sandbox/grants.js";
import { Descriptor } from "./descriptor.js";

/** Bytes, or text that stands for its UTF-8. */
export type Bytes = Uint8Array | string;

/** The rights of a grant, as on the command line. */
export type RightsWord = "ro" | "wo" | "rw" | "ap" | "connect" | "listen";

/** Something that openDevice() can grant. */
export interface Grant {
  readonly kind: GrantKind;
  /** As it would stand on the command line, in messages. */
  readonly what: string;
  /** All that the device asks for, where none are said. */
  readonly rights: RightsWord | undefined;
  /**
   * What the device gets: a descriptor of its own, or nothing where none stands for the kind.
   *
   * @param changed is called when the device may have something to wake for
   */
  open(rights: readonly Right[], changed: () => void): Descriptor | undefined;
}

/** A device that writes at a huge offset fails, as on a full disk, and the test's memory stays. */
export const FILE_BYTES_MAX = 64 * 1024 * 1024;
const ERRNO_FBIG = wasiErrno("FBIG");

/** A copy, which is no Buffer: one that the device did not change is equal to what it was. */
export function bytesOf(bytes: Bytes): Uint8Array {
  return typeof bytes === "string" ? new TextEncoder().encode(bytes) : new Uint8Array(bytes);
}

/** A file in memory: what the test puts into it the device reads, and the other way round. */
export class MemoryFile implements Grant {
  readonly kind = "file";
  readonly what = "in memory";
  readonly rights: RightsWord | undefined;
  /** Times that the device waited until what it wrote was on the disk. */
  syncs = 0;
  /** Has room to grow behind `#size`. */
  #room: Uint8Array;
  #size: number;

  constructor(contents: Bytes | number, rights?: RightsWord) {
    this.#room = typeof contents === "number" ? new Uint8Array(contents) : bytesOf(contents);
    this.#size = this.#room.length;
    this.rights = rights;
  }

  /** The contents now; writing into it changes the file. */
  get bytes(): Uint8Array {
    return this.#room.subarray(0, this.#size);
  }

  set bytes(contents: Bytes) {
    this.#room = bytesOf(contents);
    this.#size = this.#room.length;
  }

  open(rights: readonly Right[]): Descriptor {
    return new OpenFile(this, rights.includes("append"));
  }

  /** Makes it `bytes` long, with zeros at its end where it grows; 0, or a negative errno. */
  resize(bytes: number): number {
    if (bytes > FILE_BYTES_MAX) return -ERRNO_FBIG;
    const resized = new Uint8Array(bytes);
    resized.set(this.bytes.subarray(0, bytes));
    this.#room = resized;
    this.#size = bytes;
    return 0;
  }

  /** What is in memory is as safe as it will ever be; 0, or a negative errno. */
  sync(): number {
    this.syncs += 1;
    return 0;
  }

  /** Writes at `offset`, with zeros before it where the file ended earlier. */
  put(from: Uint8Array, offset: number): number {
    const end = offset + from.length;
    if (end > FILE_BYTES_MAX) return -ERRNO_FBIG;
    if (end > this.#room.length) {
      const grown = new Uint8Array(Math.max(end, Math.min(2 * this.#size, FILE_BYTES_MAX)));
      grown.set(this.bytes);
      this.#room = grown;
    }
    this.#room.set(from, offset);
    this.#size = Math.max(this.#size, end);
    return from.length;
  }
}

class OpenFile extends Descriptor {
  readonly #file: MemoryFile;
  readonly #appends: boolean;
  #position = 0;

  constructor(file: MemoryFile, appends: boolean) {
    super();
    this.#file = file;
    this.#appends = appends;
  }

  override get size(): number {
    return this.#file.bytes.length;
  }

  override resize(bytes: number): number {
    return this.#file.resize(bytes);
  }

  override sync(): number {
    return this.#file.sync();
  }

  override read(into: Uint8Array): number {
    const count = this.pread(into, this.#position);
    this.#position += count;
    return count;
  }

  override pread(into: Uint8Array, offset: number): number {
    const part = this.#file.bytes.subarray(offset, offset + into.length);
    into.set(part);
    return part.length;
  }

  override write(from: Uint8Array): number {
    if (this.#appends) this.#position = this.#file.bytes.length;
    const count = this.pwrite(from, this.#position);
    if (count > 0) this.#position += count;
    return count;
  }

  override pwrite(from: Uint8Array, offset: number): number {
    return this.#file.put(from, offset);
  }
}

/** An endless source of bytes that depend on the seed alone (xorshift32). */
export class SeededSource extends Descriptor {
  #state: number;

  constructor(seed: number) {
    super();
    this.#state = seed | 1;
  }

  override read(into: Uint8Array): number {
    for (let i = 0; i < into.length; i++) {
      this.#state ^= this.#state << 13;
      this.#state ^= this.#state >>> 17;
      this.#state ^= this.#state << 5;
      into[i] = this.#state;
    }
    return into.length;
  }

  override pread(into: Uint8Array): number {
    return this.read(into);
  }
}

/** A file with these contents; a number is that many zeros. */
export function file(contents: Bytes | number = 0, rights?: RightsWord): MemoryFile {
  return new MemoryFile(contents, rights);
}

/** Random numbers of the host, but of which every one follows from `seed`. */
export function random(seed = 1): Grant {
  return {
    kind: "random",
    what: "urandom",
    rights: undefined,
    open: () => new SeededSource(seed),
  };
}

/** A file that never ends, like /dev/urandom, but of which every byte follows from `seed`. */
export function endless(seed = 1): Grant {
  return { kind: "file", what: "endless", rights: "ro", open: () => new SeededSource(seed) };
}

/** Clocks that stand still until the test sets them; both count nanoseconds. */
export class Clock implements Grant {
  readonly kind = "clock";
  readonly rights = undefined;
  /** The monotonic clock. */
  now: bigint;
  /** The time of day since 1970-01-01 00:00 UTC; undefined where only the other one is granted. */
  realtime: bigint | undefined;
  readonly #changed: (() => void)[] = [];

  constructor(now: bigint, realtime?: bigint) {
    this.now = now;
    this.realtime = realtime;
  }

  get what(): string {
    return this.realtime === undefined ? "monotonic" : "realtime";
  }

  /** Lets time pass, on both clocks; a device whose deadline comes is woken. */
  advance(nanoseconds: bigint | number): void {
    this.now += BigInt(nanoseconds);
    if (this.realtime !== undefined) this.realtime += BigInt(nanoseconds);
    for (const changed of this.#changed) changed();
  }

  open(_rights: readonly Right[], changed: () => void): undefined {
    this.#changed.push(changed);
  }
}

/** `clock:monotonic`, at `now`; with a second time it is `clock:realtime`, too. */
export function clock(now = 0n, realtime?: bigint): Clock {
  return new Clock(now, realtime);
}
