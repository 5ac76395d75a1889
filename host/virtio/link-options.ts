// What a link between driver and device tells its owner.

import type { Queue } from "./virtqueue.js";

export interface DeviceLinkOptions {
  log(line: string): void;
  /**
   * The device process says that it is confined, and waits for approve(); `report` is a JSON
   * object, otherwise unchecked.
   */
  ready(report: object): void;
  /** The process is gone, the channel dropped. What it owed is kept for the next attach(). */
  closed(): void;
  /** The device lied and the channel was dropped: end the process. The driver was told to reset. */
  broken(reason: string): void;
  /** Whether the owner looks for further chains in `queue` by itself, and calls kick() for them. */
  looksAt?(queue: Queue): boolean;
  /** Resets so far; a test begins just before the count wraps around. */
  generation?: number;
  /** Milliseconds of a clock that never goes back, other than this machine's. */
  now?: () => number;
}
