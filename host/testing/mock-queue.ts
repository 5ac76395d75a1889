// The driver's side of one queue, for tests and fuzzing: rings in real memory, and a check of
// everything that a device may do to them: used entries that were asked for, lengths within the
// buffers, no byte written outside them. Descriptors and rings can also be written raw.

import { strict as assert } from "node:assert";
import * as vq from "../virtio/virtqueue.js";
import type { Block, MockRam } from "./mock-ram.js";

/** One descriptor, raw. */
export interface Desc {
  addr: number | bigint;
  len: number;
  flags?: number;
  next?: number;
}

/** What a chain is made of. */
export interface ChainSpec {
  /** Contents of the readable buffers. */
  readable?: readonly Uint8Array[];
  /** Sizes of the writable buffers. */
  writable?: readonly number[];
  /** Put the descriptors into an indirect table. */
  indirect?: boolean;
}

/** A chain that the device is done with. */
export interface Completion {
  head: number;
  /** What the used entry says that the device wrote. */
  bytes: number;
  /** Those bytes. */
  data: Uint8Array;
}

interface InFlight {
  readable: { block: Block; content: Uint8Array }[];
  writable: Block[];
  table: Block | undefined;
  descs: number[];
  /** A device that died may have written more than the one that answered. */
  mayBeRewritten: boolean;
}

/** Writable buffers are filled with this, so that bytes beyond the used length can be checked. */
const UNWRITTEN = 0xee;

export interface QueueOptions {
  size?: number;
  eventIdx?: boolean;
}

/** The driver's side of one queue. */
export class MockQueue {
  readonly index: number;
  readonly size: number;
  readonly desc: Block;
  readonly driver: Block;
  readonly device: Block;
  /** Free-running index of what was made available, as written last. */
  availIndex = 0;
  /** Free-running index of the used ring up to which completions were taken. */
  usedIndex = 0;
  readonly #ram: MockRam;
  readonly #eventIdx: boolean;
  readonly #free: number[];
  readonly #inFlight = new Map<number, InFlight>();
  #kickedAt = 0;

  constructor(ram: MockRam, options: QueueOptions & { index: number; size: number }) {
    this.index = options.index;
    this.size = options.size;
    this.#eventIdx = options.eventIdx ?? false;
    this.#ram = ram;
    this.desc = ram.alloc(16 * this.size);
    this.driver = ram.alloc(6 + 2 * this.size);
    this.device = ram.alloc(6 + 8 * this.size);
    this.#free = Array.from({ length: this.size }, (_, i) => this.size - 1 - i);
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  get freeDescs(): number {
    return this.#free.length;
  }

  // Raw access

  #u16(gpa: number): number {
    return this.#ram.view.getUint16(gpa - this.#ram.gpa, true);
  }

