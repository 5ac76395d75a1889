// How a vCPU reaches the I/O worker for a register access: the vCPU fills its mailbox, signals the
// worker's eventfd and sleeps until the answer is there. About two wake-ups an access; drivers make
// some dozens of them at start and none on the data path (kicks are ioeventfds, interrupts irqfds,
// and InterruptStatus and InterruptACK are atomics of their own). The worker never waits: an access
// to a config space whose device has not answered yet stays in its mailbox.

import type { EventFd } from "./eventfd.js";
import type { Shared } from "./shared.js";

const STATE = 0;
const SPACE = 1;
const ADDRESS_LOW = 2;
const ADDRESS_HIGH = 3;
const BYTES = 4;
const IS_WRITE = 5;
const VALUE = 6;

/** What an address is one of. */
export const MEMORY = 0;
export const PORT = 1;

const IDLE = 0;
const ASKED = 1;
const ANSWERED = 2;

/** A vCPU that waits looks this often whether the VM ends: the I/O worker may be gone by then. */
const STOP_CHECK_MS = 50;

/** An access of a vCPU to what is neither RAM nor a legacy part. */
export interface BusAccess {
  space: typeof MEMORY | typeof PORT;
  /** Guest-physical address, or number of a port. */
  address: number;
  /** 1 to 4; a wider one comes in parts. */
  bytes: number;
  isWrite: boolean;
  /** The value written. */
  value: number;
}

/** The vCPU's end. */
export class MailboxClient {
  readonly #shared: Shared;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #wake: EventFd;

  constructor(shared: Shared, options: { cpu: number; wake: EventFd }) {
    this.#shared = shared;
    this.#words = shared.mailbox(options.cpu);
    this.#wake = options.wake;
  }

  /** Makes the access and returns what was read (0 for a write). Blocks this thread. */
  access(access: BusAccess): number {
    const words = this.#words;
    words[SPACE] = access.space;
    words[ADDRESS_LOW] = access.address;
    words[ADDRESS_HIGH] = access.address / 2 ** 32;
    words[BYTES] = access.bytes;
    words[IS_WRITE] = access.isWrite ? 1 : 0;
    words[VALUE] = access.value;
    Atomics.store(words, STATE, ASKED);
    this.#wake.signal();
    while (Atomics.load(words, STATE) === ASKED && !this.#shared.stopping) {
      Atomics.wait(words, STATE, ASKED, STOP_CHECK_MS);
    }
    Atomics.store(words, STATE, IDLE);
    return (words[VALUE] ?? 0) >>> 0;
  }
}

/** The I/O worker's end: answers every vCPU that asks. */
export class MailboxServer {
  readonly #boxes: Int32Array<SharedArrayBuffer>[];

  constructor(boxes: Int32Array<SharedArrayBuffer>[]) {
    this.#boxes = boxes;
  }

  /**
   * Calls `handle` for each access that waits, and wakes its vCPU with the result. An access that
   * has none yet, undefined, goes on waiting for the next serve(); returns whether there is one.
   */
  serve(handle: (access: BusAccess) => number | undefined): boolean {
    let waiting = false;
    for (const words of this.#boxes) {
      if (Atomics.load(words, STATE) !== ASKED) continue;
      const value = handle({
        space: words[SPACE] === PORT ? PORT : MEMORY,
        address: ((words[ADDRESS_LOW] ?? 0) >>> 0) + (words[ADDRESS_HIGH] ?? 0) * 2 ** 32,
        bytes: words[BYTES] ?? 0,
        isWrite: words[IS_WRITE] === 1,
        value: (words[VALUE] ?? 0) >>> 0,
      });
      if (value === undefined) {
        waiting = true;
        continue;
      }
      words[VALUE] = value;
      Atomics.store(words, STATE, ANSWERED);
      Atomics.notify(words, STATE);
    }
    return waiting;
  }
}
