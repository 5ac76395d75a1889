// The life of a device that waits for more than messages: sleep, wake it for what has come, go on.

import type { SocketChannel } from "../wire/channel.js";
import { HEADER_WORDS, IDLE, TYPE } from "../wire/format.js";
import type { Attention } from "./attention.js";
import { CLOCK_MONOTONIC, nanosecondsOf } from "./clock.js";
import type { Sleeper } from "./sleeper.js";

/**
 * How often a device that wakes by itself shows that it sleeps in between, in nanoseconds: as often
 * as the watchdog looks. One that never sleeps, because it waits for what has always come already,
 * shows nothing, and is killed for the processor time that it uses.
 */
const IDLE_INTERVAL_NS = 1_000_000_000n;

export class Awakener {
  readonly #channel: SocketChannel;
  readonly #attention: Attention;
  readonly #sleeper: Sleeper;
  /** It woke since it last showed a sign, which was then. */
  #hasWoken = false;
  #shownAt = 0n;

  constructor(channel: SocketChannel, attention: Attention, sleeper: Sleeper) {
    this.#channel = channel;
    this.#attention = attention;
    this.#sleeper = sleeper;
  }

  /**
   * Sleeps, unless the device waits for messages only. Calls `wake` for what else has come.
   *
   * @returns whether to receive a message now: it is there, or the only thing to wait for
   */
  sleep(wake: () => void): boolean {
    const [attention, sleeper] = [this.#attention, this.#sleeper];
    if (attention.isQuiet) return true;
    if (!this.#hasCome()) sleeper.poll(attention, true);
    const { fired, isDue, hasMessage } = sleeper;
    if (fired === 0 && !isDue) return hasMessage;
    attention.settle(fired, isDue);
    this.#hasWoken = true;
    wake();
    return hasMessage;
  }

  /** If it is time to show a sign, looks what has come; where that is nothing, shows one. */
  #hasCome(): boolean {
    if (!this.#hasWoken) return false;
    const now = nanosecondsOf(CLOCK_MONOTONIC);
    if (now - this.#shownAt < IDLE_INTERVAL_NS) return false;
    if (this.#sleeper.poll(this.#attention, false)) return true;
    const { outgoing } = this.#channel;
    outgoing.fill(0, 0, HEADER_WORDS);
    outgoing[TYPE] = IDLE;
    this.#channel.send();
    this.#hasWoken = false;
    this.#shownAt = now;
    return false;
  }
}
