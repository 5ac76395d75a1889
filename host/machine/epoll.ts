// epoll(7) for a thread that does nothing but wait: descriptors are registered with the function
// that serves them, and one system call tells which are ready.

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

type Handler = (events: number) => void;

export class Epoll {
  readonly #fd = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1", "Cannot wait for events");
  readonly #handlers = new Map<number, Handler>();
  readonly #events = Mapping.anonymous(EVENT_BYTES * (EVENTS_MAX + 1));

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
   * Waits until something is ready, or until `timeoutMs` are over, -1 for never; returns for how
   * many descriptors dispatch() has something to do.
   */
  wait(timeoutMs: number): number {
    const count = epoll_wait(this.#fd, this.#events.address, EVENTS_MAX, timeoutMs);
    if (count !== -1) return count;
    if (errno() === EINTR) return 0;
    throw new VmmError("ERR_INTERNAL", `epoll_wait: ${errnoName(errno())}`);
  }

  /** Calls the handlers of what wait() found. */
  dispatch(count: number): void {
    const { view } = this.#events;
    for (let i = 0; i < count; i++) {
      const events = view.getUint32(i * EVENT_BYTES, true);
      // A handler of this round may have removed the descriptor.
      this.#handlers.get(view.getUint32(i * EVENT_BYTES + 4, true))?.(events);
    }
  }

  /** Both; returns for how many descriptors. */
  serve(timeoutMs = -1): number {
    const count = this.wait(timeoutMs);
    this.dispatch(count);
    return count;
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
