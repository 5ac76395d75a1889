// The chains of one queue that the device holds: popped, not answered yet. Everything is allocated
// at the start; a chain is a slot (its id towards the device), and its memory is a list of segments
// from one pool: first the readable ones, then the writable ones. Committed chains are ordered by
// age, so that a restarted device is told everything again in the order in which the driver asked.

import { assert } from "../errors.js";

/** No slot, no segment. */
export const NONE = -1;

/**
 * Segments of all chains in flight of one queue. One recvmsg with IOV_MAX (1024) pieces must be
 * able to scatter replies to all of them, behind the message's header.
 */
export const SEGMENTS_IN_FLIGHT_MAX = 1023;

/** A list head for each slot. */
function perSlot(slotCount: number): Int16Array {
  return new Int16Array(slotCount).fill(NONE);
}

/** The chains of one queue in flight. */
export class Chains {
  /** Head descriptor index of each slot: what the used ring will name. */
  readonly head: Uint16Array;
  /** Bytes of the readable part. */
  readonly readableBytes: Uint32Array;
  /** Bytes of the writable part that the device may fill. */
  readonly writableBytes: Uint32Array;
  /** Bytes of the readable part that the device was sent. */
  readonly sentBytes: Uint32Array;
  /** Bytes of the writable part that the device has filled. */
  readonly receivedBytes: Uint32Array;
  /** When each chain was found in the available ring, by the clock of the queue's meter. */
  readonly foundMs: Float64Array;

  // Slots: free ones are chained through #newer, committed ones form a list by age.
  readonly #newer: Int16Array;
  readonly #older: Int16Array;
  readonly #sent: Uint8Array;
  readonly #headInFlight = new Uint8Array(2 ** 16);
  /** The message of replies in which each slot was claimed last, and the present one. */
  readonly #claimedIn: Uint32Array;
  #claims = 0;
  #freeSlot = NONE;
  #oldest = NONE;
  #newest = NONE;
  #unsent = NONE;
  #count = 0;

  // Segments: free ones and those of a chain are chained through #segmentNext.
  readonly #segmentHva = new Float64Array(SEGMENTS_IN_FLIGHT_MAX);
  readonly #segmentBytes = new Uint32Array(SEGMENTS_IN_FLIGHT_MAX);
  readonly #segmentNext = new Int16Array(SEGMENTS_IN_FLIGHT_MAX);
  readonly #firstSegment: Int16Array;
  readonly #firstWritable: Int16Array;
  readonly #lastSegment: Int16Array;
  #freeSegment = NONE;

  // Where seekReadable() or seekWritable() and next() are.
  #segment = NONE;
  #offset = 0;
  #begunBytes = 0;
  #pieceHva = 0;

  constructor(slotCount: number) {
    this.head = new Uint16Array(slotCount);
    this.readableBytes = new Uint32Array(slotCount);
    this.writableBytes = new Uint32Array(slotCount);
    this.sentBytes = new Uint32Array(slotCount);
    this.receivedBytes = new Uint32Array(slotCount);
    this.foundMs = new Float64Array(slotCount);
    this.#newer = perSlot(slotCount);
    this.#older = perSlot(slotCount);
    this.#sent = new Uint8Array(slotCount);
    this.#claimedIn = new Uint32Array(slotCount);
    this.#firstSegment = perSlot(slotCount);
    this.#firstWritable = perSlot(slotCount);
    this.#lastSegment = perSlot(slotCount);
    this.clear();
  }

  /** Forgets all chains: the driver reset the device. */
  clear(): void {
    this.#begunBytes = 0;
    this.#headInFlight.fill(0);
    this.#sent.fill(0);
    this.#count = 0;
    this.#oldest = NONE;
    this.#newest = NONE;
    this.#unsent = NONE;
    for (let slot = 0; slot < this.slotCount; slot += 1) this.#newer[slot] = slot + 1;
    this.#newer[this.slotCount - 1] = NONE;
    this.#freeSlot = 0;
    for (let i = 0; i < SEGMENTS_IN_FLIGHT_MAX; i += 1) this.#segmentNext[i] = i + 1;
    this.#segmentNext[SEGMENTS_IN_FLIGHT_MAX - 1] = NONE;
    this.#freeSegment = 0;
  }

  /** Readable bytes of the chains that the device was told of, even if only in part. */
  get begunBytes(): number {
    return this.#begunBytes;
  }

  /** Committed chains. */
  get count(): number {
    return this.#count;
  }

  /** Slots there are: every id is below it. */
  get slotCount(): number {
    return this.head.length;
  }

  /** Oldest chain that the device was not told of completely, or NONE. */
  get unsent(): number {
    return this.#unsent;
  }

  /** Whether the device was told of a part of that chain: nothing else may come in between. */
  get inPieces(): boolean {
    return this.#unsent !== NONE && this.sentBytes[this.#unsent]! > 0;
  }

  /** The next younger chain than `slot`, or NONE. */
  newerThan(slot: number): number {
    return this.#newer[slot]!;
  }

  /** Whether the chain that begins at descriptor `head` is in flight. */
  holds(head: number): boolean {
    return this.#headInFlight[head] === 1;
  }

  /** Whether `id` names a chain that was sent to the device as a whole; any number is safe. */
  answerable(id: number): boolean {
    return id < this.slotCount && this.#sent[id] === 1;
  }

  /** Begins a message of replies: each chain can be claimed once in it. */
  beginClaims(): void {
    this.#claims = (this.#claims + 1) >>> 0;
  }

