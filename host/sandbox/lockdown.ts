// The lock-down: a device process gives up everything but what its grants need, and cannot get it
// back. It runs in the process itself, when the module is compiled and before any of it runs.

import { closeSync, readdirSync, readFileSync } from "node:fs";
import { errnoName, VmmError } from "../errors.js";
import { errno, getppid, mprotect, munmap, prctl, syscall } from "../ffi/libc.js";
import { Mapping, PROT_EXEC, PROT_READ } from "../ffi/memory.js";
import { waitingBytes } from "../ffi/socket.js";
import {
  compilePolicy,
  SECCOMP_RET_KILL_PROCESS,
  SECCOMP_RET_LOG,
  SECCOMP_RET_USER_NOTIF,
} from "./bpf.js";
import { handOver } from "./denial.js";
import { GRANT_FD_FIRST, openedFds, SOCKET_FD, STDERR_FD } from "./descriptors.js";
import { directoriesOf, fdsOf, type GrantedFd, openableCount, type Right } from "./grants.js";
import { Filter } from "./install.js";
import { denyEverything } from "./landlock.js";
import { CAPABILITY, PRCTL, RLIMIT, SECCOMP, SIGNAL } from "./linux.js";
import type { OptionValue } from "./options.js";
import { indispensable, type Piece, refusal, type Weakness } from "./pieces.js";
import { type Policy, policyOf, syscallsOf } from "./policy.js";
import { prime } from "./prime.js";
import { type ImportedFunction, MEMORY_PAGES_MAX } from "./sections.js";
import { syscallNumber } from "./syscalls.js";
import { endIdleThreads, resetSignals } from "./threads.js";

export { GRANT_FD_FIRST, MODULE_FD, SOCKET_FD } from "./descriptors.js";

/**
 * Writable memory that a device may use beyond what it has at the lock-down: its linear memory
 * (at most 16 MiB) and V8's young generation. More is a leak or an attack on the host's memory.
 */
const DATA_GROWTH_BYTES_MAX = 64 * 1024 * 1024;
/**
 * Address space beyond what it has: V8 reserves a little more than it uses. Without this limit the
 * one above stops nobody: memory that was filled and then made inaccessible is no "data" any more.
 */
const ADDRESS_GROWTH_BYTES_MAX = DATA_GROWTH_BYTES_MAX + 16 * 1024 * 1024;
/** What of a reservation a linear memory may grow into. */
const RESERVATION_BYTES_MAX = MEMORY_PAGES_MAX * 64 * 1024;
const EBUSY = 16;
const EINVAL = 22;

export type SeccompMode = "enforce" | "log" | "off";

/** What the VMM tells a device process, as JSON in its argument. */
export interface DeviceSetup {
  id: string;
  isolation: "process";
  seccomp: SeccompMode;
  grants: GrantedFd[];
  options: readonly OptionValue[];
  /** Pid of the VMM as the process sees it: 0 across a pid namespace. */
  parentPid: number;
  /** The user accepts to miss what this kernel refuses (pieces.ts). */
  allowWeak: boolean;
  /** What is missing already. */
  weak: Weakness[];
}

/** What the process did; the VMM believes only what it measures itself (proof.ts). */
export interface LockdownReport {
  seccomp: SeccompMode;
  syscalls: string[];
  rules: number;
  fds: number[];
  threads: number;
  wxPages: number;
  /** ABI of the Landlock that denies everything; 0 where the kernel has none. */
  landlock: number;
  /** All that is missing. */
  weak: Weakness[];
}

function refused(what: string, number: number): VmmError {
  const message = `Cannot confine the device: ${what}: ${errnoName(number)}`;
  return indispensable(message, { errno: number, syscall: what });
}

function must(result: number, what: string): void {
  if (result !== 0) throw refused(what, errno());
}

function set(option: keyof typeof PRCTL, value: number): void {
  must(prctl(PRCTL[option], value, 0, 0, 0), `prctl(${option})`);
}

/**
 * The device ends with the VMM, even if the VMM died a moment ago and nobody would send the signal.
 * The socket tells: across a pid namespace the parent is 0, whoever it is.
 */
function dieWithParent(parentPid: number): void {
  set("PR_SET_PDEATHSIG", SIGNAL.SIGKILL);
  const isHungUp = waitingBytes(SOCKET_FD) === 0;
  if (getppid() === parentPid && !isHungUp) return;
  throw new VmmError("ERR_SANDBOX", "Cannot confine the device: the VMM is gone already");
}

