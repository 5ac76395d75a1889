// Requests that a device lets wait, oldest first, queue by queue. A request without readable bytes
// is an entry in an array; readable bytes are kept aside: the inbox is for the next message.

import { memcpy } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { UNANSWERED_BYTES_MAX } from "../wire/message.js";
import type { Placement } from "./instance.js";

/**
 * Room for the bytes kept aside: twice what may be kept, so that what is gone need be squeezed out
 * only once for each UNANSWERED_BYTES_MAX bytes that come. Pages that were never used cost nothing.
 */
const ROOM_BYTES = 2 * UNANSWERED_BYTES_MAX;

/** One request: whose it is, how much may be replied, and where its bytes are kept. */
interface Entry {
  id: number;
  capacity: number;
  bytes: number;
  at: number;
}

export class Waiting {
  readonly #queues: Entry[][];
  readonly #sizes: readonly number[];
  #count = 0;
  #room: Mapping | undefined;
  /** Bytes kept, and the end of what is used of the room: kept and gone. */
  #bytes = 0;
  #end = 0;

  /** @param sizes of the queues: no more requests of one can be unanswered */
  constructor(sizes: readonly number[]) {
    this.#sizes = sizes;
    this.#queues = sizes.map(() => []);
  }

  /** Requests of all queues. */
  get count(): number {
    return this.#count;
  }

  countOf(queue: number): number {
    return this.#queues[queue]!.length;
  }

  /**
   * Adds the youngest request of `queue`, whose readable bytes are at the native address `from`.
   * False when there are more than may be unanswered.
   */
  push(queue: number, request: Omit<Entry, "at">, from: number): boolean {
    const entries = this.#queues[queue]!;
    const { bytes } = request;
    if (entries.length >= this.#sizes[queue]!) return false;
    if (this.#bytes + bytes > UNANSWERED_BYTES_MAX) return false;
    entries.push({ ...request, at: bytes === 0 ? 0 : this.#keep(from, bytes) });
    this.#count += 1;
    return true;
  }

  #keep(from: number, bytes: number): number {
    this.#room ??= Mapping.anonymous(ROOM_BYTES);
    if (this.#end + bytes > ROOM_BYTES) this.#squeeze(this.#room);
    const at = this.#end;
    memcpy(this.#room.address + at, from, bytes);
    this.#end += bytes;
    this.#bytes += bytes;
    return at;
  }

  /** Moves what is kept to the front. */
  #squeeze(room: Mapping): void {
    const all = this.#queues.flat().filter(({ bytes }) => bytes > 0);
    const bytes = new Uint8Array(room.view.buffer);
    this.#end = 0;
    for (const entry of all.sort((a, b) => a.at - b.at)) {
      bytes.copyWithin(this.#end, entry.at, entry.at + entry.bytes);
      entry.at = this.#end;
      this.#end += entry.bytes;
    }
  }

  /** Puts the oldest request of `queue` in place again: its bytes at the native address `to`. */
  restore(queue: number, to: number, place: Placement): void {
    const { capacity, bytes, at } = this.#queues[queue]![0]!;
    if (bytes > 0) memcpy(to, this.#room!.address + at, bytes);
    place.readable = 0;
    place.bytes = bytes;
    place.writable = 0;
    place.capacity = capacity;
  }

  /** Drops the oldest request of `queue`; returns its id. */
  shift(queue: number): number {
    const { id, bytes } = this.#queues[queue]!.shift()!;
    this.#count -= 1;
    this.#bytes -= bytes;
    if (this.#bytes === 0) this.#end = 0;
    return id;
  }

  /** Drops everything. */
  clear(): void {
    for (const entries of this.#queues) entries.length = 0;
    this.#count = 0;
    this.#bytes = 0;
    this.#end = 0;
  }
}
