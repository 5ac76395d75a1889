// How a device process sleeps that waits for more than messages: in ppoll(2), on the socket to the
// VMM, on the granted descriptors that the device awaits, and until its deadline.

import { ppoll } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { CAPABILITIES_MAX } from "../sandbox/manifest.js";
import type { Attention, Awaitable, Awaited } from "./attention.js";
import { CLOCK_MONOTONIC, nanosecondsOf } from "./clock.js";

/** poll.h; an error or a hang-up is told whether it was asked for or not. */
const POLLIN = 0x001;
const POLLOUT = 0x004;

/** `struct pollfd`: fd, events, revents. */
const POLLFD_BYTES = 8;
/** Of the `struct timespec` behind them. */
const TIMEOUT = POLLFD_BYTES * (CAPABILITIES_MAX + 1);
const NANOSECONDS = 1_000_000_000n;
/** A deadline that has passed. */
const LONG_AGO = 1n;

export class Sleeper {
  /** What poll() found: a message, bits of the device's interest, its deadline. */
  hasMessage = false;
  fired = 0;
  isDue = false;

  readonly #awaitable: Awaitable;
  readonly #memory = Mapping.anonymous(TIMEOUT + 16);
  /** What is in the list behind the socket, in order. */
  readonly #listed: Awaited[] = [];

  constructor(socketFd: number, awaitable: Awaitable) {
    this.#awaitable = awaitable;
    this.#list(0, socketFd, POLLIN);
  }

  /**
   * Finds what has come for the device; `false` is nothing.
   *
   * @param waits whether it sleeps until there is something; otherwise this only looks
   */
  poll(attention: Attention, waits: boolean): boolean {
    const deadline = this.#awaitable.hasClock ? attention.deadline : 0n;
    const { interest } = attention;
    this.#listAwaited(interest);
    const timeout = this.#timeout(waits ? deadline : LONG_AGO);
    ppoll(this.#memory.address, this.#listed.length + 1, timeout, 0); // if it fails, none is ready
    this.#collect(interest);
    this.isDue = deadline !== 0n && nanosecondsOf(CLOCK_MONOTONIC) >= deadline;
    return this.hasMessage || this.fired !== 0 || this.isDue;
  }

  #list(index: number, fd: number, events: number): void {
    const { view } = this.#memory;
    view.setInt32(index * POLLFD_BYTES, fd, true);
    view.setUint16(index * POLLFD_BYTES + 4, events, true);
    view.setUint16(index * POLLFD_BYTES + 6, 0, true);
  }

  #revents(index: number): number {
    return this.#memory.view.getUint16(index * POLLFD_BYTES + 6, true);
  }

  /** Lists what the device is interested in; nothing of it is ready yet. */
  #listAwaited(interest: number): void {
    this.#memory.view.setUint16(6, 0, true);
    this.#listed.length = 0;
    for (const each of this.#awaitable.descriptors) {
      const read = (interest & each.readable) === 0 ? 0 : POLLIN;
      const write = (interest & each.writable) === 0 ? 0 : POLLOUT;
      if ((read | write) === 0) continue;
      this.#listed.push(each);
      this.#list(this.#listed.length, each.fd, read | write);
    }
  }

  /** An error or a hang-up counts as whatever was waited for: the next call will tell. */
  #collect(interest: number): void {
    this.hasMessage = this.#revents(0) !== 0;
    this.fired = 0;
    for (const [index, { readable, writable }] of this.#listed.entries()) {
      const revents = this.#revents(index + 1);
      if ((revents & ~POLLOUT) !== 0) this.fired |= interest & readable;
      if ((revents & ~POLLIN) !== 0) this.fired |= interest & writable;
    }
  }

  /** Address of how long to sleep until `deadline`; 0, for ever, if there is none. */
  #timeout(deadline: bigint): number {
    if (deadline === 0n) return 0;
    const rest = deadline - nanosecondsOf(CLOCK_MONOTONIC);
    const left = rest > 0n ? rest : 0n;
    const { address, view } = this.#memory;
    view.setBigInt64(TIMEOUT, left / NANOSECONDS, true);
    view.setBigInt64(TIMEOUT + 8, left % NANOSECONDS, true);
    return address + TIMEOUT;
  }
}
