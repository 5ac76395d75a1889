// The contract of a device module, from wit/. Written by build/contract.ts: do not edit.

/** The version of wit/ that this Bulkhead runs: its package's major number. */
export const CONTRACT = 2;

/** Type of each function that a module exports, as its bytes have it. */
export const EXPORTS = {
  _initialize: "() -> ()",
  reserve: "(i32) -> (i32)",
  set: "(i32 i64 i32 i32) -> ()",
  start: "() -> ()",
  activate: "(i64) -> ()",
  reset: "() -> ()",
  serve: "(i32 i32 i32 i32 i32) -> (i32)",
  configure: "(i32 i32 i32) -> ()",
  attention: "() -> (i32)",
  wake: "() -> ()",
  describe: "() -> (i32)",
} as const;

/** The same functions as JavaScript calls them. */
export interface DeviceExports {
  /**
   * Called once and first.
   */
  _initialize(): void;

  /**
   * Sets aside `bytes` bytes of the module's memory for the runtime, and returns their address.
   * Called twice, right after `_initialize`: for the window that requests are received into, and
   * for the window that replies are sent from. The module leaves both alone but for `serve`.
   */
  reserve(bytes: number): number;

  /**
   * The user set the `index`-th option of the manifest. A number is in `number`; a flag that is set
   * is 1 there; a text is the `text-bytes` bytes of UTF-8 at `text`, which are gone after the call.
   * Called before `start`, for the options that were set and no others.
   */
  set(index: number, number: bigint, text: number, textBytes: number): void;

  /**
   * All options are known, and no driver has seen the device. Called once, before `activate`.
   */
  start(): void;

  /**
   * The driver accepted `features` and is ready. Called before the first request, and after each
   * `reset`. A module may be replaced by a fresh instance at any time, which then begins here.
   */
  activate(features: bigint): void;

  /**
   * The driver reset the device: what was not answered never will be.
   */
  reset(): void;

  /**
   * Answers one request of `queue`. The bytes that the driver wrote for the device are the
   * `readable-bytes` bytes at `readable`. The reply is written at `writable`, where there is room
   * for `writable-bytes` bytes, and its length is returned. A length above `writable-bytes`, or a
   * trap, ends the device. 0xffffffff says that the request waits: nothing is answered, and it is
   * offered again, from its start, when something has happened (see events.wit). Behind a request
   * that waits, the others of its queue wait as well.
   */
  serve(
    queue: number,
    readable: number,
    readableBytes: number,
    writable: number,
    writableBytes: number,
  ): number;

  /**
   * The driver wrote `value`, 1, 2 or 4 `bytes` wide, at `offset`; all of it is inside the config
   * space. What the driver reads next is what the device makes of it.
   */
  configure(offset: number, bytes: number, value: number): void;

  /**
   * Returns the address of 24 static bytes, the same for as long as the module lives, in which it
   * says what it waits for. The runtime looks there before it sleeps; all zero is nothing. What has
   * come it clears there before it calls `wake`, so that it is told once, and all of it before it
   * calls `reset`: a device that still waits says so again. Little-endian:
   *
   *   0 deadline u64: when to wake it, in nanoseconds of the monotonic clock; 0 is never. Needs a
   *     capability of kind `clock`, and is ignored without one.
   *   8 interest u32: bit n, the n-th capability becomes readable; bit 8 + n, it becomes writable.
   *     Only of kinds that can be waited for; an error or a hang-up counts as both.
   *  12 config generation u32: it changes when the config space does.
   *  16 config u32: address of the config space, as large as the manifest says.
   *  20 withheld u32: features 0 to 31 of the manifest that the device does not offer with these
   *     grants and options. Read once, after `start`; the same at each start.
   */
  attention(): number;

