// How often somebody untrusted may do something: so many at once, and then so many a second.

export interface AllowanceOptions {
  burstMax: number;
  perSecond: number;
  /** Milliseconds of a clock that never goes back. */
  now(): number;
}

export class Allowance {
  readonly #options: AllowanceOptions;
  #left: number;
  #last: number;

  constructor(options: AllowanceOptions) {
    this.#options = options;
    this.#left = options.burstMax;
    this.#last = options.now();
  }

  /** Gives leave for one more, whatever the time. */
  earn(): void {
    if (this.#left < this.#options.burstMax) this.#left += 1;
  }

  /** Uses up one; false when there is none left. */
  take(): boolean {
    const { burstMax, perSecond, now } = this.#options;
    const time = now();
    this.#left = Math.min(burstMax, this.#left + ((time - this.#last) * perSecond) / 1000);
    this.#last = time;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
