// Log lines that somebody untrusted causes: a guest or a device must not fill the user's disk.

/** Lines that may come at once, enough for every complaint of a start that goes wrong. */
export const LINES_BURST_MAX = 32;

/** Lines a second after that: a person can still read along, and a day is below 50 MB. */
export const LINES_PER_SECOND_MAX = 4;

/** Passes lines on to `sink` within the limits above, and says how many were dropped. */
export class LineLog {
  readonly #sink: (line: string) => void;
  readonly #now: () => number;
  readonly #said = new Set<string>();
  #allowance = LINES_BURST_MAX;
  #last: number;
  #dropped = 0;

  /** @param now milliseconds of a clock that never goes back */
  constructor(sink: (line: string) => void, now: () => number = () => performance.now()) {
    this.#sink = sink;
    this.#now = now;
    this.#last = now();
  }

  line(text: string): void {
    const now = this.#now();
    const earned = ((now - this.#last) * LINES_PER_SECOND_MAX) / 1000;
    this.#allowance = Math.min(LINES_BURST_MAX, this.#allowance + earned);
    this.#last = now;
    if (this.#allowance < 1) {
      this.#dropped += 1;
      return;
    }
    this.#allowance -= 1;
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