  /** Whether `slot` was not claimed in this message yet; it is now. */
  claim(slot: number): boolean {
    if (this.#claimedIn[slot] === this.#claims) return false;
    this.#claimedIn[slot] = this.#claims;
    return true;
  }

  /** Begins a chain, to be filled and then committed or discarded before the next one begins. */
  open(head: number): number {
    const slot = this.#freeSlot;
    assert(slot !== NONE, "more chains in flight than slots");
    this.#freeSlot = this.#newer[slot]!;
    this.head[slot] = head;
    this.readableBytes[slot] = 0;
    this.writableBytes[slot] = 0;
    this.sentBytes[slot] = 0;
    this.receivedBytes[slot] = 0;
    this.#sent[slot] = 0;
    this.#firstSegment[slot] = NONE;
    this.#firstWritable[slot] = NONE;
    this.#lastSegment[slot] = NONE;
    return slot;
  }

  /** A segment for the chain being filled, or NONE when all are in flight. */
  segment(hva: number, bytes: number): number {
    const segment = this.#freeSegment;
    if (segment === NONE) return NONE;
    this.#freeSegment = this.#segmentNext[segment]!;
    this.#segmentHva[segment] = hva;
    this.#segmentBytes[segment] = bytes;
    return segment;
  }

  addReadable(slot: number, segment: number): void {
    assert(this.#firstWritable[slot] === NONE, "a readable segment behind a writable one");
    this.readableBytes[slot]! += this.#segmentBytes[segment]!;
    this.#append(slot, segment);
  }

  addWritable(slot: number, segment: number): void {
    if (this.#firstWritable[slot] === NONE) this.#firstWritable[slot] = segment;
    this.writableBytes[slot]! += this.#segmentBytes[segment]!;
    this.#append(slot, segment);
  }

  #append(slot: number, segment: number): void {
    const last = this.#lastSegment[slot]!;
    if (last === NONE) this.#firstSegment[slot] = segment;
    else this.#segmentNext[last] = segment;
    this.#lastSegment[slot] = segment;
    this.#segmentNext[segment] = NONE;
  }

  /** The chain is complete and in flight from now on. */
  commit(slot: number): void {
    this.#older[slot] = this.#newest;
    this.#newer[slot] = NONE;
    if (this.#newest === NONE) this.#oldest = slot;
    else this.#newer[this.#newest] = slot;
    this.#newest = slot;
    if (this.#unsent === NONE) this.#unsent = slot;
    this.#headInFlight[this.head[slot]!] = 1;
    this.#count += 1;
  }

  /** Takes back a chain that was opened and not committed. */
  discard(slot: number): void {
    this.#release(slot);
  }

  /** The device is told of `bytes` more readable bytes of the oldest unsent chain. */
  noteSent(bytes: number): void {
    const slot = this.#unsent;
    if (bytes > 0 && this.sentBytes[slot] === 0) this.#begunBytes += this.readableBytes[slot]!;
    this.sentBytes[slot]! += bytes;
  }

  /** The device was told of the oldest unsent chain completely. */
  markSent(): void {
    const slot = this.#unsent;
    this.#sent[slot] = 1;
    this.#unsent = this.#newer[slot]!;
  }

  /** Ends a chain that was answered. */
  close(slot: number): void {
    assert(this.#sent[slot] === 1, "a chain closed before it was sent");
    const older = this.#older[slot]!;
    const newer = this.#newer[slot]!;
    if (older === NONE) this.#oldest = newer;
    else this.#newer[older] = newer;
    if (newer === NONE) this.#newest = older;
    else this.#older[newer] = older;
    this.#headInFlight[this.head[slot]!] = 0;
    this.#begunBytes -= this.readableBytes[slot]!;
    this.#sent[slot] = 0;
    this.#count -= 1;
    this.#release(slot);
  }

  #release(slot: number): void {
    const last = this.#lastSegment[slot]!;
    if (last !== NONE) {
      this.#segmentNext[last] = this.#freeSegment;
      this.#freeSegment = this.#firstSegment[slot]!;
    }
    this.#newer[slot] = this.#freeSlot;
    this.#freeSlot = slot;
  }

  /** Nothing of any chain was sent or received: a new device process has everything before it. */
  rewind(): void {
    this.#begunBytes = 0;
    this.#sent.fill(0);
    this.sentBytes.fill(0);
    this.receivedBytes.fill(0);
    this.#unsent = this.#oldest;
  }

  /** Makes next() begin at byte `offset` of the readable part. */
  seekReadable(slot: number, offset: number): void {
    this.#segment = this.#firstSegment[slot]!;
    this.#seek(offset);
  }

  /** Makes next() begin at byte `offset` of the writable part. */
  seekWritable(slot: number, offset: number): void {
    this.#segment = this.#firstWritable[slot]!;
    this.#seek(offset);
  }

  #seek(offset: number): void {
    let skip = offset;
    while (this.#segment !== NONE && skip >= this.#segmentBytes[this.#segment]!) {
      skip -= this.#segmentBytes[this.#segment]!;
      this.#segment = this.#segmentNext[this.#segment]!;
    }
    this.#offset = skip;
  }

  /**
   * Goes over the next contiguous piece of at most `limit` bytes: its size, its address in
   * pieceHva.
   */
  next(limit: number): number {
    assert(this.#segment !== NONE, "a piece beyond the chain");
    const rest = this.#segmentBytes[this.#segment]! - this.#offset;
    const bytes = Math.min(limit, rest);
    this.#pieceHva = this.#segmentHva[this.#segment]! + this.#offset;
    this.#offset += bytes;
    if (bytes === rest) {
      this.#segment = this.#segmentNext[this.#segment]!;
      this.#offset = 0;
    }
    return bytes;
  }

  /** Host address of what next() went over. */
  get pieceHva(): number {
    return this.#pieceHva;
  }
}
