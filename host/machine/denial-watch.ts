// What the I/O worker does about system calls that a device's policy does not allow: in `enforce`
// the supervisor is told and ends the device, whose thread never returns from the call; in `log`
// the call is let through and told.

import { DenialListener, describeDenial, isFarewell } from "../sandbox/denial.js";
import { LineLog } from "../wire/line-log.js";
import { EPOLLIN, type Epoll } from "./epoll.js";

export interface DenialWatchOptions {
  /** Denied calls are let through. */
  log: boolean;
  /** `openat(0xffffff9c, …)` was tried; unless `log` is set, its thread waits for its end. */
  denied(call: string): void;
}

/** The filter of one device process, as its VMM sees it. */
export class DenialWatch {
  readonly #epoll: Epoll;
  readonly #log: boolean;
  readonly #lines: LineLog;
  #listener: DenialListener | undefined;
  /** The first message of the socket was looked at. */
  #introduced = false;
  /** Calls that the process took leave of its listener with. */
  #farewells = 0;

  constructor(epoll: Epoll, { log, denied }: DenialWatchOptions) {
    this.#epoll = epoll;
    this.#log = log;
    this.#lines = new LineLog(denied);
  }

  /**
   * Takes the listener from the first message of a device's socket, once it is readable.
   *
   * @returns whether the message was that; all others are not for this class
   */
  introduce(socketFd: number): boolean {
    if (this.#introduced) return false;
    this.#introduced = true;
    this.#listener = DenialListener.receive(socketFd);
    if (this.#listener === undefined) return false;
    this.#epoll.add(this.#listener.fd, EPOLLIN, (events) => this.#ready(events));
    return true;
  }

  #ready(events: number): void {
    const isGone = (events & EPOLLIN) === 0; // EPOLLHUP: all its threads have ended
    if (isGone) this.close();
    const denial = this.#listener?.next();
    if (denial === undefined) return;
    if (isFarewell(denial, this.#farewells)) {
      this.#farewells += 1;
      this.#listener?.letThrough(denial);
      return;
    }
    if (this.#log) this.#listener?.letThrough(denial);
    this.#lines.line(describeDenial(denial));
  }

  close(): void {
    if (this.#listener === undefined) return;
    this.#epoll.remove(this.#listener.fd);
    this.#listener.close();
    this.#listener = undefined;
  }
}
