// The system calls that the VMM itself may make once a guest runs, as data: one rule a line, each
// with its reason. Whoever took it over, through KVM, a queue or a reply, could still do what a VMM
// does (run this guest, read and write what is open, end its own devices) and no more: not open or
// create a file, not start a process or a thread, not reach another process or the network.

import { MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE } from "../ffi/memory.js";
import { SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND } from "./denial.js";
import { kindRow } from "./grant-kinds.js";
import { callsOf, type GrantedFd, NO_FD, WASI_MODULE } from "./grants.js";
import { FCNTL, IOCTL, SIGNAL, WAIT } from "./linux.js";
import {
  allow,
  exactly,
  fd,
  grantedRule,
  is,
  masked,
  oneOf,
  type Policy,
  type Rule,
} from "./policy.js";
import type { ImportedFunction } from "./sections.js";
import { SO_PEERCRED, SOCK_CLOEXEC, SOCK_NONBLOCK } from "./unix-socket.js";

/** sys/socket.h, asm-generic/socket.h */
const SHUT_WR = 1;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;

/** A device that runs inside the VMM: what it may do is added to what the VMM does. */
export interface InlineDevice {
  id: string;
  grants: readonly GrantedFd[];
  imports: readonly ImportedFunction[];
}

export interface VmmPolicyInput {
  /** Of the VMM itself. */
  pid: number;
  /** ioctl(2) numbers of KVM that are used while a guest runs, the most frequent first. */
  kvmRequests: readonly number[];
  /** Those for interrupts and notifications of PCI functions, if there are any. */
  pciRequests: readonly number[];
  inline: readonly InlineDevice[];
  /** The listening control socket, if there is one. */
  controlFd: number | undefined;
}

/** All 64 bits of flags but these. */
function except(flags: number): bigint {
  return ~BigInt(flags) & 0xffff_ffff_ffff_ffffn;
}

function pciRules(requests: readonly number[]): Rule[] {
  if (requests.length === 0) return [];
  const reason = "PCI functions interrupt the guest, which moves their notifications";
  return [allow("ioctl", reason, oneOf(1, requests))];
}

function guestRules(kvmRequests: readonly number[]): Rule[] {
  return [
    allow(
      "ioctl",
      "a vCPU runs, is told that it was halted, and its registers are read",
      oneOf(1, kvmRequests),
    ),
    allow("epoll_wait", "the I/O worker waits for kicks, replies and accesses"),
    allow("sendmsg", "requests go to devices"),
    allow("recvmsg", "replies come from devices, and sockets of new ones from the warden"),
    allow("recvfrom", "does a new device send its filter's listener first?"),
    allow("write", "the guest's serial output, events, eventfds and the warden's messages"),
    allow("writev", "several messages to the warden at once"),
    allow("read", "serial input, eventfds, what devices say on stderr, the warden's messages"),
    allow("poll", "a vCPU waits for whoever reads the serial output slowly"),
    allow("ioctl", "has a device read everything?", is(1, IOCTL.SIOCOUTQ)),
    allow(
      "ioctl",
      "a device was denied a system call: which one, and shall it be let through?",
      oneOf(1, [SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND]),
    ),
  ];
}

function memoryRules(): Rule[] {
  const anonymous = masked(3, except(MAP_FIXED | MAP_NORESERVE), MAP_PRIVATE | MAP_ANONYMOUS);
  return [
    allow("mmap", "V8's heap and code, malloc; never from a file", anonymous),
    allow("mprotect", "V8 writes code, then makes it executable"),
    allow("pkey_mprotect", "V8 does the same, on a processor that has protection keys"),
    allow("munmap", "V8's heap, malloc and guest RAM are given back"),
    allow("madvise", "V8 and malloc hand pages back"),
    allow("mremap", "malloc makes a large block larger"),
    allow("brk", "malloc's heap grows and shrinks"),
  ];
}

