// The functions of WASI preview 1 that the SDK calls. Only the ones that a device uses become
// imports of its module, and only the ones that its grants allow are linked. Each returns an errno.

/** Reads into `iovs`, and stores the number of bytes read at `nread`. */
export declare function fd_read(fd: i32, iovs: usize, iovsCount: i32, nread: usize): u32;
/** Writes from `iovs`, and stores the number of bytes written at `nwritten`. */
export declare function fd_write(fd: i32, iovs: usize, iovsCount: i32, nwritten: usize): u32;
/** As fd_read(), at `offset`. */
export declare function fd_pread(
  fd: i32,
  iovs: usize,
  iovsCount: i32,
  offset: u64,
  nread: usize,
): u32;
/** As fd_write(), at `offset`. */
export declare function fd_pwrite(
  fd: i32,
  iovs: usize,
  iovsCount: i32,
  offset: u64,
  nwritten: usize,
): u32;
/** Stores a `filestat`, 64 bytes, at `stat`. */
export declare function fd_filestat_get(fd: i32, stat: usize): u32;
export declare function fd_filestat_set_size(fd: i32, bytes: u64): u32;
export declare function fd_datasync(fd: i32): u32;
export declare function fd_sync(fd: i32): u32;
/** Takes the next who connects, and stores the descriptor of the connection at `accepted`. */
export declare function sock_accept(fd: i32, flags: u32, accepted: usize): u32;
export declare function fd_close(fd: i32): u32;
/** Opens `path` beneath a directory, and stores the descriptor at `opened`. */
export declare function path_open(
  fd: i32,
  dirflags: u32,
  path: usize,
  pathBytes: u32,
  oflags: u32,
  rights: u64,
  inheriting: u64,
  fdflags: u32,
  opened: usize,
): u32;
export declare function path_unlink_file(fd: i32, path: usize, pathBytes: u32): u32;
/** Stores entries of an opened directory from `cookie` on, and their bytes at `used`. */
export declare function fd_readdir(
  fd: i32,
  at: usize,
  bytes: u32,
  cookie: u64,
  used: usize,
): u32;
/** Fills `bytes` bytes at `address`. */
export declare function random_get(address: usize, bytes: u32): u32;

/** Stores the nanoseconds of clock `id` at `time`; returns an errno. */
export declare function clock_time_get(id: i32, precision: u64, time: usize): u32;

/** `clockid` of WASI preview 1. */
export const CLOCKID_REALTIME: i32 = 0;
export const CLOCKID_MONOTONIC: i32 = 1;

/** errno values of WASI preview 1 (`errno` in wasi_snapshot_preview1.witx). */
export const ERRNO_SUCCESS: u32 = 0;
export const ERRNO_AGAIN: u32 = 6;
export const ERRNO_BADF: u32 = 8;
export const ERRNO_INTR: u32 = 27;
export const ERRNO_IO: u32 = 29;
export const ERRNO_NOTCAPABLE: u32 = 76;

/** `oflags` and `rights` of WASI preview 1. */
export const OFLAGS_CREAT: u32 = 1;
export const OFLAGS_DIRECTORY: u32 = 2;
export const OFLAGS_EXCL: u32 = 4;
export const OFLAGS_TRUNC: u32 = 8;
export const RIGHTS_FD_READ: u64 = 1 << 1;
export const RIGHTS_FD_WRITE: u64 = 1 << 6;

/** `fdflags` of WASI preview 1. */
export const FDFLAGS_APPEND: u32 = 1;
export const FDFLAGS_NONBLOCK: u32 = 4;
