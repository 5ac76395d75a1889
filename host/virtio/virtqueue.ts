// A split virtqueue, seen from the device (virtio v1.2 §2.7). The driver writes to these rings
// while we read them: everything is read once, and what was read is what is checked and used. A
// driver that breaks the rules gets a fault, which is a value: pop() returns FAULT, and `fault`
// says why.

import { assert } from "../errors.js";
import { CHAIN_BYTES_MAX } from "../wire/format.js";
import { Chains, NONE, SEGMENTS_IN_FLIGHT_MAX } from "./chains.js";
import { addressOf, type GuestMemory, NOT_RAM } from "./memory.js";
import type { Meter } from "./meter.js";

export const VIRTQ_DESC_F_NEXT = 1;
export const VIRTQ_DESC_F_WRITE = 2;
export const VIRTQ_DESC_F_INDIRECT = 4;
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
export const VIRTQ_USED_F_NO_NOTIFY = 1;

/** The largest queue that the split format knows (virtio v1.2 §2.7). */
export const QUEUE_SIZE_MAX = 32768;

/** pop(): the available ring is empty. */
export const EMPTY = -1;
/** pop(): the next chain has more segments than are free, and waits in the ring for replies. */
export const BLOCKED = -2;
/** pop(): the driver broke a rule. */
export const FAULT = -3;

/** "Drivers MUST NOT add a descriptor chain longer than 2^32 bytes" (virtio v1.2 §2.7.5.2). */
const CHAIN_BYTES_OFFERED_MAX = 2 ** 32;

export const DESC_BYTES = 16;
export const AVAIL_RING = 4;
export const USED_RING = 4;
export const USED_ELEM_BYTES = 8;

/** Whether `size` may be the size of a queue of up to `sizeMax`. */
export function isQueueSize(size: number, sizeMax: number): boolean {
  return size > 0 && size <= sizeMax && (size & (size - 1)) === 0;
}

/** What the driver negotiated that changes how rings are read. */
export interface RingFeatures {
  indirect: boolean;
  eventIdx: boolean;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

export class Queue {
  readonly index: number;
  /** Largest size that the device takes. */
  readonly sizeMax: number;
  readonly chains: Chains;
  /** Size and guest addresses, as the driver wrote them; checked when it sets queue_ready. */
  size: number;
  desc = 0;
  driver = 0;
  device = 0;
  /** What the driver did wrong, once pop() returned FAULT. */
  fault = "";

  readonly #memory: GuestMemory;
  readonly #meter: Meter;
  /** When the chains were found that are taken now, and when those pushed now were answered. */
  #foundMs = 0;
  #answeredMs = 0;
  #ready = false;
  /** The driver is to notify of the next chain. */
  #isArmed = true;
  #indirect = false;
  #eventIdx = false;
  /** Free-running positions: next to take from the available ring, and its end when last read. */
  #next = 0;
  #end = 0;
  /** Next to write in the used ring, and where it was when an interrupt was last decided on. */
  #used = 0;
  #signalled = 0;

  // The descriptor read last, as words and as fields.
  readonly #words = new Uint32Array(4);
  #address = 0;
  #bytes = 0;
  #flags = 0;
  #successor = 0;

  // The chain being walked: whether its writable part has begun, and what it offers in all.
  #hasWritable = false;
  #chainBytes = 0;

  constructor(memory: GuestMemory, options: { index: number; sizeMax: number; meter: Meter }) {
    const { index, sizeMax, meter } = options;
    assert(isQueueSize(sizeMax, QUEUE_SIZE_MAX), `a queue of ${sizeMax}`);
    this.index = index;
    this.sizeMax = sizeMax;
    this.size = sizeMax;
    this.chains = new Chains(sizeMax);
    this.#memory = memory;
    this.#meter = meter;
  }

  get ready(): boolean {
    return this.#ready;
  }

  /**
   * Starts using the rings; the caller has checked size, alignment and that all of them are RAM.
   */
  enable({ indirect, eventIdx }: RingFeatures): void {
    this.#indirect = indirect;
    this.#eventIdx = eventIdx;
    this.#next = 0;
    this.#end = 0;
    this.#used = 0;
    this.#signalled = 0;
    this.#answeredMs = 0;
    this.#isArmed = true;
    this.fault = "";
    this.#ready = true;
  }

  /** Touches the rings no more, and forgets all chains. */
  disable(): void {
    this.#ready = false;
    this.chains.clear();
  }

