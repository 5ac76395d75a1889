// Node keeps threads that a device has no use for: V8's worker and its timer thread. They are ended
// before the lock-down, so that no code but the device's own loop is left to need a system call.

import { readdirSync, readFileSync } from "node:fs";
import { VmmError } from "../errors.js";
import { gettid, symbolAddress, syscall, tgkill } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { SIGNAL, SIGNAL_MAX } from "./linux.js";
import { syscallNumber } from "./syscalls.js";

/** struct sigaction of the kernel: handler, flags, restorer, mask, eight bytes each. */
const SIGACTION_BYTES = 32;
const SIGSET_BYTES = 8;
/** Polls of /proc/self/task before a thread counts as one that does not end; each takes 50 µs. */
const ENDING_POLLS_MAX = 100_000;
/** Mostly they end at once; where many devices start, those that wait must not keep a processor. */
const QUICK_POLLS = 20;
const POLL_MS = 0.5;
const pause = new Int32Array(new SharedArrayBuffer(4));

/** A thread of this process. */
interface Thread {
  /** Its number for system calls, in this process's own pid namespace. */
  tid: number;
  /** Signals that it blocks; bit 0 is signal 1. */
  blocked: bigint;
  sleeps: boolean;
  /** It sleeps where a thread waits for work, and holds no lock that others will want. */
  idles: boolean;
}

/** What a thread of Node's waits for work in. */
const IDLE = ["epoll_wait", "epoll_pwait", "futex", "ppoll"].map(syscallNumber);

/** Whether a thread that sleeps is in one of those; proc(5) on /proc/PID/task/TID/syscall. */
function isIdle(entry: string): boolean {
  try {
    const line = readFileSync(`/proc/self/task/${entry}/syscall`, "latin1");
    return IDLE.includes(Number.parseInt(line, 10)); // NaN: "running"
  } catch {
    return true; // a kernel without that file: it sleeps, that must do
  }
}

/** A line of /proc/PID/status; a pattern of its own for each would take as long as the rest. */
function fieldOf(status: string, name: string): string {
  const before = `\n${name}:\t`;
  const start = status.indexOf(before);
  return start === -1 ? "" : status.slice(start + before.length, status.indexOf("\n", start + 1));
}

/** What /proc says of a thread; nothing if it has just ended. */
function threadOf(entry: string): Thread[] {
  let status: string;
  try {
    status = readFileSync(`/proc/self/task/${entry}/status`, "latin1");
  } catch {
    return [];
  }
  const tid = Number(fieldOf(status, "NSpid").split("\t").at(-1));
  const sleeps = fieldOf(status, "State").startsWith("S");
  const idles = sleeps && isIdle(entry);
  return [{ tid, blocked: BigInt(`0x${fieldOf(status, "SigBlk")}`), sleeps, idles }];
}

function otherThreads(): Thread[] {
  const own = gettid();
  return readdirSync("/proc/self/task")
    .flatMap(threadOf)
    .filter(({ tid }) => tid !== own);
}

function lets(thread: Thread, signal: number): boolean {
  return ((thread.blocked >> BigInt(signal - 1)) & 1n) === 0n;
}

function rtSigaction(signal: number, action: Mapping): number {
  const nr = syscallNumber("rt_sigaction");
  return syscall(nr, signal, action.address, 0, SIGSET_BYTES, 0, 0);
}

/** Takes away every signal handler, glibc's own two included; SIGPIPE stays ignored. */
export function resetSignals(): void {
  const action = Mapping.anonymous(SIGACTION_BYTES);
  for (let signal = 1; signal <= SIGNAL_MAX; signal++) {
    if (signal === SIGNAL.SIGKILL || signal === SIGNAL.SIGSTOP) continue;
    const handler = signal === SIGNAL.SIGPIPE ? SIGNAL.SIG_IGN : SIGNAL.SIG_DFL;
    action.view.setBigUint64(0, BigInt(handler), true);
    rtSigaction(signal, action);
  }
  action.close();
}

/**
 * Ends all other threads that let a signal through, each once it is idle: one that has just begun
 * may hold a lock of malloc's, which this thread would wait for for ever. There is no system call
 * that ends another thread, but a thread ends itself when it calls exit(2), and a signal handler is
 * called with the number of its signal as the first argument. So libc's `syscall` is installed as
 * the handler of the real-time signal whose number is that of exit(2): the thread calls
 * `syscall(SYS_exit, …)`.
 *
 * One thread of Node's blocks all signals and stays: the one that starts the debugger on SIGUSR1.
 * It waits for a semaphore that nothing can raise any more once resetSignals() has run. A thread
 * that has just been created blocks all signals too, and still has system calls to make that the
 * filter would not forgive (rseq, set_robust_list): so what stays must sleep.
 *
 * @returns how many threads are left
 */
export function endIdleThreads(): number {
  const exit = syscallNumber("exit");
  const action = Mapping.anonymous(SIGACTION_BYTES);
  action.view.setBigUint64(0, BigInt(symbolAddress("syscall")), true);
  action.view.setBigUint64(8, BigInt(SIGNAL.SA_RESTORER), true);
  if (rtSigaction(exit, action) !== 0) {
    throw new VmmError("ERR_SANDBOX", "Cannot end idle threads: rt_sigaction failed");
  }
  action.close();
  const told = new Set<number>();
  for (let i = 0; i < ENDING_POLLS_MAX; i++) {
    const others = otherThreads();
    const ending = others.filter((thread) => lets(thread, exit));
    if (ending.length === 0 && others.every(({ sleeps }) => sleeps)) return others.length + 1;
    for (const { tid } of ending.filter(({ idles }) => idles)) {
      if (!told.has(tid)) tgkill(process.pid, tid, exit);
      told.add(tid);
    }
    if (i >= QUICK_POLLS) Atomics.wait(pause, 0, 0, POLL_MS);
  }
  throw new VmmError("ERR_SANDBOX", "Cannot end idle threads: they did not end");
}
