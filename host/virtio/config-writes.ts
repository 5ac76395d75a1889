// The driver's writes to the config space, on their way to the device: what is not yet sent, what
// the device has not yet answered, and what another device process must be told again. With them
// the other direction, in as far as it depends on them: which CONFIG counts.

import { Allowance } from "../wire/allowance.js";
import { CONFIGURE_BYTES } from "../wire/format.js";

/**
 * Places in the config space whose last write is kept for the next device process. Drivers write
 * one or two; a hostile one that writes more loses the oldest, and harms nobody else.
 */
export const CONFIG_PLACES_MAX = 64;

/**
 * A vCPU waits that long for the answer to a write, then it reads what was there before. Linux
 * calls a CPU stuck after 20 s; a slow disk, or a device that is being started again, may take
 * seconds.
 */
export const CONFIG_ANSWER_MS_MAX = 10_000;

/**
 * CONFIG messages of a device beyond one for each message that it was sent, each of which may be an
 * interrupt for the guest: more than a person makes by dragging a window's edge, and at once more
 * than messages fit into its socket.
 */
export const CONFIG_PER_SECOND_MAX = 64;
export const CONFIG_BURST_MAX = 1024;

/** The driver wrote `value`, `bytes` wide, at `offset`; all of it is inside the space. */
export interface ConfigWrite {
  offset: number;
  bytes: number;
  value: number;
}

export class ConfigWrites {
  readonly #now: () => number;
  readonly #allowance: Allowance;
  /** The last write of each place since the last reset, the oldest first. */
  readonly #writes: ConfigWrite[] = [];
  /** Index of the first write that the process attached was not sent. */
  #unsent = 0;
  /** CONFIGURE messages that it was sent, and that it says it has taken; both wrap around. */
  #sentCount = 0;
  #takenCount = 0;
  /** Of those, the ones that are old: its predecessor was sent them. */
  #repeated = 0;
  /** When a driver began to wait for an answer. */
  #since = 0;

  /** @param now milliseconds of a clock that never goes back */
  constructor(now: () => number) {
    this.#now = now;
    this.#allowance = new Allowance({
      burstMax: CONFIG_BURST_MAX,
      perSecond: CONFIG_PER_SECOND_MAX,
      now,
    });
  }

  /** A fresh process is to hear everything. */
  attach(): void {
    this.#unsent = 0;
    this.#sentCount = 0;
    this.#takenCount = 0;
    this.#repeated = this.#writes.length;
    this.#since = this.#now();
  }

  /** The driver reset the device: what it wrote is void. */
  reset(): void {
    this.#writes.length = 0;
    this.#unsent = 0;
  }

  add(write: ConfigWrite): void {
    if (this.settled) this.#since = this.#now();
    const { offset, bytes } = write;
    const same = this.#writes.findIndex((each) => each.offset === offset && each.bytes === bytes);
    if (same !== -1) this.#forget(same);
    else if (this.#writes.length === CONFIG_PLACES_MAX) this.#forget(0);
    this.#writes.push(write);
  }

  #forget(index: number): void {
    this.#writes.splice(index, 1);
    if (index < this.#unsent) this.#unsent -= 1;
  }

  /** Writes the payload of the next CONFIGURE to `into`; false when there is none to send. */
  encode(into: Uint8Array): boolean {
    const write = this.#writes[this.#unsent];
    if (write === undefined) return false;
    const view = new DataView(into.buffer, into.byteOffset, CONFIGURE_BYTES);
    view.setUint32(0, write.offset, true);
    view.setUint32(4, write.bytes, true);
    view.setUint32(8, write.value, true);
    return true;
  }

  /** What encode() wrote is on its way. */
  noteSent(): void {
    if (this.#sentCount === this.#takenCount) this.#since = this.#now();
    this.#unsent += 1;
    this.#sentCount = (this.#sentCount + 1) >>> 0;
  }

  /** Any message is on its way to the device: it may answer it with a CONFIG, too. */
  noteMessage(): void {
    this.#allowance.earn();
  }

  /** The device sent CONFIG, having taken `count` CONFIGURE: says what is wrong with that. */
  noteTaken(count: number): string | undefined {
    if (!this.#allowance.take()) return `more than ${CONFIG_PER_SECOND_MAX} times a second`;
    const unanswered = (this.#sentCount - this.#takenCount) >>> 0;
    const taken = (count - this.#takenCount) >>> 0;
    if (taken > unanswered) return `after ${count} CONFIGURE of ${this.#sentCount}`;
    this.#takenCount = count;
    return undefined;
  }

  /** Writes that the process attached has answered and none before it was sent. */
  get answered(): number {
    return Math.max(0, this.#takenCount - this.#repeated);
  }

  /** Whether the device has answered all that the driver wrote. */
  get settled(): boolean {
    return this.#unsent === this.#writes.length && this.#sentCount === this.#takenCount;
  }

  /** Whether the driver has waited for too long. */
  get overdue(): boolean {
    return !this.settled && this.#now() - this.#since > CONFIG_ANSWER_MS_MAX;
  }
}
