// What the VMM itself may do while a guest runs, as data.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { vmmPolicy } from "../../host/machine/confine.js";
import { CONTROL_FD } from "../../host/machine/control-socket.js";
import { WASI_MODULE } from "../../host/sandbox/grants.js";
import type { Rule } from "../../host/sandbox/policy.js";
import { SYSCALL_NUMBERS } from "../../host/sandbox/syscalls.js";

const { policy, syscalls } = vmmPolicy({ inline: [], transport: "pci" });
/** As above, for a VM with a control socket. */
const controlled = vmmPolicy({ inline: [], transport: "pci", controlFd: CONTROL_FD });

/** System calls that open, create, run, trace or reach anything beyond what is open already. */
const FORBIDDEN = (
  "open openat openat2 creat open_by_handle_at name_to_handle_at link linkat symlink symlinkat " +
  "unlink unlinkat rename renameat2 mkdir rmdir mknod truncate ftruncate fallocate getdents64 " +
  "chmod fchmod chown fchown readlink readlinkat stat statx access clone clone3 fork vfork " +
  "execve execveat ptrace process_vm_readv process_vm_writev process_madvise pidfd_open " +
  "pidfd_getfd tkill rt_sigqueueinfo rt_tgsigqueueinfo socket socketpair connect bind listen " +
  "accept accept4 sendto sendmmsg recvmmsg io_uring_setup io_uring_enter io_uring_register " +
  "memfd_create memfd_secret userfaultfd bpf seccomp prctl arch_prctl perf_event_open mount " +
  "umount2 pivot_root chroot chdir setns unshare fsopen open_tree move_mount mount_setattr " +
  "setuid setgid setresuid setresgid setgroups capset keyctl add_key request_key init_module " +
  "finit_module kexec_load reboot personality modify_ldt shmget shmat mq_open dup dup2 dup3 " +
  "pipe pipe2 eventfd2 epoll_create1 signalfd4 timerfd_create inotify_init1 fanotify_init " +
  "splice tee vmsplice sendfile copy_file_range prlimit64 setrlimit"
).split(" ");

function rulesOf(syscall: string): Rule[] {
  return policy.rules.filter((rule) => rule.syscall === syscall);
}

/** The values that argument `arg` may have, by the rules of `syscall` together. */
function valuesOf(syscall: string, arg: number): bigint[] {
  return rulesOf(syscall).flatMap(({ args }) => {
    const test = args.find((each) => each.arg === arg);
    assert.ok(test !== undefined, `a rule of ${syscall} leaves argument ${arg} open`);
    return test.values;
  });
}

test("the VMM may make no call that opens, creates, runs, traces or reaches anything", () => {
  assert.equal(
    FORBIDDEN.filter((name) => !SYSCALL_NUMBERS.has(name)),
    [],
    "a name is misspelt, so it would forbid nothing",
  );
  assert.equal(
    FORBIDDEN.filter((name) => syscalls.includes(name)),
    [],
  );
});

test("every rule of the VMM has a reason", () => {
  for (const { syscall, reason } of policy.rules) assert.ok(reason.length > 5, syscall);
});

test("ioctl is pinned to numbers of KVM, listeners, a socket and the terminal", () => {
  const kvm = [0xae80, 0x8090ae81, 0x4090ae82, 0x8138ae83, 0x4138ae84, 0xaead];
  const pci = [0x4020aea5, 0x4008ae61, 0x4040ae79];
  const devices = [0x5411, 0xc0502100, 0xc0182101];
  const terminal = [0x5401, 0x5402, 0x5403, 0x5413, 0x5414];
  assert.equal(valuesOf("ioctl", 1), [...kvm, ...devices, ...pci, ...terminal].map(BigInt));
  const { rules } = vmmPolicy({ inline: [], transport: "mmio" }).policy;
  const requests = rules.flatMap(({ args }) => args.flatMap(({ values }) => values));
  assert.not(pci.some((request) => requests.includes(BigInt(request))));
});

test("the VMM signals itself alone, and a process that it holds only to end it", () => {
  const self = BigInt(process.pid);
  assert.equal([valuesOf("kill", 0), valuesOf("kill", 1)], [[self], [19n]]);
  assert.equal([valuesOf("tgkill", 0), valuesOf("tgkill", 2)], [[self], [12n, 6n, 11n]]);
  assert.equal(valuesOf("pidfd_send_signal", 1), [9n]);
});

test("the VMM maps no file: V8 may make anonymous memory executable, and nothing else", () => {
  const MAP_PRIVATE_ANONYMOUS = 0x22n;
  assert.equal(valuesOf("mmap", 3), [MAP_PRIVATE_ANONYMOUS]);
});

test("a control socket adds that its own listener accepts, and who came, and nothing else", () => {
  const added = controlled.policy.rules.filter(
    (rule) => !policy.rules.some((each) => each.reason === rule.reason),
  );
  const SOCK_NONBLOCK_CLOEXEC = 0x80800n;
  assert.equal(
    added.map(({ syscall, args }) => [syscall, ...args.map(({ values }) => values)]),
    [
      ["accept4", [BigInt(CONTROL_FD)], [0n], [0n], [SOCK_NONBLOCK_CLOEXEC]],
      ["getsockopt", [1n], [17n]],
    ],
  );
  assert.is(controlled.policy.rules.length, policy.rules.length + 2);
  const calls = controlled.syscalls.filter((name) => FORBIDDEN.includes(name));
  assert.equal(calls, ["accept4"]);
});

test("an inline device adds calls on its own grants and no others", () => {
  const imports = [{ module: WASI_MODULE, name: "fd_pread" }];
  const grants = [{ name: "image", kind: "file" as const, rights: ["read" as const], fd: 40 }];
  const inline = [{ id: "blk0", grants, imports }];
  const { rules } = vmmPolicy({ inline, transport: "pci" }).policy;
  const added = rules.slice(policy.rules.length);
  assert.equal(
    added.map(({ syscall, args }) => [syscall, args[0]?.arg, args[0]?.values]),
    [
      ["lseek", 0, [40n]],
      ["pread64", 0, [40n]],
    ],
  );
});

test.run();
