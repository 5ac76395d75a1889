// What Node, libuv and the C library do once, at some later moment that would be after the
// lock-down, is made to happen before it.
//
// libuv wakes an event loop by writing to an eventfd, once: as long as the loop has not run,
// further wake-ups find the handle pending and write nothing. A confined device never returns to
// its event loop, so both handles that the garbage collector may touch are made pending. Then the
// process needs neither the descriptor nor a rule for write(2).

import { VmmError } from "../errors.js";
import { viewOf } from "../ffi/libc.js";
import { Mapping, PAGE_BYTES } from "../ffi/memory.js";

/** A timeout that never comes: no device runs for 30 years. */
const NEVER_MS = 1e12;

/** ES2024, in V8 since version 8.7. */
interface WaitAsync {
  waitAsync(words: Int32Array, index: number, value: number, timeoutMs: number): unknown;
}

/** What --expose-gc exposes; a minor collection, which takes all that is new, is done in 0.2 ms. */
type CollectGarbage = (options: { type: "minor" | "major" }) => void;

/** V8's tasks for this thread: a timed Atomics.waitAsync() posts one. */
function primePlatformTasks(): void {
  const words = new Int32Array(new SharedArrayBuffer(4));
  (Atomics as typeof Atomics & WaitAsync).waitAsync(words, 0, 0, NEVER_MS);
}

/** Node's thread-safe immediates: the end of an ArrayBuffer over foreign memory posts one. */
function primeImmediates(): void {
  const collect = globalThis.gc as CollectGarbage | undefined;
  if (!collect) throw new VmmError("ERR_SANDBOX", "Cannot confine: node lacks --expose-gc");
  const page = Mapping.anonymous(PAGE_BYTES);
  viewOf(page.address, PAGE_BYTES);
  collect({ type: "minor" });
  page.close();
}

/** The C library reads the file of the time zone at the first use of local time. */
function primeLocalTime(): void {
  new Date().getTimezoneOffset();
}

/** Call it once, before the descriptors are closed, and do not return to the event loop. */
export function prime(): void {
  primePlatformTasks();
  primeImmediates();
  primeLocalTime();
}
