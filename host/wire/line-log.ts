// Log lines that somebody untrusted causes: a guest or a device must not fill the user's disk.

import { Allowance } from "./allowance.js";

/** Lines that may come at once, enough for every complaint of a start that goes wrong. */
export const LINES_BURST_MAX = 32;

/** Lines a second after that: a person can still read along, and a day is below 50 MB. */
export const LINES_PER_SECOND_MAX = 4;

/** Passes lines on to `sink` within the limits above, and says how many were dropped. */
export class LineLog {
  readonly #sink: (line: string) => void;
  readonly #allowance: Allowance;
  readonly #said = new Set<string>();
  #dropped = 0;

  /** @param now milliseconds of a clock that never goes back */
  constructor(sink: (line: string) => void, now: () => number = () => performance.now()) {
    this.#sink = sink;
    this.#allowance = new Allowance({
      burstMax: LINES_BURST_MAX,
      perSecond: LINES_PER_SECOND_MAX,
      now,
    });
  }

  line(text: string): void {
    if (!this.#allowance.take()) {
      this.#dropped += 1;
      return;
    }
    const dropped = this.#dropped === 0 ? "" : ` (${this.#dropped} lines before it dropped)`;
    this.#dropped = 0;
    this.#sink(text + dropped);
  }

  /** Says `text` only the first time that `topic` comes up; topics are few and ours. */
  once(topic: string, text: string): void {
    if (this.#said.has(topic)) return;
    this.#said.add(topic);
    this.line(text);
  }
}
