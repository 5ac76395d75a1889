// epoll(7) for a thread that does nothing but wait: descriptors are registered with the function
// that serves them, and one system call tells which are ready.

import os from "node:os";
import { errnoName, VmmError } from "../errors.js";
import { checked, close, epoll_create1, epoll_ctl, epoll_wait, errno } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";

export const EPOLLIN = 0x001;
export const EPOLLOUT = 0x004;
/** Told once; then the descriptor is silent until it is modified. */
export const EPOLLONESHOT = 0x40000000;
/**
 * Edge-triggered: an eventfd need not be read to fall silent, each write is an event of its own.
 */
export const EPOLLET = 0x80000000;

const EPOLL_CLOEXEC = 0x80000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
const EINTR = 4;

/** struct epoll_event is packed on x86-64: events u32, data u64. */
const EVENT_BYTES = 12;
/** Events of one wait; more are delivered by the next one. */
const EVENTS_MAX = 64;

/**
 * What comes later than this is slept for. To be woken costs the waker an interrupt of another
 * processor and the sleeper what that takes, some 10 µs each in a virtual machine; a device needs
 * less than that for a block of its image.
 */
export const LOOK_MS_MAX = 0.05;

/**
 * Times to sleep after looking in vain, at most; twice as often after each time. Where this thread
 * shares a core with whom it waits for, it keeps it from working, and cannot know but by this.
 */
const SLEEPS_MAX = 256;

/** Threads of a busy VM besides its vCPUs: the I/O worker, and a device. */
const OTHER_THREADS = 2;

/** Whether a VM with `cpuCount` vCPUs leaves this machine a core that may be used for looking. */
export function hasCoreToSpare(cpuCount: number): boolean {
  return os.availableParallelism() >= cpuCount + OTHER_THREADS;
}

type Handler = (events: number) => void;

export interface EpollOptions {
  /** Look for a moment before sleeping, as long as that pays: it takes a core. */
  looks?: boolean;
  /** Milliseconds of a clock, other than this machine's. */
  now?: () => number;
}

export class Epoll {
  readonly #fd = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1", "Cannot wait for events");
  readonly #handlers = new Map<number, Handler>();
  readonly #events = Mapping.anonymous(EVENT_BYTES * (EVENTS_MAX + 1));
  readonly #looks: boolean;
  readonly #now: () => number;
  /** What was slept for came at once: so may the next, and then it need not be slept for. */
  #isClose = false;
  /** Times to sleep before it looks again, and after the next time that it looks in vain. */
  #sleepsLeft = 0;
  #sleeps = 1;

  constructor({ looks = false, now = () => performance.now() }: EpollOptions = {}) {
    this.#looks = looks;
    this.#now = now;
  }

  /** Calls `handler` whenever `fd` has one of `events`. */
  add(fd: number, events: number, handler: Handler): void {
    this.#handlers.set(fd, handler);
    this.#control(EPOLL_CTL_ADD, fd, events);
  }

  modify(fd: number, events: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events);
  }

  /** Forgets `fd`; before it is closed. */
  remove(fd: number): void {
    this.#handlers.delete(fd);
    this.#control(EPOLL_CTL_DEL, fd, 0);
  }

  /**
   * Blocks until something is ready, and serves it; or until `timeoutMs` are over, -1 for never.
   */
  wait(timeoutMs = -1): void {
    const looked = this.#isClose && this.#sleepsLeft === 0 ? this.#look() : 0;
    this.#serve(looked > 0 ? looked : this.#sleep(timeoutMs));
  }

  /** Events that come within LOOK_MS_MAX. */
  #look(): number {
    const end = this.#now() + LOOK_MS_MAX;
    let count = this.#ready(0);
    while (count <= 0 && this.#now() < end) count = this.#ready(0);
    const isVain = count <= 0;
    this.#sleeps = isVain ? Math.min(2 * this.#sleeps, SLEEPS_MAX) : 1;
    this.#sleepsLeft = isVain ? this.#sleeps : 0;
    return count;
  }

  #sleep(timeoutMs: number): number {
    if (!this.#looks) return this.#ready(timeoutMs);
    if (this.#sleepsLeft > 0) this.#sleepsLeft -= 1;
    const begin = this.#now();
    const count = this.#ready(timeoutMs);
    this.#isClose = count > 0 && this.#now() - begin < LOOK_MS_MAX;
    return count;
  }

  /** How many events there are. */
  #ready(timeoutMs: number): number {
    const count = epoll_wait(this.#fd, this.#events.address, EVENTS_MAX, timeoutMs);
    if (count === -1 && errno() !== EINTR) {
      throw new VmmError("ERR_INTERNAL", `epoll_wait: ${errnoName(errno())}`);
    }
    return count;
  }

  #serve(count: number): void {
    const { view } = this.#events;
    for (let i = 0; i < count; i++) {
      const events = view.getUint32(i * EVENT_BYTES, true);
      // A handler of this round may have removed the descriptor.
      this.#handlers.get(view.getUint32(i * EVENT_BYTES + 4, true))?.(events);
    }
  }

  #control(operation: number, fd: number, events: number): void {
    const at = EVENTS_MAX * EVENT_BYTES;
    this.#events.view.setUint32(at, events, true);
    this.#events.view.setUint32(at + 4, fd, true);
    this.#events.view.setUint32(at + 8, 0, true);
    const result = epoll_ctl(this.#fd, operation, fd, this.#events.address + at);
    checked(result, "epoll_ctl", `Cannot watch fd ${fd}`);
  }

  close(): void {
    close(this.#fd);
    this.#events.close();
  }
}
