// What the kernel says of a device process, read from outside: the only report that counts.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { VmmError } from "../errors.js";
import { WRITABLE_EXECUTABLE } from "./lockdown.js";
import { NAMESPACES, type Namespace } from "./pieces.js";

/** An open descriptor and what /proc says it is: a path, or `socket:[123]`. */
export interface OpenFd {
  fd: number;
  target: string;
}

/** What is around a process. */
export interface Walls {
  pid: number;
  threads: number;
  /** Seccomp mode that every thread is in: 2 is a filter; 0 if any thread has none. */
  seccomp: number;
  /** Filters of the thread that has the fewest, those around the VMM not counted. */
  seccompFilters: number;
  noNewPrivs: boolean;
  /** Effective, permitted, inheritable and ambient capabilities of all threads together. */
  capabilities: string;
  /** Signals that have a handler. */
  signalsCaught: string;
  uid: number;
  /** Mappings that are both writable and executable. */
  wxPages: number;
  /** Open descriptors. */
  fds: OpenFd[];
  /** Namespaces that are not those of this process. */
  namespaces: Namespace[];
}

export interface Proof extends Walls {
  /** Memory that would be free without this process (Private_Dirty). */
  privateBytes: number;
  /** Pages of files, node's own text, that nobody else has mapped just now (Private_Clean). */
  privateFileBytes: number;
  residentBytes: number;
}

type Status = ReadonlyMap<string, string>;

function statusOf(file: string): Status {
  const lines = readFileSync(file, "latin1").trim().split("\n");
  const pairs = lines.map((line): [string, string] => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1).trim()];
  });
  return new Map(pairs);
}

function decimal(status: Status, field: string): number {
  return Number.parseInt(status.get(field) ?? "0", 10);
}

function capabilitiesOf(status: Status): bigint {
  const sets = ["CapInh", "CapPrm", "CapEff", "CapAmb"];
  return sets.reduce((all, name) => all | BigInt(`0x${status.get(name) ?? "0"}`), 0n);
}

function fdsOf(proc: string): OpenFd[] {
  const numbers = readdirSync(`${proc}/fd`).map(Number);
  numbers.sort((a, b) => a - b);
  return numbers.flatMap((fd) => {
    try {
      return [{ fd, target: readlinkSync(`${proc}/fd/${fd}`) }];
    } catch {
      return []; // closed meanwhile: in our own process, the descriptor that listed the directory
    }
  });
}

function wxPagesOf(proc: string): number {
  const lines = readFileSync(`${proc}/maps`, "latin1").split("\n");
  return lines.filter((line) => WRITABLE_EXECUTABLE.test(line)).length;
}

function ownNamespaces(proc: string): Namespace[] {
  const kinds = readdirSync("/proc/self/ns"); // those that this kernel has
  const link = (of: string, name: Namespace) =>
    kinds.includes(name) ? readlinkSync(`${of}/ns/${name}`) : undefined;
  return NAMESPACES.filter((name) => link(proc, name) !== link("/proc/self", name));
}

/** Filters that were around the VMM when it started, a container's, and so are around all else. */
const FILTERS_AROUND = decimal(statusOf("/proc/self/status"), "Seccomp_filters");

function measure(pid: number): Walls {
  const proc = `/proc/${pid}`;
  const tasks = readdirSync(`${proc}/task`);
  const threads = tasks.map((tid) => statusOf(`${proc}/task/${tid}/status`));
  const every = (field: string) => threads.map((status) => decimal(status, field));
  const capabilities = threads.reduce((all, status) => all | capabilitiesOf(status), 0n);
  const main = statusOf(`${proc}/status`);
  return {
    pid,
    threads: threads.length,
    seccomp: Math.min(...every("Seccomp")),
    seccompFilters: Math.min(...every("Seccomp_filters")) - FILTERS_AROUND,
    noNewPrivs: every("NoNewPrivs").every((value) => value === 1),
    capabilities: capabilities.toString(16).padStart(16, "0"),
    signalsCaught: main.get("SigCgt") ?? "",
    uid: decimal(main, "Uid"),
    wxPages: wxPagesOf(proc),
    fds: fdsOf(proc),
    namespaces: ownNamespaces(proc),
  };
}

/** Does `look` at the process `pid`; see wallsOf(). */
function looking<T>(pid: number, look: () => T): T {
  try {
    return look();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `Cannot verify the sandbox of process ${pid}: ${reason}`;
    throw new VmmError("ERR_SANDBOX", message, { cause });
  }
}

/**
 * Measures a process through /proc. A device is not dumpable, so its entry is closed to strangers;
 * its parent may look because it owns the user namespace that the device is in (ptrace(2), "access
 * mode checking"), and root may.
 *
 * @throws VmmError ERR_SANDBOX if the process is gone or may not be looked at
 */
export function wallsOf(pid: number): Walls {
  return looking(pid, () => measure(pid));
}

/** The walls around a process and its memory, which takes the kernel a millisecond to add up. */
export function proofOf(pid: number): Proof {
  const walls = wallsOf(pid);
  const memory = looking(pid, () => statusOf(`/proc/${pid}/smaps_rollup`));
  return {
    ...walls,
    privateBytes: decimal(memory, "Private_Dirty") * 1024,
    privateFileBytes: decimal(memory, "Private_Clean") * 1024,
    residentBytes: decimal(memory, "Rss") * 1024,
  };
}