  #setU16(gpa: number, value: number): void {
    this.#ram.view.setUint16(gpa - this.#ram.gpa, value, true);
  }

  #u32(gpa: number): number {
    return this.#ram.view.getUint32(gpa - this.#ram.gpa, true);
  }

  /** Writes a descriptor, into the queue's table unless said otherwise. */
  writeDesc(index: number, { addr, len, flags = 0, next = 0 }: Desc, table = this.desc.gpa): void {
    const at = table + 16 * index - this.#ram.gpa;
    this.#ram.view.setBigUint64(at, BigInt(addr), true);
    this.#ram.view.setUint32(at + 8, len, true);
    this.#ram.view.setUint16(at + 12, flags, true);
    this.#ram.view.setUint16(at + 14, next, true);
  }

  /** Makes `head` available, whatever it is. */
  offer(head: number): void {
    this.#setU16(this.driver.gpa + 4 + 2 * (this.availIndex % this.size), head);
    this.writeAvailIndex(this.availIndex + 1);
  }

  writeAvailIndex(value: number): void {
    this.availIndex = value & 0xffff;
    this.#setU16(this.driver.gpa + 2, this.availIndex);
  }

  /** Flags of the available ring: VIRTQ_AVAIL_F_NO_INTERRUPT. */
  writeAvailFlags(value: number): void {
    this.#setU16(this.driver.gpa, value);
  }

  writeUsedEvent(value: number): void {
    this.#setU16(this.driver.gpa + 4 + 2 * this.size, value & 0xffff);
  }

  get deviceUsedIndex(): number {
    return this.#u16(this.device.gpa + 2);
  }

  get usedFlags(): number {
    return this.#u16(this.device.gpa);
  }

  get availEvent(): number {
    return this.#u16(this.device.gpa + 4 + 8 * this.size);
  }

  // A driver that keeps the rules

  /** Descriptors of the ring that `chain` takes. */
  descsFor({ readable = [], writable = [], indirect = false }: ChainSpec): number {
    return indirect ? 1 : readable.length + writable.length;
  }

  /** Makes a chain available: its head. */
  add(chain: ChainSpec): number {
    const { readable = [], writable = [], indirect = false } = chain;
    const ram = this.#ram;
    const entry: InFlight = {
      readable: readable.map((content) => ({ block: ram.alloc(content.length), content })),
      writable: writable.map((bytes) => ram.alloc(bytes)),
      table: indirect ? ram.alloc(16 * (readable.length + writable.length)) : undefined,
      descs: Array.from({ length: this.descsFor(chain) }, () => this.#takeDesc()),
      mayBeRewritten: false,
    };
    for (const { block, content } of entry.readable) ram.at(block.gpa, block.bytes).set(content);
    for (const block of entry.writable) ram.at(block.gpa, block.bytes).fill(UNWRITTEN);
    const head = this.#write(entry);
    this.#inFlight.set(head, entry);
    this.offer(head);
    return head;
  }

  #takeDesc(): number {
    const index = this.#free.pop();
    assert.ok(index !== undefined, "mock driver: out of descriptors");
    return index;
  }

  #write({ readable, writable, table, descs }: InFlight): number {
    const buffers = [
      ...readable.map(({ block }) => ({ block, flags: 0 })),
      ...writable.map((block) => ({ block, flags: vq.VIRTQ_DESC_F_WRITE })),
    ];
    const at = (i: number): number => (table === undefined ? descs[i]! : i);
    for (const [i, { block, flags }] of buffers.entries()) {
      const last = i === buffers.length - 1;
      const desc = {
        addr: block.gpa,
        len: block.bytes,
        flags: flags | (last ? 0 : vq.VIRTQ_DESC_F_NEXT),
        next: last ? 0 : at(i + 1),
      };
      this.writeDesc(at(i), desc, table?.gpa);
    }
    const head = descs[0]!;
    if (table !== undefined) {
      this.writeDesc(head, { addr: table.gpa, len: table.bytes, flags: vq.VIRTQ_DESC_F_INDIRECT });
    }
    return head;
  }

  /**
   * The device died with chains in flight: parts of its replies may be in their buffers, beyond
   * what the next one writes. "The device MAY write more than len bytes" (virtio v1.2 §2.7.8.2).
   */
  expectRewrites(): void {
    for (const entry of this.#inFlight.values()) entry.mayBeRewritten = true;
  }

  /**
   * Whether the device wants to hear of what was added since the last call (virtio v1.2 §2.7.10).
   */
  wantsKick(): boolean {
    const old = this.#kickedAt;
    this.#kickedAt = this.availIndex;
    if (!this.#eventIdx) return (this.usedFlags & vq.VIRTQ_USED_F_NO_NOTIFY) === 0;
    const event = this.availEvent;
    return ((this.availIndex - event - 1) & 0xffff) < ((this.availIndex - old) & 0xffff);
  }

  /** Takes what the device used since the last call, and checks it against what was asked. */
  collect(): Completion[] {
    const completions: Completion[] = [];
    const count = (this.deviceUsedIndex - this.usedIndex) & 0xffff;
    assert.ok(count <= this.#inFlight.size, `${count} used, ${this.#inFlight.size} in flight`);
    for (
      ;
      this.usedIndex !== this.deviceUsedIndex;
      this.usedIndex = (this.usedIndex + 1) & 0xffff
    ) {
      const at = this.device.gpa + 4 + 8 * (this.usedIndex % this.size);
      completions.push(this.#complete(this.#u32(at), this.#u32(at + 4)));
    }
    if (this.#eventIdx) this.writeUsedEvent(this.usedIndex);
    return completions;
  }

  #complete(head: number, bytes: number): Completion {
    const entry = this.#inFlight.get(head);
    assert.ok(entry !== undefined, `used head ${head}, which is not in flight`);
    this.#inFlight.delete(head);
    this.#free.push(...entry.descs);
    const all = this.#contentOf(entry.writable);
    assert.ok(bytes <= all.length, `used ${bytes} bytes of a chain of ${all.length}`);
    assert.ok(
      entry.mayBeRewritten || all.subarray(bytes).every((byte) => byte === UNWRITTEN),
      "written beyond the used length",
    );
    for (const { block, content } of entry.readable) {
      assert.deepEqual(this.#ram.at(block.gpa, block.bytes), content, "a readable buffer changed");
      this.#ram.free(block);
    }
    for (const block of entry.writable) this.#ram.free(block);
    if (entry.table !== undefined) this.#ram.free(entry.table);
    return { head, bytes, data: all.slice(0, bytes) };
  }

  #contentOf(blocks: Block[]): Uint8Array {
    return Uint8Array.from(Buffer.concat(blocks.map(({ gpa, bytes }) => this.#ram.at(gpa, bytes))));
  }

  /** The device touched nothing next to buffers in flight or rings. */
  checkGuards(): void {
    for (const block of [this.desc, this.driver, this.device]) this.#ram.checkGuards(block);
    for (const { readable, writable } of this.#inFlight.values()) {
      for (const { block } of readable) this.#ram.checkGuards(block);
      for (const block of writable) this.#ram.checkGuards(block);
    }
  }

  /** Gives everything back: the device was reset. */
  close(): void {
    for (const { readable, writable, table } of this.#inFlight.values()) {
      for (const { block } of readable) this.#ram.free(block);
      for (const block of writable) this.#ram.free(block);
      if (table !== undefined) this.#ram.free(table);
    }
    this.#inFlight.clear();
    for (const block of [this.desc, this.driver, this.device]) this.#ram.free(block);
  }
}
