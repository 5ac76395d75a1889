// What queues tell of their requests while they serve them: nothing is allocated for it, and the
// clock is read once when a batch of chains is found and once when answers are shown.

export interface Meter {
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  /**
   * A chain was answered.
   *
   * @param readable bytes that the driver had put into it for the device
   * @param written bytes that the device put into it
   * @param latencyMs from when the chain was found to when the driver was shown the answer
   */
  answered(readable: number, written: number, latencyMs: number): void;
}

/** Counts nothing. */
export const NO_METER: Meter = { now: () => 0, answered: () => {} };
