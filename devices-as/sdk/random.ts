// The host's random numbers.

import { ERRNO_SUCCESS, random_get } from "./wasi_snapshot_preview1";

const NUMBER: usize = memory.data(8, 8);

/** Random bytes of the host's kernel, good enough for keys. */
@final
export class Random {
  /** WASI errno of the last call; 0 after success. */
  errno: u32 = ERRNO_SUCCESS;

  /** A random number: `random.next<u64>()`; check `errno`, it is 0 if there is none. */
  next<T extends number>(): T {
    store<u64>(NUMBER, 0);
    this.errno = random_get(NUMBER, sizeof<T>());
    return load<T>(NUMBER);
  }

  /** Fills `buffer`; returns false, with `errno` set, if it could not. */
  fill(buffer: StaticArray<u8>): bool {
    this.errno = random_get(changetype<usize>(buffer), buffer.length);
    return this.errno == ERRNO_SUCCESS;
  }
}
