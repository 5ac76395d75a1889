// The filter of a running device as the kernel has it: what is enforced, not what was asked for.
// Only who may administer the whole system can read it (CAP_SYS_ADMIN), and only if no filter
// confines the reader.

import { readFileSync } from "node:fs";
import { syscall } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import {
  AUDIT_ARCH_X86_64,
  BPF,
  BPF_MAXINSNS,
  OFFSET_ARCH,
  OFFSET_NR,
  SECCOMP_RET_ALLOW,
  SECCOMP_RET_LOG,
  SOCK_FILTER_BYTES,
} from "./bpf.js";
import { CAPABILITY, PTRACE, WAIT } from "./linux.js";
import { syscallName, syscallNumber } from "./syscalls.js";

/** Filters of one process: its own, and those that containers put around the VMM. */
const FILTERS_MAX = 32;
/** System calls that x86-64 may come to have: numbers beyond are refused by any filter of ours. */
const SYSCALLS_MAX = 512;
/** struct siginfo (asm-generic/siginfo.h). */
const SIGINFO_BYTES = 128;

function isAdministrator(): boolean {
  const status = readFileSync("/proc/self/status", "latin1");
  const effective = BigInt(`0x${status.match(/^CapEff:\s+([0-9a-f]+)$/m)?.[1] ?? "0"}`);
  return ((effective >> BigInt(CAPABILITY.CAP_SYS_ADMIN)) & 1n) === 1n;
}

function ptrace(request: number, pid: number, rest: { address?: number; data?: number } = {}) {
  const { address = 0, data = 0 } = rest;
  return syscall(syscallNumber("ptrace"), request, pid, address, data, 0, 0);
}

/** Waits until `pid` has stopped, or ended: that is left for its parent to find. */
function waitForStop(pid: number): boolean {
  const siginfo = Mapping.anonymous(SIGINFO_BYTES);
  const { P_PID, WSTOPPED, WEXITED, WNOWAIT, __WALL, CLD_TRAPPED } = WAIT;
  const options = WSTOPPED | WEXITED | WNOWAIT | __WALL;
  const nr = syscallNumber("waitid");
  const result = syscall(nr, P_PID, pid, siginfo.address, options, 0, 0);
  const code = siginfo.view.getInt32(8, true);
  siginfo.close();
  return result === 0 && code === CLD_TRAPPED;
}

/** Copies the filters of a stopped process, the last installed first. */
function copyFilters(pid: number): Uint8Array<ArrayBuffer>[] | undefined {
  const buffer = Mapping.anonymous(BPF_MAXINSNS * SOCK_FILTER_BYTES);
  const filters: Uint8Array<ArrayBuffer>[] = [];
  for (let index = 0; index < FILTERS_MAX; index++) {
    const request = PTRACE.PTRACE_SECCOMP_GET_FILTER;
    const count = ptrace(request, pid, { address: index, data: buffer.address });
    if (count < 0) break;
    filters.push(new Uint8Array(buffer.view.buffer).slice(0, count * SOCK_FILTER_BYTES));
  }
  buffer.close();
  return filters.length === 0 ? undefined : filters;
}

/**
 * Reads the filters of a process, which stops for some 50 µs and then goes on with the system call
 * that it was in. All of it happens on the calling thread before this returns.
 *
 * @returns arrays of `struct sock_filter`, the last installed first; undefined where there is none,
 *   where this process may not read it, or where the kernel was built without CHECKPOINT_RESTORE
 */
export function liveFilters(pid: number): Uint8Array<ArrayBuffer>[] | undefined {
  if (!isAdministrator()) return undefined;
  if (ptrace(PTRACE.PTRACE_SEIZE, pid) !== 0) return undefined;
  ptrace(PTRACE.PTRACE_INTERRUPT, pid);
  if (!waitForStop(pid)) return undefined;
  try {
    return copyFilters(pid);
  } finally {
    ptrace(PTRACE.PTRACE_DETACH, pid);
  }
}

/** What a load at `offset` of struct seccomp_data gives: undefined for the arguments. */
function loaded(offset: number, nr: number): number | undefined {
  if (offset === OFFSET_NR) return nr;
  return offset === OFFSET_ARCH ? AUDIT_ARCH_X86_64 : undefined;
}

