// Arguments for the rules of a policy, made from the rules themselves: such that each rule holds,
// and such that it just does not.

import type { ArgTest, Policy, Rule } from "../../../host/sandbox/policy.js";
import { type Native, packed } from "./native.js";

type Arguments = readonly bigint[];

const ARGUMENTS = 6;
const PAGE_BYTES = 4096;
const RW = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MSG_DONTWAIT = 0x40;
const FUTEX_BITSET_MATCH_ANY = 0xffff_ffff;
const BYTES = 16;
/** Of as many `struct pollfd` as a device may have descriptors. */
const POLLFDS_BYTES = 128;
const STAT_BYTES = 256;
const SIGUSR1 = 10;

function msghdr(native: Native): number {
  const iovec = native.place(packed(8, native.room(BYTES), BYTES));
  return native.place(packed(8, 0, 0, iovec, 1, 0, 0, 0));
}

/** A page of the process's own. */
function page(native: Native): number {
  return native.call("mmap", 0, PAGE_BYTES, RW, MAP_PRIVATE_ANONYMOUS, -1, 0);
}

/** For each system call arguments with which it succeeds, but for those that rules test. */
const USUAL: Readonly<Record<string, (native: Native) => (number | bigint)[]>> = {
  recvmsg: (native) => [0, msghdr(native), MSG_DONTWAIT],
  sendmsg: (native) => [0, msghdr(native), MSG_DONTWAIT],
  read: (native) => [0, native.room(BYTES), BYTES],
  write: (native) => [0, native.room(BYTES), BYTES],
  pread64: (native) => [0, native.room(BYTES), BYTES, 0],
  pwrite64: (native) => [0, native.room(BYTES), BYTES, 0],
  fdatasync: () => [0],
  accept4: () => [0],
  openat: (native) => [0, native.place(packed(8, 0x78)), 0, 0], // "x"
  unlinkat: (native) => [0, native.place(packed(8, 0x78))],
  getdents64: (native) => [0, native.room(BYTES), BYTES],
  ftruncate: () => [0, 0],
  mmap: () => [0, PAGE_BYTES, 0, 0, -1, 0],
  mprotect: (native) => [page(native), PAGE_BYTES, 0],
  munmap: (native) => [page(native), PAGE_BYTES],
  madvise: (native) => [page(native), PAGE_BYTES, 0],
  brk: () => [0],
  // The word is not what the caller says it was: nobody sleeps.
  futex: (native) => [native.place(packed(4, 1)), 0, 2, 0, 0, FUTEX_BITSET_MATCH_ANY],
  clock_gettime: (native) => [0, native.room(BYTES)],
  getpid: () => [],
  exit_group: () => [0],
  ppoll: (native) => [native.room(POLLFDS_BYTES), 0, native.place(packed(8, 0, 0))],
  // The VMM's: with a descriptor that does not exist where it matters, so that nothing happens.
  ioctl: (native) => [-1, 0, native.room(BYTES)],
  fcntl: () => [-1],
  close: () => [-1],
  shutdown: () => [-1],
  fsync: () => [-1],
  fstat: (native) => [0, native.room(STAT_BYTES)],
  newfstatat: (native) => [0, native.place(packed(8, 0)), native.room(STAT_BYTES)],
  lseek: () => [0],
  setsockopt: (native) => [-1, 0, 0, native.room(BYTES), 4],
  getsockopt: (native) => [-1, 0, 0, native.room(BYTES), native.place(packed(4, 4))],
  epoll_ctl: (native) => [-1, 1, 0, native.room(BYTES)],
  epoll_wait: (native) => [-1, native.room(BYTES), 1],
  epoll_pwait: (native) => [-1, native.room(BYTES), 1],
  poll: () => [0],
  recvfrom: (native) => [-1, native.room(BYTES), BYTES, MSG_DONTWAIT],
  writev: (native) => [-1, native.place(packed(8, native.room(BYTES), BYTES)), 1],
  mremap: (native) => [page(native), PAGE_BYTES, PAGE_BYTES],
  wait4: () => [-1],
  tgkill: (native) => [0, native.call("gettid")],
  kill: () => [0],
  pidfd_send_signal: () => [-1],
  rt_sigprocmask: () => [0, 0, 0, 8],
  rt_sigaction: () => [SIGUSR1, 0, 0, 8],
  restart_syscall: () => [],
  sched_yield: () => [],
  gettid: () => [],
  pkey_mprotect: (native) => [page(native), PAGE_BYTES, RW, -1],
  gettimeofday: (native) => [native.room(BYTES)],
};

/**
 * What the kernel says to a call that was allowed and made, but had nothing to do, or not with what
 * is open at that number just now: EAGAIN, EBADF, ENOENT, ENOTDIR, EISDIR, EINVAL. A filter says
 * none of these.
 */
export const HARMLESS = [-11, -9, -2, -20, -21, -22];

/** System calls of a policy that USUAL has no arguments for. */
export function unknownOf({ rules }: Policy): string[] {
  return rules.map(({ syscall }) => syscall).filter((name) => !Object.hasOwn(USUAL, name));
}

function usual(native: Native, { syscall }: Rule): Arguments {
  const args = USUAL[syscall]!(native).map((arg) => BigInt.asUintN(64, BigInt(arg)));
  return [...args, ...new Array<bigint>(ARGUMENTS - args.length).fill(0n)];
}

function withTest(args: Arguments, { arg, mask }: ArgTest, value: bigint): Arguments {
  return args.with(arg, (args[arg]! & ~mask) | value);
}

export function holds({ args: tests }: Rule, args: Arguments): boolean {
  return tests.every(({ arg, mask, values }) => values.includes(args[arg]! & mask));
}

/** Arguments that satisfy a rule: each value of each of its tests is among them once. */
export function allowedArguments(native: Native, rule: Rule): Arguments[] {
  const base = rule.args.reduce(
    (args, test) => withTest(args, test, test.values[0]!),
    usual(native, rule),
  );
  const others = rule.args.flatMap((test) =>
    test.values.slice(1).map((value) => withTest(base, test, value)),
  );
  return [base, ...others];
}

/** Arguments that differ from allowed ones in one bit that a test looks at, and satisfy no rule. */
export function nearMisses(native: Native, rule: Rule, { rules }: Policy): Arguments[] {
  const same = rules.filter(({ nr }) => nr === rule.nr);
  const misses: Arguments[] = [];
  for (const args of allowedArguments(native, rule)) {
    for (const { arg, mask } of rule.args) {
      for (let bit = 1n; bit < 2n ** 64n; bit <<= 1n) {
        if ((mask & bit) === 0n) continue;
        const missed = args.with(arg, args[arg]! ^ bit);
        if (!same.some((each) => holds(each, missed))) misses.push(missed);
      }
    }
  }
  return misses;
}