  /** Back to the state before the driver came. */
  reset(): void {
    this.disable();
    this.size = this.sizeMax;
    this.desc = 0;
    this.driver = 0;
    this.device = 0;
  }

  /** Chains taken from the available ring, and put into the used ring, both modulo 2^16. */
  get positions(): { taken: number; used: number } {
    return { taken: this.#next, used: this.#used };
  }

  /** Takes the next available chain: its slot in `chains`, or EMPTY, BLOCKED or FAULT. */
  pop(): number {
    if (this.#next === this.#end && !this.#refresh()) return this.fault === "" ? EMPTY : FAULT;
    const entry = this.driver + AVAIL_RING + 2 * (this.#next & (this.size - 1));
    const head = this.#memory.u16(entry);
    if (head >= this.size) {
      return this.#bug(`available head ${head} in a queue of ${this.size} (virtio v1.2 §2.7.6)`);
    }
    if (this.chains.holds(head)) {
      return this.#bug(`head ${head} is made available again before it was used`);
    }
    const slot = this.chains.open(head);
    const result = this.#walk(slot, head);
    if (result < 0) {
      this.chains.discard(slot);
      return result;
    }
    this.chains.foundMs[slot] = this.#foundMs;
    this.chains.commit(slot);
    this.#next = (this.#next + 1) & 0xffff;
    return slot;
  }

  /** Reads the available index anew; false when nothing is there, or it is wrong. */
  #refresh(): boolean {
    const end = this.#memory.loadIndex(this.driver + 2);
    const count = (end - this.#next) & 0xffff;
    if (count > this.size) {
      this.#bug(`available index ${end} is ${count} ahead of ${this.#next}, size ${this.size}`);
      return false;
    }
    this.#end = end;
    if (count > 0) this.#foundMs = this.#meter.now();
    return count > 0;
  }

  #bug(text: string, head = NONE): number {
    const chain = head === NONE ? "" : `chain ${head}: `;
    this.fault = `queue ${this.index}: ${chain}${text}`;
    return FAULT;
  }

  /** Reads each descriptor of the chain at `head` once and fills `slot`; negative like pop(). */
  #walk(slot: number, head: number): number {
    let table = this.desc;
    let tableSize = this.size;
    let nested = false;
    let index = head;
    let count = 0;
    this.#hasWritable = false;
    this.#chainBytes = 0;
    for (;;) {
      if (index >= tableSize) return this.#bug(`next ${index} in a table of ${tableSize}`, head);
      this.#read(table + index * DESC_BYTES);
      if ((this.#flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        const wrong = this.#indirectFault(nested);
        if (wrong !== "") return this.#bug(`${wrong} (virtio v1.2 §2.7.5.3)`, head);
        table = this.#address;
        tableSize = this.#bytes / DESC_BYTES;
        nested = true;
        index = 0;
        continue;
      }
      count += 1;
      if (count > this.size) return this.#bug("longer than its queue, or a loop", head);
      if (count > SEGMENTS_IN_FLIGHT_MAX) return this.#bug(`of over ${count - 1} buffers`, head);
      const result = this.#add(slot);
      if (result < 0) return result;
      if ((this.#flags & VIRTQ_DESC_F_NEXT) === 0) return slot;
      index = this.#successor;
    }
  }

  #read(at: number): void {
    const words = this.#words;
    this.#memory.loadWords(at, words);
    this.#address = addressOf(words[0]!, words[1]!);
    this.#bytes = words[2]!;
    this.#flags = words[3]! & 0xffff;
    this.#successor = words[3]! >>> 16;
  }

  /** Why the descriptor read last may not refer to an indirect table, or "". */
  #indirectFault(nested: boolean): string {
    if (!this.#indirect) return "an indirect table without VIRTIO_RING_F_INDIRECT_DESC";
    if (nested) return "an indirect table inside an indirect table";
    if ((this.#flags & VIRTQ_DESC_F_NEXT) !== 0) return "INDIRECT and NEXT in one descriptor";
    if (this.#bytes === 0 || this.#bytes % DESC_BYTES !== 0) {
      return `an indirect table of ${this.#bytes} bytes`;
    }
    const inRam = this.#memory.hvaOf(this.#address, this.#bytes) !== NOT_RAM;
    return inRam ? "" : `an indirect table outside RAM: ${this.#where()}`;
  }

  #where(): string {
    const address = this.#address === NOT_RAM ? "above 2^53" : hex(this.#address);
    return `address ${address}, ${this.#bytes} bytes`;
  }

  /**
   * Adds the buffer of the descriptor read last to `slot`. Empty ones are legal and add nothing.
   */
  #add(slot: number): number {
    const { chains } = this;
    const head = chains.head[slot]!;
    const writable = (this.#flags & VIRTQ_DESC_F_WRITE) !== 0;
    if (!writable && this.#hasWritable) {
      return this.#bug("readable behind writable (virtio v1.2 §2.7.4.2)", head);
    }
    this.#hasWritable = writable;
    if (this.#bytes === 0) return slot;
    const hva = this.#memory.hvaOf(this.#address, this.#bytes);
    if (hva === NOT_RAM) return this.#bug(`a buffer outside RAM: ${this.#where()}`, head);
    this.#chainBytes += this.#bytes;
    if (this.#chainBytes > CHAIN_BYTES_OFFERED_MAX) {
      return this.#bug("more than 2^32 bytes (virtio v1.2 §2.7.5.2)", head);
    }
    if (!writable && this.#chainBytes > CHAIN_BYTES_MAX) {
      return this.#bug(`more than ${CHAIN_BYTES_MAX} readable bytes, CHAIN_BYTES_MAX`, head);
    }
    const room = writable ? CHAIN_BYTES_MAX - chains.writableBytes[slot]! : this.#bytes;
    if (room === 0) return slot;
    const segment = chains.segment(hva, Math.min(this.#bytes, room));
    if (segment === NONE) return BLOCKED;
    if (writable) chains.addWritable(slot, segment);
    else chains.addReadable(slot, segment);
    return slot;
  }

  /** Puts an answered chain into the used ring; the driver sees it with the next publish(). */
  push(slot: number, bytes: number): void {
    const { chains } = this;
    const at = this.device + USED_RING + USED_ELEM_BYTES * (this.#used & (this.size - 1));
    this.#memory.setU32(at, chains.head[slot]!);
    this.#memory.setU32(at + 4, bytes);
    if (this.#answeredMs === 0) this.#answeredMs = this.#meter.now();
    const latencyMs = this.#answeredMs - chains.foundMs[slot]!;
    this.#meter.answered(chains.readableBytes[slot]!, bytes, latencyMs);
    this.#used = (this.#used + 1) & 0xffff;
    chains.close(slot);
  }

  /** Shows the driver everything pushed; true when it wants an interrupt for that (§2.7.7.2). */
  publish(): boolean {
    const used = this.#used;
    this.#answeredMs = 0;
    // A full fence: the driver re-enables interrupts and then looks for used entries, we do the
    // opposite, and if both accesses passed each other the interrupt would be lost.
    this.#memory.storeIndex(this.device + 2, used);
    if (!this.#eventIdx) {
      return (this.#memory.loadIndex(this.driver) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    }
    const usedEvent = this.#memory.loadIndex(this.driver + AVAIL_RING + 2 * this.size);
    const signalled = this.#signalled;
    this.#signalled = used;
    return ((used - usedEvent - 1) & 0xffff) < ((used - signalled) & 0xffff);
  }

  /** The driver need not notify: we are looking. With event index, a past avail_event says so. */
  suppressNotifications(): void {
    if (!this.#isArmed) return;
    this.#isArmed = false;
    if (this.#eventIdx) this.#storeAvailEvent(this.#next - 1);
    else this.#memory.storeIndex(this.device, VIRTQ_USED_F_NO_NOTIFY);
  }

  #storeAvailEvent(index: number): void {
    const at = this.device + USED_RING + USED_ELEM_BYTES * this.size;
    this.#memory.storeIndex(at, index & 0xffff);
  }

  /** Whether the driver, which need not notify, has made something available. */
  get hasNews(): boolean {
    return this.#ready && this.#memory.loadIndex(this.driver + 2) !== this.#next;
  }

  /**
   * Asks the driver to notify for the next chain (virtio v1.2 §2.7.10). True when one is there
   * already: it may have come before the driver could see this, so nobody will say so again.
   */
  armNotifications(): boolean {
    this.#isArmed = true;
    if (this.#eventIdx) this.#storeAvailEvent(this.#next);
    else this.#memory.storeIndex(this.device, 0);
    return this.#memory.loadIndex(this.driver + 2) !== this.#next;
  }
}
