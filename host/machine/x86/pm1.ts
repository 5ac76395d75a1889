// ACPI's PM1 event registers, as far as there is an event: the power button, which a guest's kernel
// enables when somebody in the guest listens to it (ACPI 6.5 §4.8.2.2.1.1, §4.8.3.1). Two shared
// words, so that each vCPU serves its own accesses and the supervisor can press the button.

import type { EventFd } from "../eventfd.js";

/** Bits of both the status and the enable register. */
const PWRBTN = 1 << 8;

/** Words of this part's shared state. */
const ENABLE = 0;
const STATUS = 1;
export const PM1_WORDS = 2;

export class Pm1 {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #sci: EventFd;

  /** `words`: PM1_WORDS of shared state, zeroed at first; `sci` is the interrupt for all events. */
  constructor(words: Int32Array<SharedArrayBuffer>, sci: EventFd) {
    this.#words = words;
    this.#sci = sci;
  }

  get status(): number {
    return Atomics.load(this.#words, STATUS);
  }

  /** A guest writes the bits of what it has seen. */
  clear(bits: number): void {
    Atomics.and(this.#words, STATUS, ~bits);
  }

  get enable(): number {
    return Atomics.load(this.#words, ENABLE);
  }

  set enable(value: number) {
    Atomics.store(this.#words, ENABLE, value & 0xffff);
    this.#interrupt();
  }

  /** Whether somebody in the guest listens to the button. */
  get hasButton(): boolean {
    return (this.enable & PWRBTN) !== 0;
  }

  pressButton(): void {
    Atomics.or(this.#words, STATUS, PWRBTN);
    this.#interrupt();
  }

  #interrupt(): void {
    if ((this.status & this.enable) !== 0) this.#sci.signal();
  }
}
