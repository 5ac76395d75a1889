// What a device may do, as data: few system calls, each with a reason, each on its own descriptors.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { describeTests } from "../../host/cli/policy.js";
import {
  importsOf,
  NO_FD,
  type ResolvedGrant,
  type Right,
  WASI_MODULE,
} from "../../host/sandbox/grants.js";
import {
  type Policy,
  policyOf,
  policyOfDevice,
  SYSCALLS_MAX,
  syscallsOf,
} from "../../host/sandbox/policy.js";
import { SYSCALL_NUMBERS } from "../../host/sandbox/syscalls.js";

const SYSCALLS_RNG_MAX = 12;
/** PROT_READ | PROT_WRITE of asm-generic/mman-common.h. */
const PROT_READ_WRITE = 3n;

function importing(...names: string[]): { module: string; name: string }[] {
  return names.map((name) => ({ module: WASI_MODULE, name }));
}

function deviceWith(rights: Right[], ...imports: string[]): Policy {
  const grant = { name: "image", kind: "file" as const, rights, fd: 5 };
  return policyOf({ socketFd: 3, grants: [grant], imports: importing(...imports) });
}

const rng = deviceWith(["read"], "fd_read");
const everything = deviceWith(["read", "write"], ...importsOf("file", ["read", "write"]));

/**
 * System calls that create, open, run, trace, signal or reach anything: no device ever has them.
 */
const FORBIDDEN = (
  "io_uring_setup io_uring_enter io_uring_register memfd_create memfd_secret userfaultfd clone " +
  "clone3 fork vfork execve execveat kill tkill tgkill rt_sigqueueinfo pidfd_open " +
  "pidfd_send_signal pidfd_getfd ptrace process_vm_readv process_vm_writev open openat openat2 " +
  "creat socket socketpair connect bind listen accept accept4 sendto recvfrom sendmmsg recvmmsg " +
  "bpf seccomp prctl arch_prctl ioctl fcntl dup dup2 dup3 close_range pipe pipe2 eventfd2 " +
  "epoll_ctl epoll_create1 signalfd4 timerfd_create inotify_init1 fanotify_init perf_event_open " +
  "mount umount2 pivot_root chroot setns unshare fsopen open_tree move_mount mount_setattr " +
  "setuid setgid setresuid setresgid setgroups capset keyctl add_key request_key init_module " +
  "finit_module kexec_load reboot swapon personality mremap remap_file_pages shmat shmget " +
  "mq_open rt_sigaction rt_sigreturn rt_sigprocmask sigaltstack set_thread_area modify_ldt " +
  "name_to_handle_at open_by_handle_at link linkat symlink symlinkat unlink unlinkat rename " +
  "mkdir rmdir chmod fchmod chown fchown truncate fallocate splice tee vmsplice " +
  "sendfile copy_file_range getdents64 setpriority sched_setscheduler process_madvise"
).split(" ");

test("every rule has a reason that says who needs it", () => {
  for (const { syscall, reason } of [...rng.rules, ...everything.rules]) {
    assert.ok(reason.length > 10 && /\w+ \w+/.test(reason), `${syscall}: ${reason}`);
  }
});

test("virtio-rng may make at most 12 system calls, any device 20", () => {
  assert.ok(syscallsOf(rng).length <= SYSCALLS_RNG_MAX, syscallsOf(rng).join());
  assert.ok(syscallsOf(everything).length <= SYSCALLS_MAX, syscallsOf(everything).join());
});

test("no policy allows a call that opens, creates, runs, traces or signals anything", () => {
  const known = FORBIDDEN.filter((name) => SYSCALL_NUMBERS.has(name));
  assert.equal(known, FORBIDDEN, "a name is misspelt, so it would forbid nothing");
  const allowed = new Set(syscallsOf(everything));
  assert.equal(
    FORBIDDEN.filter((name) => allowed.has(name)),
    [],
  );
});

