// Other processes: the VMM, other devices, and new ones.

import { foundText, type Goal, goal, SECRET } from "../goal.js";
import { type Native, packed } from "../native.js";

const PTRACE_SEIZE = 0x4206;
const PTRACE_INTERRUPT = 0x4207;
const PTRACE_DETACH = 17;
const PTRACE_TRACEME = 0;
const AT_FDCWD = -100;
const __WALL = 0x4000_0000;
const SIGCHLD = 17;
const SI_QUEUE = -1;
/** CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM. */
const THREAD_FLAGS = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000;
const CLONE_FILES = 0x400;
const STACK_BYTES = 4096;
const PIDFD_THREAD_GROUP = 0;
const PR_SET_PDEATHSIG = 1;
const PR_SET_DUMPABLE = 4;
const PR_SET_PTRACER = 0x5961_6d61;
const RLIMIT_NOFILE = 7;
const RLIMIT_CORE = 4;

const nothing = { canary: "nothing" } as const;
/** Landlock alone stops it, too. */
const landlocked = { canary: "nothing", landlock: 1 } as const;
const scoped = { canary: "nothing", landlock: 6 } as const;
const noFilter = { canary: "no filter" } as const;

/** Iovecs for process_vm_readv(2): room here, the secret there. */
function vectors(native: Native, there: number): { at: number; here: Uint8Array; far: Uint8Array } {
  const at = native.room(SECRET.length);
  return { at, here: packed(8, at, SECRET.length), far: packed(8, there, SECRET.length) };
}

const MEMORY_OF_OTHERS: Goal[] = [
  goal("read the VMM's memory: process_vm_readv", landlocked, (native, context) => {
    const { at, here, far } = vectors(native, context.secretAddress);
    const result = native.call("process_vm_readv", context.vmmPid, here, 1, far, 1, 0);
    if (result < 0) return result;
    return foundText(new TextDecoder().decode(native.bytesAt(at, SECRET.length)), SECRET);
  }),
  goal("write the VMM's memory: process_vm_writev", landlocked, (native, context) => {
    const here = packed(8, native.place(new TextEncoder().encode(SECRET)), SECRET.length);
    const far = packed(8, context.secretAddress, SECRET.length);
    return native.call("process_vm_writev", context.vmmPid, here, 1, far, 1, 0);
  }),
  goal("read the VMM's memory: /proc/PID/mem", landlocked, (native, context) => {
    const fd = native.call("open", `/proc/${context.vmmPid}/mem`, 0);
    if (fd < 0) return fd;
    const at = native.room(SECRET.length);
    const result = native.call("pread64", fd, at, SECRET.length, context.secretAddress);
    if (result < 0) return result;
    return foundText(new TextDecoder().decode(native.bytesAt(at, SECRET.length)), SECRET);
  }),
  goal("trace the VMM: ptrace", landlocked, (native, { vmmPid }) => {
    const seized = native.call("ptrace", PTRACE_SEIZE, vmmPid, 0, 0);
    if (seized < 0) return seized;
    native.call("ptrace", PTRACE_INTERRUPT, vmmPid, 0, 0);
    native.call("wait4", vmmPid, 0, __WALL, 0);
    return native.call("ptrace", PTRACE_DETACH, vmmPid, 0, 0);
  }),
  goal("be traced by somebody else: ptrace", noFilter, (native) =>
    native.call("ptrace", PTRACE_TRACEME, 0, 0, 0),
  ),
  goal("take a descriptor of the VMM's: pidfd_getfd", landlocked, (native, { vmmPid }) => {
    const pidfd = native.call("pidfd_open", vmmPid, PIDFD_THREAD_GROUP);
    return pidfd < 0 ? pidfd : native.call("pidfd_getfd", pidfd, 0, 0);
  }),
  goal("compare its memory with the VMM's: kcmp", landlocked, (native, { vmmPid }) =>
    native.call("kcmp", process.pid, vmmPid, 1, 0, 0),
  ),
  goal("move the VMM's memory: move_pages", landlocked, (native, { vmmPid }) =>
    native.call("move_pages", vmmPid, 0, 0, 0, 0, 0),
  ),
];

const SIGNALS: Goal[] = [
  goal("signal the VMM: kill", scoped, (native, { vmmPid }) => native.call("kill", vmmPid, 0)),
  goal("signal the VMM: tgkill", scoped, (native, { vmmPid }) =>
    native.call("tgkill", vmmPid, vmmPid, 0),
  ),
  goal("signal the VMM: tkill", scoped, (native, { vmmPid }) => native.call("tkill", vmmPid, 0)),
  goal("signal the VMM: rt_sigqueueinfo", scoped, (native, { vmmPid }) => {
    const siginfo = packed(4, 0, 0, SI_QUEUE, ...new Array(29).fill(0));
    return native.call("rt_sigqueueinfo", vmmPid, 0, siginfo);
  }),
  goal("signal the VMM: pidfd_send_signal", scoped, (native, { vmmPid }) => {
    const pidfd = native.call("pidfd_open", vmmPid, PIDFD_THREAD_GROUP);
    return pidfd < 0 ? pidfd : native.call("pidfd_send_signal", pidfd, 0, 0, 0);
  }),
  goal("signal a sibling: kill", scoped, (native, { siblingPid }) =>
    native.call("kill", siblingPid, 0),
  ),
  goal("signal its process group: kill", noFilter, (native) => native.call("kill", 0, 0)),
  goal("signal everybody: kill", nothing, (native) => native.call("kill", -1, 0)),
  goal("signal itself: kill", noFilter, (native) => native.call("kill", process.pid, 0)),
];

