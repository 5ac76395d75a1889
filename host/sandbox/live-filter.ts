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

/**
 * Whether a filter lets the system call `nr` through with some arguments, from instruction `pc` on:
 * where an argument decides, both ways are tried.
 */
function mayAllow(program: DataView, nr: number, pc = 0): boolean {
  let value: number | undefined;
  for (let at = pc * SOCK_FILTER_BYTES; at < program.byteLength; at += SOCK_FILTER_BYTES) {
    const [code, k] = [program.getUint16(at, true), program.getUint32(at + 4, true)];
    if (code === BPF.BPF_RET_K) return k === SECCOMP_RET_ALLOW || k === SECCOMP_RET_LOG;
    if (code === BPF.BPF_LD_W_ABS) value = loaded(k, nr);
    else if (code === BPF.BPF_ALU_AND_K) value = value && (value & k) >>> 0;
    else if (code === BPF.BPF_JMP_JA) at += k * SOCK_FILTER_BYTES;
    else if (code === BPF.BPF_JMP_JEQ_K || code === BPF.BPF_JMP_JGE_K) {
      const [taken, missed] = [program.getUint8(at + 2), program.getUint8(at + 3)];
      const next = at / SOCK_FILTER_BYTES + 1;
      if (value === undefined && mayAllow(program, nr, next + taken)) return true;
      const holds = value !== undefined && (code === BPF.BPF_JMP_JEQ_K ? value === k : value >= k);
      at += (holds ? taken : missed) * SOCK_FILTER_BYTES;
    } else return true; // not one of our filters: assume the worst
  }
  return true;
}

/** Names of the system calls that all of `filters` may let through, by number. */
export function allowedBy(filters: readonly Uint8Array<ArrayBuffer>[]): string[] {
  const numbers = Array.from({ length: SYSCALLS_MAX }, (_, nr) => nr);
  const programs = filters.map((filter) => new DataView(filter.buffer));
  const allowed = numbers.filter((nr) => programs.every((program) => mayAllow(program, nr)));
  return allowed.map(syscallName);
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