test("every rule that takes a descriptor tests it, against the socket or a grant", () => {
  const withFd = new Set(
    "recvmsg sendmsg read pread64 write pwrite64 fstat fdatasync fsync ftruncate".split(" "),
  );
  const rules = everything.rules.filter(({ syscall }) => withFd.has(syscall));
  assert.is(rules.length, withFd.size);
  for (const { syscall, args } of rules) {
    const test = args.find(({ arg }) => arg === 0);
    assert.equal(test?.values, [syscall.endsWith("msg") ? 3n : 5n], syscall);
    assert.is(test?.mask, 0xffff_ffffn);
  }
});

test("memory is mapped and protected only without PROT_EXEC, and anonymously", () => {
  for (const { syscall, args } of everything.rules) {
    if (syscall !== "mmap" && syscall !== "mprotect") continue;
    const prot = args.find(({ arg }) => arg === 2);
    assert.is(prot?.mask, 2n ** 64n - 1n);
    assert.equal(prot?.values, [0n, PROT_READ_WRITE]);
  }
  const mmap = everything.rules.filter(({ syscall }) => syscall === "mmap");
  const MAP_PRIVATE_ANONYMOUS = 0x22n;
  assert.is(mmap.length, 1);
  assert.equal(mmap[0]?.args.find(({ arg }) => arg === 3)?.values, [MAP_PRIVATE_ANONYMOUS]);
});

test("the policy of virtio-rng is this, and nothing beside it", () => {
  assert.equal(
    rng.rules.map((rule) => `${rule.syscall}: ${describeTests(rule)}`),
    [
      "recvmsg: fd = 3",
      "read: fd = 5",
      "sendmsg: fd = 3",
      "mmap: prot = 0 or 3, flags & ~0x4000 = 0x22", // but for MAP_NORESERVE
      "mprotect: prot = 0 or 3",
      "munmap: always",
      "madvise: advice = 4 or 8", // MADV_DONTNEED, MADV_FREE
      "madvise: advice = 0xa", // MADV_DONTFORK
      "brk: always",
      "futex: futex_op = 0x81", // FUTEX_WAKE_PRIVATE
      "futex: futex_op = 0x189", // FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME
      "clock_gettime: clockid = 0 or 1", // CLOCK_REALTIME, CLOCK_MONOTONIC
      "getpid: always",
      "exit_group: always",
    ],
  );
});

test("policyOf() opens no system call for a function that the module does not import", () => {
  assert.ok(syscallsOf(deviceWith(["read"], "fd_read")).includes("read"));
  assert.not.ok(syscallsOf(deviceWith(["read"], "fd_read")).includes("pread64"));
  assert.not.ok(syscallsOf(deviceWith(["read"])).includes("read"));
});

test("policyOf() opens no system call that the rights of a grant do not cover", () => {
  const imports = ["fd_read", "fd_write", "fd_pread", "fd_pwrite"];
  const readOnly = syscallsOf(deviceWith(["read"], ...imports));
  assert.not.ok(readOnly.includes("write") || readOnly.includes("pwrite64"));
  const writeOnly = syscallsOf(deviceWith(["write"], ...imports));
  assert.not.ok(writeOnly.includes("read") || writeOnly.includes("pread64"));
});

test("policyOf() lets only who may write change the size of a file", () => {
  const imports = importsOf("file", ["read", "write", "append"]);
  for (const right of ["read", "append"] as const) {
    const syscalls = syscallsOf(deviceWith([right], ...imports));
    assert.not.ok(syscalls.includes("ftruncate") || syscalls.includes("pwrite64"), right);
  }
  assert.ok(syscallsOf(deviceWith(["write"], ...imports)).includes("ftruncate"));
});

test("policyOf() takes only imports of WASI for WASI", () => {
  const grant = { name: "image", kind: "file" as const, rights: ["read" as const], fd: 5 };
  const imports = [{ module: "env", name: "fd_read" }];
  const policy = policyOf({ socketFd: 3, grants: [grant], imports });
  assert.not.ok(syscallsOf(policy).includes("read"));
});

