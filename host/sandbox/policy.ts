// The system calls that a device process may make, as data: one rule a line, each with its reason.
// What is not listed here kills the process.

import { VmmError } from "../errors.js";
import {
  MAP_ANONYMOUS,
  MAP_NORESERVE,
  MAP_PRIVATE,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from "../ffi/memory.js";
import { GRANT_FD_FIRST, openedFds, SOCKET_FD } from "./descriptors.js";
import {
  awaitableFds,
  callsOf,
  fdsOf,
  type GrantedCall,
  type GrantedFd,
  maySleep,
  openableCount,
  placeGrants,
  type ResolvedGrant,
  WASI_MODULE,
} from "./grants.js";
import type { ModuleFacts } from "./manifest.js";
import type { ImportedFunction } from "./sections.js";
import { syscallNumber } from "./syscalls.js";

/** A rule holds if every test does: `(argument & mask)` is one of `values`. */
export interface ArgTest {
  /** 0 … 5 */
  arg: number;
  /** 64 bits; all ones compares the whole argument. */
  mask: bigint;
  values: bigint[];
}

export interface Rule {
  syscall: string;
  nr: number;
  args: ArgTest[];
  reason: string;
}

/** Several rules of one system call are alternatives. */
export interface Policy {
  rules: Rule[];
}

export interface PolicyInput {
  /** The device's end of the socket to the VMM. */
  socketFd: number;
  grants: readonly GrantedFd[];
  /** What the module imports: a function that it does not import needs no system call. */
  imports: readonly ImportedFunction[];
}

/** System calls of one device: a tenth of what a program uses, and what a reviewer can take in. */
export const SYSCALLS_MAX = 20;

const ALL_BITS = 0xffff_ffff_ffff_ffffn;
/** The kernel reads an `int` argument from the lower half of the register and ignores the rest. */
const INT_BITS = 0xffff_ffffn;

/** The `int` argument is `value`. */
export function is(arg: number, value: number): ArgTest {
  return oneOf(arg, [value]);
}

/** The bits of `mask` in the argument are exactly those of `value`. */
export function masked(arg: number, mask: bigint, value: number): ArgTest {
  return { arg, mask, values: [BigInt(value)] };
}

/** The `int` argument is one of `values`. */
export function oneOf(arg: number, values: readonly number[]): ArgTest {
  return { arg, mask: INT_BITS, values: values.map((value) => BigInt.asUintN(32, BigInt(value))) };
}

/** All 64 bits of the argument are those of one of `values`. */
export function exactly(arg: number, values: readonly number[]): ArgTest {
  return { arg, mask: ALL_BITS, values: values.map(BigInt) };
}

/** The argument is this descriptor. */
export function fd(arg: number, value: number): ArgTest {
  return is(arg, value);
}

/** One rule; `reason` says who needs the call, for `bulkhead policy` and for the reviewer. */
export function allow(syscall: string, reason: string, ...args: ArgTest[]): Rule {
  return { syscall, nr: syscallNumber(syscall), args, reason };
}

/**
 * madvise(2): hand pages back to the kernel, and keep reserved ones from a fork that never comes.
 */
const MADV_DONTNEED = 4;
const MADV_FREE = 8;
const MADV_DONTFORK = 10;
/** futex(2), each with FUTEX_PRIVATE_FLAG; the wait also with FUTEX_CLOCK_REALTIME. */
const FUTEX_WAKE_PRIVATE = 129;
const FUTEX_WAIT_BITSET_PRIVATE_REALTIME = 393;

/** clock_gettime(2) */
const CLOCK_REALTIME = 0;
const CLOCK_MONOTONIC = 1;

function memoryRules(): Rule[] {
  // Nothing executable, and nothing that can only be read: reading all of it would cost the kernel
  // page tables that no limit counts.
  const usableOrNot = exactly(2, [PROT_NONE, PROT_READ | PROT_WRITE]);
  const privately = ~BigInt(MAP_NORESERVE) & ALL_BITS;
  const anonymous = masked(3, privately, MAP_PRIVATE | MAP_ANONYMOUS);
  return [
    allow("mmap", "V8 heap and malloc grow; never from a file", usableOrNot, anonymous),
    allow("mprotect", "V8 makes reserved heap usable and back; never executable", usableOrNot),
    allow("munmap", "V8 heap and malloc shrink"),
    allow("madvise", "V8 and malloc hand pages back", oneOf(2, [MADV_DONTNEED, MADV_FREE])),
    allow("madvise", "V8 does this to all address space that it reserves", is(2, MADV_DONTFORK)),
    allow("brk", "malloc's heap grows and shrinks"),
  ];
}

/** One rule of a grant: the descriptor is one of `fds`, and the rest is what the table says. */
export function grantedRule(call: GrantedCall, name: string, fds: readonly number[]): Rule {
  const rest = Object.entries(call.exactly ?? {}).map(([arg, value]) =>
    exactly(Number(arg), [value]),
  );
  const bits = Object.entries(call.masked ?? {}).map(([arg, { must, may }]) =>
    masked(Number(arg), ~BigInt(may) & ALL_BITS, must),
  );
  const on = call.isWhole === true ? exactly(0, fds) : oneOf(0, fds);
  return allow(call.syscall, `${name}: ${call.reason}`, on, ...rest, ...bits);
}

/** Rules of what is accepted or opened: of which of several grants one came, nobody knows. */
function openedRules(grants: readonly GrantedFd[], imported: ReadonlySet<string>): Rule[] {
  const fds = openedFds(fdsOf(grants).length, openableCount(grants));
  const calls = grants.flatMap((grant) => callsOf(grant, imported));
  const onOpened = new Set(calls.filter((call) => call.onOpened === true));
  const rules = [...onOpened].map((call) => grantedRule(call, "opened", fds));
  return rules.filter((rule, i) => rules.findIndex(({ nr }) => nr === rule.nr) === i);
}

/**
 * Only for a device that may wait for more than messages. The descriptors are in memory, where no
 * filter looks: whoever took the process over learns whether its own few are ready.
 */
function sleepRules(grants: readonly GrantedFd[]): Rule[] {
  if (!maySleep(grants)) return [];
  const counts = [0, ...awaitableFds(grants)].map((_, index) => index + 1);
  const what = "sleeps until a request comes, or what else it waits for: a grant, or a time";
  return [allow("ppoll", what, oneOf(1, counts), exactly(3, [0]))];
}

/** The policy of one device process. */
export function policyOf({ socketFd, grants, imports }: PolicyInput): Policy {
  const wasi = imports.filter(({ module }) => module === WASI_MODULE);
  const imported = new Set(wasi.map(({ name }) => name));
  const granted = grants.flatMap((grant) =>
    callsOf(grant, imported)
      .filter(({ onOpened = false }) => !onOpened)
      .map((call) => grantedRule(call, grant.name, [grant.fd])),
  );
  return {
    rules: [
      allow("recvmsg", "requests come from the VMM", fd(0, socketFd)),
      ...sleepRules(grants),
      ...granted,
      ...openedRules(grants, imported),
      allow("sendmsg", "replies go to the VMM", fd(0, socketFd)),
      ...memoryRules(),
      allow("futex", "V8 and Node wake threads that are gone", is(1, FUTEX_WAKE_PRIVATE)),
      allow(
        "futex",
        "Node's parked thread goes back to sleep after the process was stopped and continued",
        is(1, FUTEX_WAIT_BITSET_PRIVATE_REALTIME),
      ),
      allow(
        "clock_gettime",
        "V8 times its garbage collections, where the vDSO cannot read the clock source",
        oneOf(0, [CLOCK_REALTIME, CLOCK_MONOTONIC]),
      ),
      allow("getpid", "V8 notes its process with each garbage collection"),
      allow("exit_group", "the device ends"),
    ],
  };
}

/**
 * The policy that a device process with these grants will have.
 *
 * @throws VmmError ERR_MODULE for a module that would need more than SYSCALLS_MAX system calls
 */
export function policyOfDevice(
  { imports }: Pick<ModuleFacts, "imports">,
  resolved: readonly ResolvedGrant[],
): Policy {
  const grants = placeGrants(resolved, GRANT_FD_FIRST);
  const policy = policyOf({ socketFd: SOCKET_FD, grants, imports });
  const count = syscallsOf(policy).length;
  if (count <= SYSCALLS_MAX) return policy;
  const message = `Cannot use this module: its process would need ${count} system calls`;
  const hint = "make two devices of it, or import fewer functions";
  throw new VmmError("ERR_MODULE", `${message}, ${SYSCALLS_MAX} is the most: ${hint}`);
}

/** The distinct system calls of a policy, in the order of its rules. */
export function syscallsOf({ rules }: Policy): string[] {
  return [...new Set(rules.map((rule) => rule.syscall))];
}
