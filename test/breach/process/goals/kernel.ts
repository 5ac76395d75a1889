// The kernel itself, its namespaces, and what it keeps for everyone. Where an attempt could succeed
// in a canary, its arguments are such that the machine comes to no harm.

import { found, type Goal, goal, permitted } from "../goal.js";
import { packed } from "../native.js";

const CLONE_NEWNET = 0x4000_0000;
const CLONE_NEWUSER = 0x1000_0000;
const SYSLOG_ACTION_READ_ALL = 3;
const KEYCTL_GET_KEYRING_ID = 0;
const KEY_SPEC_SESSION_KEYRING = -3;
const KEY_SPEC_PROCESS_KEYRING = -2;
const TIOCSTI = 0x5412;
const FIONREAD = 0x541b;
const BPF_MAP_CREATE = 0;
const PERF_ATTR_BYTES = 128;
const LOG_BYTES = 4096;

const noFilter = { canary: "no filter" } as const;
const nothing = { canary: "nothing" } as const;
/** Landlock alone stops it, too. */
const landlocked = { canary: "nothing", landlock: 1 } as const;

const NAMESPACES: Goal[] = [
  goal("enter the host's network: setns", landlocked, (native, { vmmPid }) => {
    const fd = native.call("open", `/proc/${vmmPid}/ns/net`, 0);
    return fd < 0 ? fd : native.call("setns", fd, CLONE_NEWNET);
  }),
  goal("enter the VMM's namespaces: setns with a pidfd", nothing, (native, { vmmPid }) => {
    const pidfd = native.call("pidfd_open", vmmPid, 0);
    return pidfd < 0 ? pidfd : native.call("setns", pidfd, CLONE_NEWNET);
  }),
  goal("create a network namespace: unshare", nothing, (native) =>
    native.call("unshare", CLONE_NEWNET),
  ),
  goal("create a user namespace: unshare", { why: "it has threads: EINVAL" }, (native) =>
    native.call("unshare", CLONE_NEWUSER),
  ),
  goal("leave its root: chroot", nothing, (native) => native.call("chroot", "/")),
  goal("leave its root: pivot_root", nothing, (native) =>
    permitted(native.call("pivot_root", "/nowhere", "/nowhere"), "ENOENT"),
  ),
  goal("mount a file system: mount", landlocked, (native, { directory }) =>
    permitted(native.call("mount", "none", directory, "no such type", 0, 0), "ENODEV"),
  ),
  goal("mount a file system: fsopen", nothing, (native) => native.call("fsopen", "tmpfs", 0)),
  goal("mount a file system: open_tree", nothing, (native) =>
    native.call("open_tree", -100, "/", 1),
  ),
  goal("unmount its root: umount2", nothing, (native, { directory }) =>
    permitted(native.call("umount2", directory, 0), "EINVAL"),
  ),
];

const MACHINE: Goal[] = [
  goal("load a kernel module: init_module", { why: "a kernel may have none" }, (native) =>
    permitted(native.call("init_module", native.room(16), 16, ""), "ENOEXEC"),
  ),
  goal("load a kernel module: finit_module", { why: "a kernel may have none" }, (native) =>
    permitted(native.call("finit_module", 5, "", 0), "ENOEXEC"),
  ),
  goal("reboot", nothing, (native) => permitted(native.call("reboot", 0, 0, 0, 0), "EINVAL")),
  goal("boot another kernel: kexec_load", { why: "a kernel may have none" }, (native) =>
    native.call("kexec_load", 0, 17, 0, 0),
  ),
  goal("set the time: settimeofday", nothing, (native) => native.call("settimeofday", 0, 0)),
  goal("set the host name", nothing, (native) =>
    permitted(native.call("sethostname", "x", 65), "EINVAL"),
  ),
  goal("read the kernel's log: syslog", nothing, (native) =>
    native.call("syslog", SYSLOG_ACTION_READ_ALL, native.room(LOG_BYTES), LOG_BYTES),
  ),
  goal("read the kernel's log: /dev/kmsg", landlocked, (native) =>
    native.call("open", "/dev/kmsg", 0),
  ),
  goal("open KVM", landlocked, (native) => native.call("open", "/dev/kvm", 2)),
  goal("reach I/O ports: iopl", { why: "a kernel may have none" }, (native) =>
    native.call("iopl", 3),
  ),
  goal("use swap: swapoff", nothing, (native) =>
    permitted(native.call("swapoff", "/nowhere"), "ENOENT"),
  ),
  goal("account processes: acct", nothing, (native) =>
    permitted(native.call("acct", "/nowhere"), "ENOENT"),
  ),
];

const SERVICES: Goal[] = [
  goal("use io_uring: io_uring_setup", { why: "a sysctl may deny it" }, (native) =>
    native.call("io_uring_setup", 1, native.room(256)),
  ),
  goal("use bpf", nothing, (native) => {
    const attributes = packed(4, 2, 4, 4, 1, ...new Array(28).fill(0));
    return native.call("bpf", BPF_MAP_CREATE, attributes, attributes.length);
  }),
  goal("count events: perf_event_open", { why: "a machine may have no counters" }, (native) => {
    const attributes = new Uint8Array(PERF_ATTR_BYTES);
    new DataView(attributes.buffer).setUint32(0, 1, true);
    new DataView(attributes.buffer).setUint32(4, PERF_ATTR_BYTES, true);
    return native.call("perf_event_open", attributes, 0, -1, -1, 0);
  }),
  goal("use keyrings: keyctl", noFilter, (native) =>
    native.call("keyctl", KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1),
  ),
  goal("look for the VMM's keys: keyctl", noFilter, (native) =>
    native.call("keyctl", KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1),
  ),
  goal("keep a key in the kernel: add_key", noFilter, (native) =>
    native.call("add_key", "user", "name", "x", 1, KEY_SPEC_PROCESS_KEYRING),
  ),
  goal("watch all files: fanotify_init", nothing, (native) => native.call("fanotify_init", 4, 0)),
  goal("share memory with others: shmget", noFilter, (native) => {
    const id = native.call("shmget", 0, 4096, 0o700);
    native.call("shmctl", id, 0, 0);
    return id;
  }),
  goal("share messages with others: msgget", noFilter, (native) => {
    const id = native.call("msgget", 0, 0o700);
    native.call("msgctl", id, 0, 0);
    return id;
  }),
  goal("set a timer: timer_create", { why: "RLIMIT_SIGPENDING is 0: EAGAIN" }, (native) =>
    native.call("timer_create", 0, 0, native.room(8)),
  ),
  goal("create a pipe: pipe2", nothing, (native) => native.call("pipe2", native.room(8), 0)),
  goal("create an eventfd", noFilter, (native) => native.call("eventfd2", 0, 0)),
];

const TERMINAL: Goal[] = [0, 2, 3].map((fd) =>
  goal(
    `type into the VMM's terminal: TIOCSTI on descriptor ${fd}`,
    { why: "no descriptor of it is a terminal: ENOTTY" },
    (native) => native.call("ioctl", fd, TIOCSTI, "x"),
  ),
);

const IOCTLS: Goal[] = [
  goal("use ioctl at all", noFilter, (native) =>
    found(native.call("ioctl", 3, FIONREAD, native.room(8))),
  ),
  goal("open the controlling terminal", { why: "a test has none: ENXIO" }, (native) =>
    native.call("open", "/dev/tty", 2),
  ),
];

export const KERNEL_GOALS: readonly Goal[] = [
  ...NAMESPACES,
  ...MACHINE,
  ...SERVICES,
  ...TERMINAL,
  ...IOCTLS,
];