/** Closes every descriptor but `kept`: those of Node's event loop, and whatever else there is. */
function closeOthers(kept: ReadonlySet<number>): number[] {
  const open = readdirSync("/proc/self/fd").map(Number);
  for (const fd of open) {
    if (kept.has(fd)) continue;
    try {
      closeSync(fd);
    } catch {
      // The descriptor that listed the directory is closed already.
    }
  }
  return [...kept];
}

/** A line of /proc/self/status that is a size. */
function statusBytes(name: "VmData" | "VmSize"): number {
  const status = readFileSync("/proc/self/status", "latin1");
  const kilobytes = status.match(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m"))?.[1];
  return Number(kilobytes ?? 0) * 1024;
}

function limit(limits: Partial<Record<keyof typeof RLIMIT, number>>): void {
  const rlimit64 = Mapping.anonymous(16);
  for (const [name, value] of Object.entries(limits)) {
    rlimit64.view.setBigUint64(0, BigInt(value), true);
    rlimit64.view.setBigUint64(8, BigInt(value), true);
    const resource = RLIMIT[name as keyof typeof RLIMIT];
    const nr = syscallNumber("prlimit64");
    must(syscall(nr, 0, resource, rlimit64.address, 0, 0, 0), `prlimit64(${name})`);
  }
  rlimit64.close();
}

/**
 * No descriptor can come to be but at a number that was kept for it. The last limit of all: it is
 * also how many descriptors all processes of this user together may have on their way through
 * sockets (ETOOMANYREFS, unix(7)), and a process that has it already could not send its listener
 * while some others do, or while a device that was taken over sends all that it can.
 */
function limitDescriptors(grants: readonly GrantedFd[]): void {
  const granted = fdsOf(grants).length;
  const connections = openedFds(granted, openableCount(grants));
  limit({ RLIMIT_NOFILE: Math.max(GRANT_FD_FIRST + granted - 1, ...connections) + 1 });
}

function limitResources(grants: readonly GrantedFd[]): void {
  const limits: Parameters<typeof limit>[0] = {
    RLIMIT_AS: statusBytes("VmSize") + ADDRESS_GROWTH_BYTES_MAX,
    RLIMIT_CORE: 0,
    RLIMIT_DATA: statusBytes("VmData") + DATA_GROWTH_BYTES_MAX,
    RLIMIT_MEMLOCK: 0,
    RLIMIT_MSGQUEUE: 0,
    RLIMIT_NPROC: 0,
    RLIMIT_SIGPENDING: 0,
  };
  const writes: readonly Right[] = ["write", "append"];
  const grows = grants.some(({ rights }) => rights.some((right) => writes.includes(right)));
  if (!grows) limits.RLIMIT_FSIZE = 0;
  limit(limits);
}

/** Empties the capability sets of this thread; the others lost theirs at exec. */
function dropCapabilities(): void {
  const header = Mapping.anonymous(64);
  header.view.setUint32(0, CAPABILITY._LINUX_CAPABILITY_VERSION_3, true);
  const data = header.address + 8;
  must(syscall(syscallNumber("capset"), header.address, data, 0, 0, 0, 0), "capset");
  header.close();
}

/** One line of /proc/PID/maps: is it both writable and executable? */
export const WRITABLE_EXECUTABLE = /^([0-9a-f]+)-([0-9a-f]+) .wx/;

/** One line of /proc/PID/maps: address space that is only reserved. */
const RESERVED = /^([0-9a-f]+)-([0-9a-f]+) ---p 00000000 00:00 0 *$/;

/** This process's mappings whose line in /proc/self/maps matches. */
function mappings(pattern: RegExp): { address: number; bytes: number }[] {
  const lines = readFileSync("/proc/self/maps", "latin1").split("\n");
  const matches = lines.map((line) => pattern.exec(line)).filter((match) => match !== null);
  return matches.map(([, start, end]) => {
    const address = Number.parseInt(start!, 16);
    return { address, bytes: Number.parseInt(end!, 16) - address };
  });
}

/** Makes every page that is both writable and executable read-only; V8 has written all its code. */
function sealCode(): number {
  for (const { address, bytes } of mappings(WRITABLE_EXECUTABLE)) {
    must(mprotect(address, bytes, PROT_READ | PROT_EXEC), "mprotect");
  }
  return mappings(WRITABLE_EXECUTABLE).length;
}

/**
 * Gives back the address space that V8 reserves and does not use: 512 MiB for code that is not
 * written any more, and 10 GiB around a linear memory for faults that explicit bounds checks come
 * before (NODE_FLAGS of spawn.ts). An attacker could fill all of it, piece by piece.
 */
function releaseReservations(): void {
  for (const { address, bytes } of mappings(RESERVED)) {
    const excess = bytes - RESERVATION_BYTES_MAX;
    if (excess > 0) must(munmap(address + RESERVATION_BYTES_MAX, excess), "munmap");
  }
}

/**
 * Installs the filter on every thread: from here on the VMM is told of everything else, and nothing
 * else happens. Only one filter of a process may have a listener, so inside a container whose
 * manager has one of its own (EBUSY), and before Linux 5.7 (EINVAL), the kernel kills instead.
 *
 * @param last what remains to be done when nothing has to be sent any more but messages
 */
function filterSyscalls(policy: Policy, mode: SeccompMode, last: () => void): void {
  if (mode === "off") {
    last();
    return;
  }
  const { SECCOMP_FILTER_FLAG_TSYNC: TSYNC, SECCOMP_FILTER_FLAG_TSYNC_ESRCH: ESRCH } = SECCOMP;
  const told = compilePolicy(policy, SECCOMP_RET_USER_NOTIF);
  const flags = TSYNC | ESRCH | SECCOMP.SECCOMP_FILTER_FLAG_NEW_LISTENER;
  const listener = new Filter(told).install(flags);
  const number = errno();
  if (listener >= 0) {
    handOver(listener, { socketFd: SOCKET_FD, last });
    return;
  }
  last();
  if (number !== EBUSY && number !== EINVAL) throw refused("seccomp", number);
  const denied = mode === "log" ? SECCOMP_RET_LOG : SECCOMP_RET_KILL_PROCESS;
  const result = new Filter(compilePolicy(policy, denied)).install(TSYNC);
  if (result > 0) {
    throw new VmmError("ERR_SANDBOX", `Cannot confine the device: thread ${result} has no filter`);
  }
  must(result, "seccomp");
}

/** Does `action`; if the kernel refuses, that is an error, or where allowed one more weakness. */
function unlessWeak(
  piece: Piece,
  { allowed, weak }: { allowed: boolean; weak: Weakness[] },
  action: () => void,
): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof VmmError) || error.errno === undefined) throw error;
    const refused = { piece, why: `${error.syscall}: ${errnoName(error.errno)}` };
    if (!allowed) throw refusal("Cannot confine the device", [refused], error.errno);
    weak.push(refused);
  }
}

