// What Node, libuv and the C library do once, at some later moment that would be after the VMM's
// filter, is made to happen before it.

import { fstat } from "node:fs";
import { mallopt } from "../ffi/libc.js";

/** malloc.h */
const M_TRIM_THRESHOLD = -1;
const M_ARENA_MAX = -8;
/** As glibc would have it on two processors; threads share them. */
const ARENAS_MAX = 16;
/** More than an arena can hold: glibc's largest heap is 64 MiB. */
const NEVER_TRIM_BYTES = 2 ** 31 - 1;

/** libuv creates all its threads at the first use of one; stdin that is a file is read by them. */
function startThreadPool(): Promise<void> {
  return new Promise((resolve) => fstat(0, () => resolve()));
}

/**
 * Call it on the main thread before the filter: the process can then do without opening files
 * and creating threads.
 */
export async function primeVmm(): Promise<void> {
  // When glibc gives the end of a thread's heap back, it first opens a file of /proc.
  mallopt(M_TRIM_THRESHOLD, NEVER_TRIM_BYTES);
  // When a thread asks for memory for the first time, and eight others have an arena each, glibc
  // counts the processors: it opens a file of /sys to know how many arenas there may be.
  mallopt(M_ARENA_MAX, ARENAS_MAX);
  // The C library reads the file of the time zone at the first use of local time.
  new Date().getTimezoneOffset();
  // Node makes a stream of it at the end of any socket, to compare the two.
  void process.stderr;
  // Node starts its debugger, a thread and a socket, when it gets SIGUSR1 and nobody listens.
  process.on("SIGUSR1", () => {});
  await startThreadPool();
}
