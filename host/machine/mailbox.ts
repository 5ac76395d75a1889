// How a vCPU reaches the I/O worker for a register access: the vCPU fills its mailbox, signals the
// worker's eventfd and sleeps until the answer is there. About two wake-ups an access; drivers make
// some dozens of them at start and none on the data path (kicks are ioeventfds, interrupts irqfds,
// and InterruptStatus and InterruptACK are atomics of their own). The worker never waits: an access
// to a config space whose device has not answered yet stays in its mailbox.

import type { EventFd } from "./eventfd.js";
import type { Shared } from "./shared.js";

const STATE = 0;
const DEVICE = 1;
const OFFSET = 2;
const BYTES = 3;
const IS_WRITE = 4;
const VALUE = 5;

const IDLE = 0;
const ASKED = 1;
const ANSWERED = 2;

/** A vCPU that waits looks this often whether the VM ends: the I/O worker may be gone by then. */
const STOP_CHECK_MS = 50;

/** A register access to device `device` at `offset` of its window, `bytes` wide. */
export interface RegisterAccess {
  device: number;
  offset: number;
  bytes: number;
  isWrite: boolean;
  /** The value written; wider writes than 32 bits reach config space only in 32-bit parts. */
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
  access(access: RegisterAccess): number {
    const words = this.#words;
    words[DEVICE] = access.device;
    words[OFFSET] = access.offset;
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
  serve(handle: (access: RegisterAccess) => number | undefined): boolean {
    let waiting = false;
    for (const words of this.#boxes) {
      if (Atomics.load(words, STATE) !== ASKED) continue;
      const value = handle({
        device: words[DEVICE] ?? 0,
        offset: words[OFFSET] ?? 0,
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
