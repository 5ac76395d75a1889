// Tells a device that computes without end from one that waits. A device may hold chains for as
// long as it likes (a network card waits for packets, a console for a key), so an unanswered chain
// proves nothing. A device that waits, however, uses no processor time: it sleeps in recvmsg(2),
// and it can only come back there when it is done with the message before. Both are seen from
// outside, whatever the process does, and without the right to trace it: its processor time in
// /proc/PID/stat, and in the VMM's end of the socket whether it has read everything (SIOCOUTQ).
//
// Processor time rather than time of day: on an overloaded or suspended host a device that did
// nothing wrong gets none, and a slow disk uses none.

import { readFileSync } from "node:fs";
import { assert } from "../errors.js";
import { checked, ioctl } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";

/**
 * Processor time of a device between one message and the next. The longest honest stretch is the
 * start of its node, 0.1 s and on an emulated processor 1 s; a guest waits 30 s for its disk.
 */
export const SPIN_CPU_MS_MAX = 5000;
/** Time of day between two looks; each costs some 40 µs for a device. */
export const WATCHDOG_INTERVAL_MS = 1000;

/**
 * Bytes that were sent and that the peer has not read (linux/sockios.h); 0 or more than was sent.
 */
const SIOCOUTQ = 0x5411;
/** Unit of the times in /proc/PID/stat: USER_HZ is 100 on x86-64 (proc(5)). */
const TICK_MS = 10;
/** utime and stime, counted behind the name of the program, which may contain anything. */
const UTIME = 11;
const STIME = 12;

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

/** Processor time of a process in milliseconds; undefined when it is gone. */
export function cpuMsOf(pid: number): number | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[UTIME]) + Number(fields[STIME])) * TICK_MS;
}

const outq = Mapping.anonymous(4);

/** Whether the peer of a unix socket has not yet read all that was sent to it. */
export function hasUnread(socketFd: number): boolean {
  const result = ioctl(socketFd, SIOCOUTQ, outq.address);
  checked(result, "ioctl(SIOCOUTQ)", "Cannot watch a device", "ERR_SANDBOX");
  const bytes = outq.words[0];
  assert(bytes !== undefined, "a mapping of four bytes has a word");
  return bytes > 0;
}
