// What an inline device waits for besides requests, in the I/O worker's own epoll: granted
// descriptors, each watched once for each time that the device asks, and a deadline.

import type { Awaitable, Awaited } from "../runtime/attention.js";
import type { InlineChannel } from "../runtime/inline.js";
import { NO_FD } from "../sandbox/grants.js";
import { EPOLLIN, EPOLLONESHOT, EPOLLOUT, type Epoll } from "./epoll.js";

/**
 * Milliseconds until the next look at a deadline, which is also what epoll_wait(2) counts in: a
 * device whose deadline has always passed wakes this thread so often and no more.
 */
const LOOK_MS_MIN = 1;
const NANOSECONDS_PER_MS = 1e6;

interface Watched {
  awaited: Awaited;
  /** The descriptor that is registered, NO_FD if none is. */
  fd: number;
  /** Events that it is registered for. */
  events: number;
}

interface Options {
  epoll: Epoll;
  /** Called when the device was woken, and may have replies. */
  woken: () => void;
}

export class InlineEvents {
  readonly #channel: InlineChannel;
  readonly #epoll: Epoll;
  readonly #woken: () => void;
  readonly #watched: Watched[];
  readonly #hasClock: boolean;

  constructor(channel: InlineChannel, awaitable: Awaitable, { epoll, woken }: Options) {
    this.#channel = channel;
    this.#epoll = epoll;
    this.#woken = woken;
    this.#watched = awaitable.descriptors.map((awaited) => ({
      awaited,
      fd: NO_FD,
      events: 0,
    }));
    channel.beforeClose((fd) => this.#forget(fd));
    this.#hasClock = awaitable.hasClock;
  }

  /** Watches what the device waits for now; after it has run. */
  update(): void {
    const interest = this.#channel.attention?.interest ?? 0;
    for (const each of this.#watched) {
      const { fd, readable, writable } = each.awaited;
      if (each.fd !== fd) this.#forget(each.fd);
      const read = (interest & readable) === 0 ? 0 : EPOLLIN;
      const write = (interest & writable) === 0 ? 0 : EPOLLOUT;
      const events = read | write;
      if (events === each.events) continue;
      if (each.fd === NO_FD) {
        this.#epoll.add(fd, events | EPOLLONESHOT, (found) => this.#ready(each, found));
      } else {
        this.#epoll.modify(fd, events | EPOLLONESHOT);
      }
      each.fd = fd;
      each.events = events;
    }
  }

  /** Watches a descriptor no more: it is about to be closed, or another one counts instead. */
  #forget(fd: number): void {
    for (const each of this.#watched) {
      if (fd === NO_FD || each.fd !== fd) continue;
      this.#epoll.remove(fd);
      each.fd = NO_FD;
      each.events = 0;
    }
  }

  /** An error or a hang-up counts as whatever was waited for: the next call will tell. */
  #ready(each: Watched, found: number): void {
    each.events = 0;
    const readable = (found & ~EPOLLOUT) === 0 ? 0 : each.awaited.readable;
    const writable = (found & ~EPOLLIN) === 0 ? 0 : each.awaited.writable;
    const bits = (this.#channel.attention?.interest ?? 0) & (readable | writable);
    if (bits !== 0) this.#channel.wake(bits, false);
    this.#woken();
  }

  /** Wakes the device if its deadline has passed; `now` is of the monotonic clock. */
  tick(now: bigint): void {
    const deadline = this.#deadline;
    if (deadline === 0n || deadline > now) return;
    this.#channel.wake(0, true);
    this.#woken();
  }

  /** Milliseconds until the deadline, at least LOOK_MS_MIN; without one, for ever. */
  restMs(now: bigint): number {
    const deadline = this.#deadline;
    if (deadline === 0n) return Number.POSITIVE_INFINITY;
    return Math.max(LOOK_MS_MIN, Math.ceil(Number(deadline - now) / NANOSECONDS_PER_MS));
  }

  get #deadline(): bigint {
    return this.#hasClock ? (this.#channel.attention?.deadline ?? 0n) : 0n;
  }

  /** Watches nothing any more; the descriptors stay open. */
  close(): void {
    for (const { fd } of [...this.#watched]) this.#forget(fd);
    this.#watched.length = 0;
  }
}