/** A program that is there inside and outside; without its program it ends with EXECUTED_STATUS. */
const LOADER = "/lib64/ld-linux-x86-64.so.2";

function argumentsOf(native: Native): Uint8Array {
  const encoder = new TextEncoder();
  const pointers = [LOADER, "/nowhere"].map((text) => native.place(encoder.encode(`${text}\0`)));
  return packed(8, ...pointers, 0);
}

const NEW_PROCESSES: Goal[] = [
  goal("create a process: fork", nothing, (native) => {
    const pid = native.call("fork");
    if (pid === 0) native.call("exit_group", 0);
    return pid;
  }),
  goal(
    "create a process: vfork",
    { why: "its child would run on the stack of JavaScript", spared: ["no filter", "nothing"] },
    (native) => native.call("vfork"),
  ),
  goal("create a process: clone", nothing, (native) => {
    const pid = native.call("clone", SIGCHLD, 0, 0, 0, 0);
    if (pid === 0) native.call("exit_group", 0);
    return pid;
  }),
  goal("create a process: clone3", nothing, (native) => {
    const args = packed(8, 0, 0, 0, 0, SIGCHLD, 0, 0, 0);
    const pid = native.call("clone3", args, args.length);
    if (pid === 0) native.call("exit_group", 0);
    return pid;
  }),
  goal("create a thread: clone", nothing, (native) => {
    const stack = native.room(STACK_BYTES);
    const top = native.place(packed(8, native.threadCode));
    return stack === 0 ? 0 : native.call("clone", THREAD_FLAGS, top, 0, 0, 0);
  }),
  goal("execute a program: execve", landlocked, (native) => {
    return native.call("execve", LOADER, argumentsOf(native), packed(8, 0));
  }),
  goal("execute a program: execveat", landlocked, (native) => {
    return native.call("execveat", AT_FDCWD, LOADER, argumentsOf(native), packed(8, 0), 0);
  }),
  goal("have descriptors of its own: unshare", noFilter, (native) =>
    native.call("unshare", CLONE_FILES),
  ),
];

const ITSELF: Goal[] = [
  goal("live on when the VMM dies: prctl PR_SET_PDEATHSIG", noFilter, (native) =>
    native.call("prctl", PR_SET_PDEATHSIG, 0, 0, 0, 0),
  ),
  goal("become dumpable: prctl", noFilter, (native) =>
    native.call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0),
  ),
  goal("allow anyone to trace it: prctl", { why: "needs the Yama module" }, (native) =>
    native.call("prctl", PR_SET_PTRACER, -1, 0, 0, 0),
  ),
  goal("become root: setuid", nothing, (native) => native.call("setuid", 0)),
  goal("become root: setresuid", nothing, (native) => native.call("setresuid", 0, 0, 0)),
  goal("join a group: setgroups", nothing, (native) => native.call("setgroups", 0, 0)),
  goal("regain capabilities: capset", nothing, (native) => {
    const header = packed(4, 0x2008_0522, 0);
    const CAP_SYS_ADMIN = 1 << 21;
    return native.call("capset", header, packed(4, CAP_SYS_ADMIN, CAP_SYS_ADMIN, 0, 0, 0, 0));
  }),
  goal("raise the limit of descriptors: prlimit64", nothing, (native) =>
    native.call("prlimit64", 0, RLIMIT_NOFILE, packed(8, 4096, 4096), 0),
  ),
  goal("raise the limit of core dumps: prlimit64", nothing, (native) =>
    native.call("prlimit64", 0, RLIMIT_CORE, packed(8, 4096, 4096), 0),
  ),
  goal("take the processor from others: setpriority", nothing, (native) =>
    native.call("setpriority", 0, 0, -20),
  ),
  goal("take the processor from others: sched_setscheduler", nothing, (native) => {
    const SCHED_FIFO = 1;
    const result = native.call("sched_setscheduler", 0, SCHED_FIFO, packed(4, 1));
    native.call("sched_setscheduler", 0, 0, packed(4, 0));
    return result;
  }),
  goal("handle signals: rt_sigaction", noFilter, (native) =>
    native.call("rt_sigaction", 10, packed(8, native.threadCode, 0, 0, 0), 0, 8),
  ),
  goal("wait for the VMM's children: wait4", { why: "they are not its own: ECHILD" }, (native) =>
    native.call("wait4", -1, 0, 1, 0),
  ),
  goal("leave its process group: setsid", { why: "it leads one already: EPERM" }, (native) =>
    native.call("setsid"),
  ),
];

export const PROCESS_GOALS: readonly Goal[] = [
  ...MEMORY_OF_OTHERS,
  ...SIGNALS,
  ...NEW_PROCESSES,
  ...ITSELF,
];
