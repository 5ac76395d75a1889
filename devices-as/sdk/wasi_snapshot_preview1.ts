// The functions of WASI preview 1 that the SDK calls. Only the ones that a device uses become
// imports of its module, and only the ones that its grants allow are linked.

/** Reads into `iovs`, and stores the number of bytes read at `nread`; returns an errno. */
export declare function fd_read(fd: i32, iovs: usize, iovsCount: i32, nread: usize): u32;

/** Stores the nanoseconds of clock `id` at `time`; returns an errno. */
export declare function clock_time_get(id: i32, precision: u64, time: usize): u32;

/** `clockid` of WASI preview 1. */
export const CLOCKID_REALTIME: i32 = 0;
export const CLOCKID_MONOTONIC: i32 = 1;

/** errno values of WASI preview 1 (`errno` in wasi_snapshot_preview1.witx). */
export const ERRNO_SUCCESS: u32 = 0;
export const ERRNO_INTR: u32 = 27;
