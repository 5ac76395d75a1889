// The driver of a virtio-blk device, as cheap as one can be made: descriptors, headers and buffers
// are written once, and a request changes a header and one entry of a ring. It knows rings and
// memory, and of the device only how to kick it and how to wait: so both sides of a comparison are
// driven by the same code.

import { strict as assert } from "node:assert";
import { checked, close, ftruncate, memfd_create } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";
import {
  AVAIL_RING,
  DESC_BYTES,
  USED_ELEM_BYTES,
  USED_RING,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../../host/virtio/virtqueue.js";

/** Descriptors of the queue, and those of one request: header, data, status. */
export const QUEUE_SIZE = 128;
const DESCS_EACH = 3;
/** Requests in flight, and the bytes of one, that there is room for. */
export const DEPTH_MAX = 32;
export const REQUEST_BYTES_MAX = 128 * 1024;
const SECTOR_BYTES = 512;
const HEADER_BYTES = 16;
const VIRTIO_BLK_T_IN = 0;
const VIRTIO_BLK_T_OUT = 1;

/** Where guest memory begins for the guest, and where everything is in it. */
export const RAM_GPA = 0x10_0000;
const DESC = 0;
const AVAIL = 0x1000;
const USED = 0x2000;
const HEADERS = 0x4000;
const STATUSES = 0x5000;
const BUFFERS = 0x10_0000;
export const RAM_BYTES = BUFFERS + DEPTH_MAX * REQUEST_BYTES_MAX;

/** Guest addresses of the parts of the queue. */
export const RINGS = { desc: RAM_GPA + DESC, driver: RAM_GPA + AVAIL, device: RAM_GPA + USED };

/** Guest memory: one memfd, which a peer may be given and map. */
export class BenchRam {
  readonly fd: number;
  readonly mapping: Mapping;

  constructor() {
    this.fd = checked(memfd_create("bench-ram", 1), "memfd_create", "Cannot make guest RAM");
    checked(ftruncate(this.fd, RAM_BYTES), "ftruncate", "Cannot make guest RAM");
    this.mapping = Mapping.shared(this.fd, RAM_BYTES);
  }

  close(): void {
    this.mapping.close();
    close(this.fd);
  }
}

/** What is behind the rings. */
export interface DiskPath {
  /** Tells the device of new requests. */
  kick(): void;
  /** Returns when something may have been used: at the latest when the device says so. */
  wait(): void;
}

export interface Workload {
  name: string;
  write: boolean;
  bytes: number;
  depth: number;
  /** One after the other through the disk, or anywhere. */
  sequential: boolean;
}

/** Numbers that are the same for both sides, and cost nothing: xorshift32. */
class Dice {
  #state = 0x9e37_79b9;

  below(count: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return (x >>> 0) % count;
  }
}

export class DiskDriver {
  readonly #view: DataView;
  readonly #shorts: Uint16Array;
  readonly #path: DiskPath;
  readonly #diskBytes: number;
  readonly #dice = new Dice();
  #avail = 0;
  #used = 0;
  /** Request that comes next in a sequence. */
  #next = 0;

  /** @param ram whose rings the device has just been told of, and begun to use */
  constructor(ram: BenchRam, path: DiskPath, diskBytes: number) {
    this.#view = ram.mapping.view;
    this.#shorts = new Uint16Array(this.#view.buffer);
    this.#path = path;
    this.#diskBytes = diskBytes;
  }

  /** Requests a second over `seconds`, with `depth` of them in flight all the time. */
  run({ write, bytes, depth, sequential }: Workload, seconds: number): number {
    assert(depth <= DEPTH_MAX && bytes <= REQUEST_BYTES_MAX);
    for (let slot = 0; slot < depth; slot += 1) this.#describe(slot, { write, bytes });
    const places = Math.floor(this.#diskBytes / bytes);
    const place = () => (sequential ? this.#next++ % places : this.#dice.below(places));
    const sectors = bytes / SECTOR_BYTES;
    const begin = performance.now();
    for (let slot = 0; slot < depth; slot += 1) this.#offer(slot, place() * sectors);
    this.#publish();
    let done = 0;
    let inFlight = depth;
    while (inFlight > 0) {
      const used = Atomics.load(this.#shorts, (USED + 2) / 2);
      if (used === this.#used) {
        this.#path.wait();
        continue;
      }
      const goesOn = performance.now() - begin < seconds * 1000;
      while (this.#used !== used) {
        const slot = this.#take();
        done += 1;
        inFlight -= 1;
        if (!goesOn) continue;
        this.#offer(slot, place() * sectors);
        inFlight += 1;
      }
      this.#requestInterrupt();
      if (goesOn) this.#publish();
    }
    return (done / (performance.now() - begin)) * 1000;
  }

  /** Writes the descriptors of a request, and all of its header but the sector. */
  #describe(slot: number, { write, bytes }: { write: boolean; bytes: number }): void {
    const first = slot * DESCS_EACH;
    const header = HEADERS + slot * HEADER_BYTES;
    const flags = VIRTQ_DESC_F_NEXT | (write ? 0 : VIRTQ_DESC_F_WRITE);
    this.#desc(first, { at: header, bytes: HEADER_BYTES, flags: VIRTQ_DESC_F_NEXT });
    this.#desc(first + 1, { at: BUFFERS + slot * REQUEST_BYTES_MAX, bytes, flags });
    this.#desc(first + 2, { at: STATUSES + slot, bytes: 1, flags: VIRTQ_DESC_F_WRITE });
    this.#view.setUint32(header, write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, true);
    this.#view.setUint32(header + 4, 0, true);
  }

  #desc(index: number, { at, bytes, flags }: { at: number; bytes: number; flags: number }): void {
    const desc = DESC + index * DESC_BYTES;
    this.#view.setBigUint64(desc, BigInt(RAM_GPA + at), true);
    this.#view.setUint32(desc + 8, bytes, true);
    this.#view.setUint16(desc + 12, flags, true);
    this.#view.setUint16(desc + 14, index + 1, true);
  }

  #offer(slot: number, sector: number): void {
    const header = HEADERS + slot * HEADER_BYTES;
    this.#view.setUint32(header + 8, sector, true);
    this.#view.setUint32(header + 12, 0, true);
    this.#view.setUint8(STATUSES + slot, 0xff);
    const entry = AVAIL + AVAIL_RING + 2 * (this.#avail % QUEUE_SIZE);
    this.#view.setUint16(entry, slot * DESCS_EACH, true);
    this.#avail = (this.#avail + 1) & 0xffff;
  }

  /** Shows the device what was offered, and kicks it if it wants that (virtio v1.2 §2.7.13.4.1). */
  #publish(): void {
    const old = Atomics.load(this.#shorts, (AVAIL + 2) / 2);
    Atomics.store(this.#shorts, (AVAIL + 2) / 2, this.#avail);
    const at = USED + USED_RING + USED_ELEM_BYTES * QUEUE_SIZE;
    const event = Atomics.load(this.#shorts, at / 2);
    const wanted = ((this.#avail - event - 1) & 0xffff) < ((this.#avail - old) & 0xffff);
    if (wanted) this.#path.kick();
  }

  /** Takes the next used request: its slot. */
  #take(): number {
    const at = USED + USED_RING + USED_ELEM_BYTES * (this.#used % QUEUE_SIZE);
    const slot = this.#view.getUint32(at, true) / DESCS_EACH;
    assert.equal(this.#view.getUint8(STATUSES + slot), 0, "a request failed");
    this.#used = (this.#used + 1) & 0xffff;
    return slot;
  }

  /** The next used request is to be told (virtio v1.2 §2.7.7.1). */
  #requestInterrupt(): void {
    const at = AVAIL + AVAIL_RING + 2 * QUEUE_SIZE;
    Atomics.store(this.#shorts, at / 2, this.#used);
  }
}
