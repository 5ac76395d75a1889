// Looks after inline devices: one that computes without end keeps the I/O worker, which can then
// watch nobody, itself least of all. So the supervisor looks at it from its own thread.

import { cpuMsOfThread, SPIN_CPU_MS_MAX } from "../sandbox/watchdog.js";
import type { Shared } from "./shared.js";

/** The judgement on the code that the I/O worker runs inline. */
export class InlineWatch {
  readonly #shared: Shared;
  readonly #cpuMsMax: number;
  #turn = -1;
  /** Processor time of the I/O worker when its present turn was first seen. */
  #cpuMs = 0;

  constructor(shared: Shared, cpuMsMax = SPIN_CPU_MS_MAX) {
    this.#shared = shared;
    this.#cpuMsMax = cpuMsMax;
  }

  /** The device that must be ended and why, or undefined while there is no reason. */
  look(): { device: number; reason: string } | undefined {
    const { device, turn } = this.#shared.inlineTurn;
    const cpuMs = cpuMsOfThread(this.#shared.ioThread) ?? 0;
    if (device === undefined || turn !== this.#turn) {
      this.#turn = turn;
      this.#cpuMs = cpuMs;
      return undefined;
    }
    const spent = cpuMs - this.#cpuMs;
    if (spent < this.#cpuMsMax) return undefined;
    return { device, reason: `an endless loop: ${spent} ms of processor time without an answer` };
  }
}