test("policyOfDevice() numbers the grants as the process will have them", () => {
  const grant = { kind: "file" as const, what: "/dev/null", rights: ["read" as const] };
  const grants = ["one", "two"].map((name) => ({ ...grant, name }));
  const { rules } = policyOfDevice({ imports: importing("fd_read") }, grants);
  const reads = rules.filter(({ syscall }) => syscall === "read");
  assert.equal(
    reads.map(({ args }) => args[0]?.values),
    [[5n], [6n]],
  );
});

/** Listeners and files, in this order, of a module that imports all there is of either. */
function listening(...kinds: ("unix" | "file")[]): Policy {
  const grants = kinds.map((kind, i): ResolvedGrant => {
    const rights: Right[] = [kind === "unix" ? "listen" : "read"];
    return { name: `${kind}${i}`, kind, what: "/x", rights };
  });
  const imports = [...new Set([...importsOf("unix", ["listen"]), "fd_pread"])];
  return policyOfDevice({ imports: importing(...imports) }, grants);
}

function valuesOf({ rules }: Policy, syscall: string): bigint[][] {
  const found = rules.filter((rule) => rule.syscall === syscall);
  return found.map(({ args }) => args.find(({ arg }) => arg === 0)?.values ?? []);
}

test("a listener can be accepted from, without an address, and nothing else is possible", () => {
  const policy = listening("unix");
  assert.equal(policy.rules.filter(({ syscall }) => syscall === "accept4").map(describeTests), [
    "fd = 5, addr = 0, addrlen = 0, flags = 0x80800",
  ]);
  const onListener = policy.rules.filter(({ args }) => args[0]?.values.includes(5n));
  assert.equal(
    onListener.map(({ syscall }) => syscall),
    ["accept4"],
  );
  const beyond = "socket connect bind listen sendto recvfrom getpeername shutdown dup fcntl";
  const syscalls = syscallsOf(policy);
  assert.not.ok(beyond.split(" ").some((name) => syscalls.includes(name)));
});

test("the descriptors of connections are known: the module's, and those behind the grants", () => {
  for (const [kinds, fds] of [
    [["unix"], [4n]],
    [["unix", "file"], [4n]],
    [
      ["unix", "file", "unix", "unix"],
      [4n, 9n, 10n],
    ],
  ] as const) {
    const policy = listening(...kinds);
    for (const syscall of ["write", "close"]) {
      assert.equal(valuesOf(policy, syscall), [fds], `${kinds}: ${syscall}`);
    }
  }
});

test("a module that needs more than 20 system calls is refused before it is started", () => {
  const everything = [...importsOf("file", ["read", "write"]), ...importsOf("unix", ["listen"])];
  const grants: ResolvedGrant[] = [
    { name: "image", kind: "file", what: "/x", rights: ["read", "write"] },
    { name: "port", kind: "unix", what: "/y", rights: ["listen"] },
  ];
  const policy = () => policyOfDevice({ imports: importing(...everything) }, grants);
  assert.throws(policy, /its process would need 22 system calls, 20 is the most: make two devices/);
});

test("ppoll is allowed only where something but a message can be waited for, and pinned", () => {
  const clock = { name: "now", kind: "clock" as const, rights: ["read" as const], fd: NO_FD };
  assert.not.ok(syscallsOf(everything).includes("ppoll"));
  const { rules } = policyOf({ socketFd: 3, grants: [clock], imports: [] });
  const [rule, ...others] = rules.filter(({ syscall }) => syscall === "ppoll");
  assert.equal(others, []);
  assert.equal(
    rule?.args.map(({ arg, values }) => [arg, values]),
    [
      [1, [1n]],
      [3, [0n]],
    ],
  );
});

test.run();
