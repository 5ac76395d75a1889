// Clocks: what time it is, and to be woken when it is time.

import { attention } from "./attention";
import { clock_time_get, CLOCKID_MONOTONIC, CLOCKID_REALTIME } from "./wasi_snapshot_preview1";

const TIME: usize = memory.data(8, 8);

/** A granted clock: `clock:monotonic`, or `clock:realtime` that also tells the time of day. */
@final
export class Clock {
  /** Whether there is one: always, unless its declaration says Need.Optional. */
  get granted(): bool {
    return clock_time_get(CLOCKID_MONOTONIC, 1, TIME) == 0;
  }

  /** Nanoseconds since some moment before the device started; it never goes back. */
  now(): u64 {
    return time(CLOCKID_MONOTONIC);
  }

  /** Nanoseconds since 1970-01-01 00:00 UTC. Traps unless `clock:realtime` was granted. */
  realtime(): u64 {
    return time(CLOCKID_REALTIME);
  }

  /**
   * Has Device.wake() called when now() reaches `nanoseconds`, once; 0 is never. A device has one
   * deadline: this replaces the one before.
   */
  wakeAt(nanoseconds: u64): void {
    attention.deadline = nanoseconds;
  }
}

function time(id: i32): u64 {
  assert(clock_time_get(id, 1, TIME) == 0, "this clock was not granted");
  return load<u64>(TIME);
}
