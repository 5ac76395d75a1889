// What a VMM does about the filter of a device process, for tests that talk to one directly: takes
// its listener, and ends the process for what is denied.

import { DenialWatch } from "../../host/machine/denial-watch.js";
import { EPOLLIN, Epoll } from "../../host/machine/epoll.js";
import type { SeccompMode } from "../../host/sandbox/lockdown.js";
import type { DeviceProcess } from "../../host/sandbox/spawn.js";

export class Guard {
  /** Denied calls that were let through, or the one that the process was ended for. */
  readonly denied: string[] = [];
  readonly #epoll = new Epoll();
  readonly #watch: DenialWatch;
  #introduced: boolean;

  constructor(process: DeviceProcess, seccomp: SeccompMode) {
    const { socketFd } = process;
    const log = seccomp === "log";
    const denied = (call: string) => {
      this.denied.push(call);
      if (!log) process.kill();
    };
    this.#watch = new DenialWatch(this.#epoll, { log, denied });
    this.#introduced = seccomp === "off";
    if (this.#introduced) return;
    this.#epoll.add(socketFd, EPOLLIN, () => {
      this.#epoll.remove(socketFd);
      this.#watch.introduce(socketFd);
      this.#introduced = true;
    });
  }

  /**
   * Serves what waits; call it again and again. False as long as the next message of the socket is
   * not for the caller.
   */
  poll(): boolean {
    this.#epoll.serve(0);
    return this.#introduced;
  }

  close(): void {
    this.#watch.close();
    this.#epoll.close();
  }
}