/** struct sock_filter (linux/filter.h): opcode, where to go on if it holds and if not, operand. */
interface Instruction {
  code: number;
  jt: number;
  jf: number;
  k: number;
}

function decode(filter: Uint8Array<ArrayBuffer>): Instruction[] {
  const view = new DataView(filter.buffer, filter.byteOffset, filter.byteLength);
  return Array.from({ length: filter.length / SOCK_FILTER_BYTES }, (_, index) => {
    const at = index * SOCK_FILTER_BYTES;
    const [code, k] = [view.getUint16(at, true), view.getUint32(at + 4, true)];
    return { code, jt: view.getUint8(at + 2), jf: view.getUint8(at + 3), k };
  });
}

/**
 * Whether a filter lets the system call `nr` through with some arguments, from instruction `pc` on:
 * where an argument decides, both ways are tried.
 */
function mayAllow(program: readonly Instruction[], nr: number, pc = 0): boolean {
  let value: number | undefined;
  for (let at = pc; at < program.length; at++) {
    const { code, jt, jf, k } = program[at]!;
    if (code === BPF.BPF_RET_K) return k === SECCOMP_RET_ALLOW || k === SECCOMP_RET_LOG;
    if (code === BPF.BPF_LD_W_ABS) value = loaded(k, nr);
    else if (code === BPF.BPF_ALU_AND_K && value === undefined) continue;
    else if (code === BPF.BPF_JMP_JA) at += k;
    else if (code === BPF.BPF_JMP_JEQ_K || code === BPF.BPF_JMP_JGE_K) {
      if (value === undefined && mayAllow(program, nr, at + 1 + jt)) return true;
      const holds = value !== undefined && (code === BPF.BPF_JMP_JEQ_K ? value === k : value >= k);
      at += holds ? jt : jf;
    } else return true; // not one of our filters: assume the worst
  }
  return true;
}

const NUMBERS: readonly number[] = Array.from({ length: SYSCALLS_MAX }, (_, nr) => nr);

/**
 * The numbers at which the way through a filter may become another one: it does nothing with a
 * number but compare it, so all between two of these take the same way.
 */
function turns(program: readonly Instruction[]): number[] {
  const compared = program.filter(
    ({ code }) => code === BPF.BPF_JMP_JEQ_K || code === BPF.BPF_JMP_JGE_K,
  );
  return [0, ...compared.flatMap(({ k }) => [k, k + 1])];
}

/** Numbers of the system calls that one filter may let through. */
function numbersAllowedBy(filter: Uint8Array<ArrayBuffer>): readonly number[] {
  const program = decode(filter);
  const isTurn = new Set(turns(program));
  let allowed = true;
  return NUMBERS.filter((nr) => {
    if (isTurn.has(nr)) allowed = mayAllow(program, nr);
    return allowed;
  });
}

/** What was found out of filters by foresee(), by their bytes. */
const foreseen = new Map<string, readonly number[]>();

function keyOf(filter: Uint8Array<ArrayBuffer>): string {
  return Buffer.from(filter).toString("latin1");
}

/**
 * Finds out beforehand what a filter lets through that a device is about to have: it takes some
 * milliseconds, for which the guest would wait. It is of no use where none can be read back.
 */
export function foresee(filter: Uint8Array<ArrayBuffer>): void {
  const key = keyOf(filter);
  if (foreseen.has(key) || !isAdministrator()) return;
  foreseen.set(key, numbersAllowedBy(filter));
}

/** Names of the system calls that all of `filters` may let through, by number. */
export function allowedBy(filters: readonly Uint8Array<ArrayBuffer>[]): string[] {
  const each = filters.map((filter) => foreseen.get(keyOf(filter)) ?? numbersAllowedBy(filter));
  return NUMBERS.filter((nr) => each.every((allowed) => allowed.includes(nr))).map(syscallName);
}

/**
 * The system calls that the kernel lets a process make, whatever anybody says it should.
 *
 * @returns their names, by number; undefined where the filter cannot be read (liveFilters)
 */
export function liveSyscalls(pid: number): string[] | undefined {
  const filters = liveFilters(pid);
  return filters && allowedBy(filters);
}
