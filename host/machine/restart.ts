// When a device that died is started again: at once after it did some work, later and later when it
// did none, and at last never. Pure: whoever asks has the timers.

/** Deaths in a row without one answered request before a device is given up. */
export const DEATHS_MAX = 8;

/**
 * Waiting time before the second restart in a row; it is four times as long before each further
 * one.
 */
const BACKOFF_FIRST_MS = 5;
/**
 * No longer than that: a guest that waits for its disk should not wait for our patience as well.
 */
const BACKOFF_MAX_MS = 2000;

/** What to do about a death: start again in `delayMs`, or give the device up. */
export type Verdict = { restart: true; delayMs: number } | { restart: false };

/** The deaths of one device. */
export class RestartPolicy {
  #deathsInARow = 0;

  /** @param answered requests that the device answered since it was started */
  died(answered: number): Verdict {
    if (answered > 0) this.#deathsInARow = 0;
    this.#deathsInARow += 1;
    if (this.#deathsInARow > DEATHS_MAX) return { restart: false };
    if (this.#deathsInARow === 1) return { restart: true, delayMs: 0 };
    const delayMs = BACKOFF_FIRST_MS * 4 ** (this.#deathsInARow - 2);
    return { restart: true, delayMs: Math.min(delayMs, BACKOFF_MAX_MS) };
  }
}
