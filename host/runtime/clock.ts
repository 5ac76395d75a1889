// The clocks of the host, in nanoseconds: what a device with a capability of kind `clock` may read,
// and what deadlines are measured by. The vDSO answers; where it cannot, each device may make the
// system call.

import { clock_gettime } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";

/** clock_gettime(2) */
export const CLOCK_REALTIME = 0;
export const CLOCK_MONOTONIC = 1;

const timespec = Mapping.anonymous(16);

/** Nanoseconds of a clock of this machine; both of the clocks above always exist. */
export function nanosecondsOf(clock: number): bigint {
  clock_gettime(clock, timespec.address);
  const { view } = timespec;
  return view.getBigInt64(0, true) * 1_000_000_000n + view.getBigInt64(8, true);
}
