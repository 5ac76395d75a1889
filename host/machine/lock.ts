// A lock on one shared word, for state that several vCPU threads reach.

const FREE = 0;
const HELD = 1;

export class SharedLock {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #index: number;

  constructor(words: Int32Array<SharedArrayBuffer>, index: number) {
    this.#words = words;
    this.#index = index;
  }

  /** Runs `body` while no other thread holds this lock. */
  run<T>(body: () => T): T {
    while (Atomics.compareExchange(this.#words, this.#index, FREE, HELD) !== FREE) {
      Atomics.wait(this.#words, this.#index, HELD);
    }
    try {
      return body();
    } finally {
      Atomics.store(this.#words, this.#index, FREE);
      Atomics.notify(this.#words, this.#index, 1);
    }
  }
}