  /**
   * Something that it waited for has come, or its deadline has passed; or the VMM says that it is
   * to look at what it was granted again, because a terminal has another size, or somebody
   * has opened or closed a pseudo-terminal. A device may be woken for nothing. After this and after
   * each batch of requests, the oldest request that waits in each queue is offered to `serve`
   * again, until each of them waits.
   */
  wake(): void;

  /**
   * Returns the address of a static description: virtio id, queues, features and capabilities. The
   * build makes the custom section `bulkhead.manifest` of it (devices-as/sdk/describe.ts has the
   * layout); where the module runs, only that section counts.
   */
  describe(): number;
}

/** Type of each function of wasi_snapshot_preview1; which of them link is the grants' affair. */
export const WASI: Readonly<Record<string, string>> = {
  args_get: "(i32 i32) -> (i32)",
  args_sizes_get: "(i32 i32) -> (i32)",
  clock_res_get: "(i32 i32) -> (i32)",
  clock_time_get: "(i32 i64 i32) -> (i32)",
  environ_get: "(i32 i32) -> (i32)",
  environ_sizes_get: "(i32 i32) -> (i32)",
  fd_advise: "(i32 i64 i64 i32) -> (i32)",
  fd_allocate: "(i32 i64 i64) -> (i32)",
  fd_close: "(i32) -> (i32)",
  fd_datasync: "(i32) -> (i32)",
  fd_fdstat_get: "(i32 i32) -> (i32)",
  fd_fdstat_set_flags: "(i32 i32) -> (i32)",
  fd_fdstat_set_rights: "(i32 i64 i64) -> (i32)",
  fd_filestat_get: "(i32 i32) -> (i32)",
  fd_filestat_set_size: "(i32 i64) -> (i32)",
  fd_filestat_set_times: "(i32 i64 i64 i32) -> (i32)",
  fd_pread: "(i32 i32 i32 i64 i32) -> (i32)",
  fd_prestat_dir_name: "(i32 i32 i32) -> (i32)",
  fd_prestat_get: "(i32 i32) -> (i32)",
  fd_pwrite: "(i32 i32 i32 i64 i32) -> (i32)",
  fd_read: "(i32 i32 i32 i32) -> (i32)",
  fd_readdir: "(i32 i32 i32 i64 i32) -> (i32)",
  fd_renumber: "(i32 i32) -> (i32)",
  fd_seek: "(i32 i64 i32 i32) -> (i32)",
  fd_sync: "(i32) -> (i32)",
  fd_tell: "(i32 i32) -> (i32)",
  fd_write: "(i32 i32 i32 i32) -> (i32)",
  path_create_directory: "(i32 i32 i32) -> (i32)",
  path_filestat_get: "(i32 i32 i32 i32 i32) -> (i32)",
  path_filestat_set_times: "(i32 i32 i32 i32 i64 i64 i32) -> (i32)",
  path_link: "(i32 i32 i32 i32 i32 i32 i32) -> (i32)",
  path_open: "(i32 i32 i32 i32 i32 i64 i64 i32 i32) -> (i32)",
  path_readlink: "(i32 i32 i32 i32 i32 i32) -> (i32)",
  path_remove_directory: "(i32 i32 i32) -> (i32)",
  path_rename: "(i32 i32 i32 i32 i32 i32) -> (i32)",
  path_symlink: "(i32 i32 i32 i32 i32) -> (i32)",
  path_unlink_file: "(i32 i32 i32) -> (i32)",
  poll_oneoff: "(i32 i32 i32 i32) -> (i32)",
  proc_exit: "(i32) -> ()",
  proc_raise: "(i32) -> (i32)",
  random_get: "(i32 i32) -> (i32)",
  sched_yield: "() -> (i32)",
  sock_accept: "(i32 i32 i32) -> (i32)",
  sock_recv: "(i32 i32 i32 i32 i32 i32) -> (i32)",
  sock_send: "(i32 i32 i32 i32 i32) -> (i32)",
  sock_shutdown: "(i32 i32) -> (i32)",
};
