// When a thread that serves events sleeps. To be woken costs the waker an interrupt of another
// processor and the sleeper what that takes, some 10 µs each in a virtual machine; a device needs
// less than that for a block of its image. So where the guest leaves a core, the thread looks for
// a moment before it sleeps, at its descriptors and at the queues themselves: while it does, no
// driver needs to notify, which spares the guest an exit. Between looks it yields to whoever else
// may run on that core, above all to the device that it waits for.

import os from "node:os";
import { sched_yield } from "../ffi/libc.js";
import type { Queue } from "../virtio/virtqueue.js";
import type { Epoll } from "./epoll.js";

/** What comes later than this is slept for. */
export const LOOK_MS_MAX = 0.05;

/**
 * Times to sleep after looking in vain, at most; twice as often after each time: a guest that is
 * idle between its requests costs a core ever less.
 */
const SLEEPS_MAX = 256;
/**
 * A device may work for long while it is yielded to, but when a yield takes longer than this,
 * somebody else uses the core: who yields waits for as long as the scheduler lets the other run,
 * some 4 ms, and who is woken waits far less.
 */
export const YIELD_MS_MAX = 1;
/**
 * Times to sleep after such a yield: at least, which is soon over when the machine only stumbled,
 * and at most. Twice as often after each, and once less for each look that finds something.
 */
const SLEEPS_AWAY_MIN = 64;
const SLEEPS_AWAY_MAX = 4096;

/** Whether a VM with `cpuCount` vCPUs leaves this machine a core that may be used for looking. */
export function hasCoreToSpare(cpuCount: number): boolean {
  return os.availableParallelism() > cpuCount;
}

/** Says that a queue has chains which nobody notified of. */
type Notice = (queue: number) => void;

export interface LookoutOptions {
  /** Look for a moment before sleeping, as long as that pays. */
  looks: boolean;
  /** Milliseconds of a clock, other than this machine's. */
  now?: () => number;
  /** Lets others use the core, if not by sched_yield(2). */
  yields?: () => void;
}

export class Lookout {
  readonly #epoll: Epoll;
  readonly #looks: boolean;
  readonly #now: () => number;
  readonly #yield: () => void;
  /** Queues whose notifications are off, and who is to be told. */
  #queues: Queue[] = [];
  #notices: Notice[] = [];
  #queuesFirst = false;
  /** What was slept for came at once: so may the next, and then it need not be slept for. */
  #isClose = false;
  /** Times to sleep before it looks again, and after the next time that it looks in vain. */
  #sleepsLeft = 0;
  #sleeps = 1;
  /** The same after somebody else had the core. */
  #sleepsAway = SLEEPS_AWAY_MIN;

  constructor(epoll: Epoll, options: LookoutOptions) {
    this.#epoll = epoll;
    this.#looks = options.looks;
    this.#now = options.now ?? (() => performance.now());
    this.#yield = options.yields ?? sched_yield;
  }

  /**
   * Serves what is ready; sleeps for it when nothing is, until `timeoutMs` are over, -1 for never.
   */
  wait(timeoutMs = -1): void {
    if (this.#willLook && this.#look()) return;
    if (this.#rest()) return;
    this.#sleep(timeoutMs);
  }

  /**
   * Whether `queue` is looked at from now on, until `notice` is called once or its driver is asked
   * to notify again. If not, that is for the caller to ask.
   */
  takes(queue: Queue, notice: Notice): boolean {
    if (!this.#willLook) return false;
    if (this.#queues.includes(queue)) return true;
    this.#queues.push(queue);
    this.#notices.push(notice);
    return true;
  }

  get #willLook(): boolean {
    return this.#isClose && this.#sleepsLeft === 0;
  }

  /** Serves what comes within LOOK_MS_MAX; whether anything did. */
  #look(): boolean {
    let now = this.#now();
    const end = now + LOOK_MS_MAX;
    while (!this.#lookOnce()) {
      if (now >= end) {
        this.#sleeps = Math.min(2 * this.#sleeps, SLEEPS_MAX);
        this.#sleepsLeft = this.#sleeps;
        return false;
      }
      const before = now;
      this.#yield();
      now = this.#now();
      if (now - before < YIELD_MS_MAX) continue;
      this.#sleepsLeft = this.#sleepsAway;
      this.#sleepsAway = Math.min(2 * this.#sleepsAway, SLEEPS_AWAY_MAX);
      return false;
    }
    this.#sleeps = 1;
    this.#sleepsAway = Math.max(this.#sleepsAway - 1, SLEEPS_AWAY_MIN);
    return true;
  }

  /**
   * Whether the descriptors or the queues had something. What had is second the next time: so none
   * keeps the other waiting, and a driver and a device that take turns are found at once.
   */
  #lookOnce(): boolean {
    const first = this.#queuesFirst ? this.#lookAtQueues() : this.#epoll.serve(0) > 0;
    if (first) this.#queuesFirst = !this.#queuesFirst;
    return first || (this.#queuesFirst ? this.#epoll.serve(0) > 0 : this.#lookAtQueues());
  }

  /** Who is told is out of the list then, and may put the queue there again. */
  #lookAtQueues(): boolean {
    let found = false;
    for (let i = this.#queues.length - 1; i >= 0; i -= 1) {
      const queue = this.#queues[i]!;
      if (!queue.hasNews) continue;
      const notice = this.#notices[i]!;
      this.#remove(i);
      notice(queue.index);
      found = true;
    }
    return found;
  }

  /** The last one, which was looked at already, takes the place: nothing is allocated. */
  #remove(index: number): void {
    const queue = this.#queues.pop()!;
    const notice = this.#notices.pop()!;
    if (index === this.#queues.length) return;
    this.#queues[index] = queue;
    this.#notices[index] = notice;
  }

  /** Has every driver notify again; whether one made something available meanwhile. */
  #rest(): boolean {
    if (this.#queues.length === 0) return false;
    const [queues, notices] = [this.#queues, this.#notices];
    this.#queues = [];
    this.#notices = [];
    let found = false;
    for (const [i, queue] of queues.entries()) {
      if (!queue.ready || !queue.armNotifications()) continue;
      notices[i]!(queue.index);
      found = true;
    }
    return found;
  }

  #sleep(timeoutMs: number): void {
    if (!this.#looks) {
      this.#epoll.serve(timeoutMs);
      return;
    }
    if (this.#sleepsLeft > 0) this.#sleepsLeft -= 1;
    const begin = this.#now();
    const count = this.#epoll.wait(timeoutMs);
    this.#isClose = count > 0 && this.#now() - begin < LOOK_MS_MAX;
    this.#epoll.dispatch(count);
  }
}
