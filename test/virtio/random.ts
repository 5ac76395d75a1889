// Random runs that can be repeated: BULKHEAD_TEST_SEED chooses another run, and
// BULKHEAD_TEST_OPERATIONS a longer one.

export const SEED = Number(process.env.BULKHEAD_TEST_SEED ?? 1);
export const OPERATIONS = Number(process.env.BULKHEAD_TEST_OPERATIONS ?? 1_000_000);

/** A small generator of good quality (mulberry32): the same seed, the same numbers. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Any 32 bits. */
  u32(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** From 0 to `count` - 1. */
  below(count: number): number {
    return this.u32() % count;
  }

  /** True once in `count` times. */
  oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** `count` bytes, equal ones: cheap to make, and enough to see where they went. */
  bytes(count: number): Uint8Array {
    return new Uint8Array(count).fill(this.below(256));
  }
}

/** Runs `step` OPERATIONS times; a failure says how to come back to it. */
export function repeat(step: (operation: number) => void, count = OPERATIONS): void {
  for (let operation = 0; operation < count; operation += 1) {
    try {
      step(operation);
    } catch (error) {
      const where = `BULKHEAD_TEST_SEED=${SEED}, operation ${operation}`;
      throw new Error(`${where}: ${(error as Error).message}`, { cause: error });
    }
  }
}