/**
 * Confines this process for good. Afterwards it has a main thread and one that sleeps for ever, no
 * signal handlers, the descriptors 0–3 and its grants, and the system calls of its policy. It must
 * not return to the event loop, create a thread, or leave other than by `_exit()`.
 *
 * @param imports the functions that the module imports; grants open no system call beyond them
 * @throws VmmError ERR_SANDBOX, and then the process is not confined and must end
 */
export function lockDown(setup: DeviceSetup, imports: readonly ImportedFunction[]): LockdownReport {
  const { grants, seccomp } = setup;
  const weak = [...setup.weak];
  const lacks = (piece: Piece) => weak.some((each) => each.piece === piece);
  const policy = policyOf({ socketFd: SOCKET_FD, grants, imports });
  prime();
  const threads = endIdleThreads();
  resetSignals();
  dieWithParent(setup.parentPid);
  const fds = closeOthers(new Set([0, 1, STDERR_FD, SOCKET_FD, ...fdsOf(grants)]));
  const wxPages = sealCode();
  releaseReservations();
  limitResources(grants);
  // Not to be traced, nor looked at by strangers. Its parent may look because it owns the
  // namespace; without one it could not, and what it cannot measure it cannot trust.
  if (!lacks("not dumpable")) set("PR_SET_DUMPABLE", 0);
  dropCapabilities();
  set("PR_SET_NO_NEW_PRIVS", 1);
  const weakness = { allowed: setup.allowWeak, weak };
  let landlock = 0;
  if (!lacks("Landlock")) {
    unlessWeak("Landlock", weakness, () => {
      landlock = denyEverything(directoriesOf(grants));
    });
  }
  const syscalls = syscallsOf(policy);
  unlessWeak("system call filter", weakness, () =>
    filterSyscalls(policy, seccomp, () => limitDescriptors(grants)),
  );
  return { seccomp, syscalls, rules: policy.rules.length, fds, threads, wxPages, landlock, weak };
}