function threadRules(pid: number): Rule[] {
  const { SIGUSR2, SIGABRT, SIGSEGV, SIGSTOP, SIGKILL } = SIGNAL;
  return [
    allow("futex", "threads wait for each other"),
    allow("epoll_pwait", "Node's event loop waits"),
    allow("epoll_ctl", "a device's socket is watched, or no longer"),
    allow(
      "tgkill",
      "a vCPU is kicked out of KVM_RUN; abort(3); Node ends by the fault that it had",
      is(0, pid),
      oneOf(2, [SIGUSR2, SIGABRT, SIGSEGV]),
    ),
    allow("kill", "stop after Ctrl-Z, with the terminal put back", is(0, pid), is(1, SIGSTOP)),
    allow("pidfd_send_signal", "ends a device that it started, or the warden", is(1, SIGKILL)),
    allow("wait4", "a device that it started has ended", is(2, WAIT.WNOHANG)),
    allow("rt_sigreturn", "a signal was handled"),
    allow("rt_sigprocmask", "Node holds signals back while it ends"),
    allow("rt_sigaction", "a signal is no longer handled"),
    allow("restart_syscall", "a timed wait goes on after the process was stopped and continued"),
    allow("sched_yield", "V8's threads, and the I/O worker that looks, wait for a short time"),
    allow("clock_gettime", "clocks, and the processor time of devices"),
    allow("gettimeofday", "the time of day, where the vDSO cannot read the clock source"),
    allow("getpid", "V8 notes its process with each garbage collection"),
    allow("gettid", "abort(3)"),
    allow("exit", "a thread ends"),
    allow("exit_group", "the VMM ends"),
  ];
}

function descriptorRules(): Rule[] {
  const { TCGETS, TCSETS, TCSETSW, TIOCGWINSZ, TIOCSWINSZ } = IOCTL;
  const sendBuffer = [is(1, SOL_SOCKET), is(2, SO_SNDBUF)];
  const flags = oneOf(1, [FCNTL.F_GETFL, FCNTL.F_SETFL]);
  return [
    allow("close", "descriptors are given back"),
    allow("setsockopt", "room for messages in the socket of a new device", ...sendBuffer),
    allow("getsockopt", "is there enough of it?", ...sendBuffer),
    allow("shutdown", "all is said to a client of the control socket", is(1, SHUT_WR)),
    allow("fsync", "Node ends: what was said is written", oneOf(0, [1, 2])),
    allow("fstat", "are stdin, stdout and stderr what they were, when Node ends?"),
    allow("newfstatat", "fstat(3) of a C library that knows no better", is(3, FCNTL.AT_EMPTY_PATH)),
    allow("fcntl", "Node leaves them as blocking as they were", flags),
    allow(
      "ioctl",
      "mode and size of the terminal, and of the one that a console has in its place",
      oneOf(1, [TCGETS, TCSETS, TCSETSW, TIOCGWINSZ, TIOCSWINSZ]),
    ),
  ];
}

/** Which descriptor is asked about is in memory, where no filter looks. */
function otherEndRules(name: string, { kind }: GrantedFd): Rule[] {
  if (kindRow(kind).isAwaitable !== true) return [];
  return [allow("ppoll", `${name}: is somebody at its other end?`, is(1, 1), exactly(3, [0]))];
}

function controlRules(listener: number | undefined): Rule[] {
  if (listener === undefined) return [];
  const nobody = exactly(1, [0]); // where the address of the peer would go, which has none
  return [
    allow(
      "accept4",
      "a client of the control socket connects",
      fd(0, listener),
      nobody,
      exactly(2, [0]),
      is(3, SOCK_NONBLOCK | SOCK_CLOEXEC),
    ),
    allow("getsockopt", "as which user?", is(1, SOL_SOCKET), is(2, SO_PEERCRED)),
  ];
}

function inlineRules({ id, grants, imports }: InlineDevice): Rule[] {
  const wasi = imports.filter(({ module }) => module === WASI_MODULE);
  const imported = new Set(wasi.map(({ name }) => name));
  return grants.flatMap((grant) => {
    if (grant.fd === NO_FD) return [];
    const name = `${id}.${grant.name}`;
    return [
      allow("lseek", `${name}: its next instance begins at the start`, fd(0, grant.fd)),
      ...otherEndRules(name, grant),
      // What a connection needs, whose descriptor nobody can know, the VMM does anyway.
      ...callsOf(grant, imported)
        .filter(({ onOpened = false }) => !onOpened)
        .map((call) => grantedRule(call, name, [grant.fd])),
    ];
  });
}

/** The policy of the VMM while a guest runs. */
export function vmmPolicyOf(input: VmmPolicyInput): Policy {
  const { pid, kvmRequests, pciRequests, inline, controlFd } = input;
  const rules = [
    ...guestRules(kvmRequests),
    ...pciRules(pciRequests),
    ...memoryRules(),
    ...threadRules(pid),
    ...descriptorRules(),
    ...controlRules(controlFd),
  ];
  const open = new Set(rules.filter(({ args }) => args.length === 0).map(({ syscall }) => syscall));
  const added = inline.flatMap(inlineRules).filter(({ syscall }) => !open.has(syscall));
  return { rules: [...rules, ...added] };
}
