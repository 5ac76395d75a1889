// Tells a device that computes without end from one that waits. A device may hold chains for as
// long as it likes (a network card waits for packets, a console for a key), so an unanswered chain
// proves nothing. A device that waits, however, uses no processor time: it sleeps in recvmsg(2),
// and it can only come back there when it is done with the message before. Both are seen from
// outside, whatever the process does, without the right to trace it and without opening a file: its
// processor time by its clock (clock_getcpuclockid(3)), and in the VMM's end of the socket whether
// it has read everything (SIOCOUTQ).
//
// Processor time rather than time of day: on an overloaded or suspended host a device that did
// nothing wrong gets none, and a slow disk uses none.

import { assert } from "../errors.js";
import { checked, ioctl, syscall } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { IOCTL } from "./linux.js";
import { syscallNumber } from "./syscalls.js";

/**
 * Processor time of a device between one message and the next. The longest honest stretch is the
 * start of its node, 0.1 s and on an emulated processor 1 s; a guest waits 30 s for its disk.
 */
export const SPIN_CPU_MS_MAX = 5000;
/** Time of day between two looks; each costs some 40 µs for a device. */
export const WATCHDOG_INTERVAL_MS = 1000;

/** The lower three bits of a clock's id (linux/posix-timers.h); a whole process, or one thread. */
const CPUCLOCK_SCHED = 2;
const CPUCLOCK_PERTHREAD_MASK = 4;

/** What can be seen of a device process at some moment. */
export interface Look {
  /** Messages sent to the device since it was started. */
  sent: number;
  /** Messages received from it, READY among them. */
  received: number;
  /** Whether the device has not yet read all that was sent. */
  unread: boolean;
  /** Processor time that it used since it was started. */
  cpuMs: number;
}

/**
 * The judgement on one device process; a restarted device gets a new one. Pure: it has no clock.
 */
export class Watchdog {
  readonly #cpuMsMax: number;
  /** What was seen when the device last showed that it goes on. */
  #last: Look = { sent: 0, received: 0, unread: false, cpuMs: 0 };

  constructor(cpuMsMax = SPIN_CPU_MS_MAX) {
    this.#cpuMsMax = cpuMsMax;
  }

  /** Why the device must be killed, or undefined while there is no reason. */
  look(now: Look): string | undefined {
    if (this.#goesOn(now)) this.#last = now;
    const cpuMs = now.cpuMs - this.#last.cpuMs;
    if (cpuMs < this.#cpuMsMax) return undefined;
    const where = now.received === 0 ? "before it was ready" : `in message ${this.#last.sent}`;
    return `an endless loop ${where}: ${cpuMs} ms of processor time without an answer`;
  }

  /**
   * It answered, or it has read a message that was not there at the last sign: it was done with the
   * one before. Messages that wait unread are no sign, or a guest that keeps kicking would keep a
   * loop alive.
   */
  #goesOn(now: Look): boolean {
    if (now.received !== this.#last.received) return true;
    return now.sent !== this.#last.sent && !now.unread;
  }
}

const timespec = Mapping.anonymous(16);

function cpuMs(id: number, clock: number): number | undefined {
  const clockid = BigInt.asUintN(32, BigInt((~id << 3) | clock));
  const nr = syscallNumber("clock_gettime");
  if (syscall(nr, clockid, timespec.address, 0, 0, 0, 0) !== 0) return undefined;
  const [seconds, nanoseconds] = [0, 8].map((at) => Number(timespec.view.getBigInt64(at, true)));
  return seconds! * 1000 + Math.floor(nanoseconds! / 1e6);
}

/** Processor time of a process in milliseconds; undefined when it is gone. */
export function cpuMsOf(pid: number): number | undefined {
  return cpuMs(pid, CPUCLOCK_SCHED);
}

/** Processor time of one thread of this process in milliseconds; undefined when it is gone. */
export function cpuMsOfThread(tid: number): number | undefined {
  return cpuMs(tid, CPUCLOCK_SCHED | CPUCLOCK_PERTHREAD_MASK);
}

const outq = Mapping.anonymous(4);

/**
 * Whether the peer of a unix socket has not yet read all that was sent to it (SIOCOUTQ tells 0, or
 * more than was sent).
 */
export function hasUnread(socketFd: number): boolean {
  const result = ioctl(socketFd, IOCTL.SIOCOUTQ, outq.address);
  checked(result, "ioctl(SIOCOUTQ)", "Cannot watch a device", "ERR_SANDBOX");
  const bytes = outq.words[0];
  assert(bytes !== undefined, "a mapping of four bytes has a word");
  return bytes > 0;
}
