// What a process uses, by what /proc says of it to anybody.

import { readFileSync } from "node:fs";

/** Clock ticks of /proc a second (USER_HZ, 100 on every Linux for x86-64). */
const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4096;
/** Fields of /proc/PID/stat behind the name: utime and stime (proc(5), fields 14 and 15). */
const UTIME = 11;
const STIME = 12;

export interface ProcessUsage {
  cpuMs: number;
  /** Resident memory; much of it is shared with the other processes of Bulkhead. */
  rssBytes: number;
}

/** What process `pid` used so far; undefined when it is gone. */
export function usageOf(pid: number): ProcessUsage | undefined {
  try {
    const stat = readFileSync(`/proc/${Math.trunc(pid)}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const ticks = Number(fields[UTIME]) + Number(fields[STIME]);
    const [, resident] = readFileSync(`/proc/${Math.trunc(pid)}/statm`, "latin1").split(" ");
    return { cpuMs: (ticks * 1000) / TICKS_PER_SECOND, rssBytes: Number(resident) * PAGE_BYTES };
  } catch {
    return undefined;
  }
}
