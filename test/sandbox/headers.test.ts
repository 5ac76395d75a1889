// Every number of host/sandbox against the installed kernel headers.

import { test } from "uvu";
import * as assert from "uvu/assert";
import * as bpf from "../../host/sandbox/bpf.js";
import * as denial from "../../host/sandbox/denial.js";
import * as linux from "../../host/sandbox/linux.js";
import { SYSCALL_NUMBERS, syscallName, syscallNumber } from "../../host/sandbox/syscalls.js";
import { headerValues, missingCompiler } from "../support/headers.js";
import { skip } from "../support/skip.js";

const INCLUDES = [
  "sys/ioctl.h",
  "linux/prctl.h",
  "linux/seccomp.h",
  "linux/audit.h",
  "linux/filter.h",
  "asm-generic/resource.h",
  "linux/sched.h",
  "linux/securebits.h",
  "linux/mount.h",
  "linux/fcntl.h",
  "linux/capability.h",
  "asm/unistd.h",
  "asm/signal.h",
  "linux/landlock.h",
  "linux/ptrace.h",
  "linux/wait.h",
  "asm/ioctls.h",
  "linux/sockios.h",
  "linux/fs.h",
  "linux/if_tun.h",
  "asm-generic/siginfo.h",
  "stddef.h",
];

/** Constants under the header's own name, and those that a header builds from parts. */
const CLAIMS = new Map<string, number>([
  ...Object.values(linux)
    .filter((group) => typeof group === "object")
    .flatMap((group) => Object.entries<number>(group)),
  ["SECCOMP_RET_KILL_PROCESS", bpf.SECCOMP_RET_KILL_PROCESS],
  ["SECCOMP_RET_USER_NOTIF", bpf.SECCOMP_RET_USER_NOTIF],
  ["SECCOMP_RET_LOG", bpf.SECCOMP_RET_LOG],
  ["SECCOMP_IOCTL_NOTIF_RECV", denial.SECCOMP_IOCTL_NOTIF_RECV],
  ["SECCOMP_IOCTL_NOTIF_SEND", denial.SECCOMP_IOCTL_NOTIF_SEND],
  ["SECCOMP_USER_NOTIF_FLAG_CONTINUE", denial.SECCOMP_USER_NOTIF_FLAG_CONTINUE],
  ["offsetof(struct seccomp_notif, data)", denial.NOTIF.nr],
  ["offsetof(struct seccomp_notif, data.args)", denial.NOTIF.args],
  ["offsetof(struct seccomp_notif_resp, flags)", denial.RESPONSE.flags],
  ["SECCOMP_RET_ALLOW", bpf.SECCOMP_RET_ALLOW],
  ["AUDIT_ARCH_X86_64", bpf.AUDIT_ARCH_X86_64],
  ["__X32_SYSCALL_BIT", bpf.__X32_SYSCALL_BIT],
  ["BPF_MAXINSNS", bpf.BPF_MAXINSNS],
  ["BPF_LD|BPF_W|BPF_ABS", bpf.BPF.BPF_LD_W_ABS],
  ["BPF_JMP|BPF_JA", bpf.BPF.BPF_JMP_JA],
  ["BPF_JMP|BPF_JEQ|BPF_K", bpf.BPF.BPF_JMP_JEQ_K],
  ["BPF_JMP|BPF_JGE|BPF_K", bpf.BPF.BPF_JMP_JGE_K],
  ["BPF_ALU|BPF_AND|BPF_K", bpf.BPF.BPF_ALU_AND_K],
  ["BPF_RET|BPF_K", bpf.BPF.BPF_RET_K],
  ["sizeof(struct sock_filter)", bpf.SOCK_FILTER_BYTES],
  ["offsetof(struct seccomp_data, arch)", 4],
  ["offsetof(struct seccomp_data, args)", 16],
]);

/** Newer than the headers of Debian 12 (ABI 2); compared wherever the headers have them. */
const NEWER = [
  "LANDLOCK_RESTRICT_SELF_TSYNC", // ABI 8
  "LANDLOCK_ACCESS_FS_TRUNCATE", // ABI 3
  "LANDLOCK_ACCESS_FS_IOCTL_DEV", // ABI 5
  "LANDLOCK_ACCESS_FS_RESOLVE_UNIX", // ABI 9
  "LANDLOCK_ACCESS_NET_BIND_TCP", // ABI 4
  "LANDLOCK_ACCESS_NET_CONNECT_TCP",
  "LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET", // ABI 6
  "LANDLOCK_SCOPE_SIGNAL",
];

test("every constant is that of the installed headers", () => {
  const missing = missingCompiler();
  if (missing !== undefined) return skip(missing);
  assert.ok(CLAIMS.size > 60, `only ${CLAIMS.size} claims`);
  const values = headerValues(INCLUDES, [...CLAIMS.keys()], NEWER);
  const absent = NEWER.filter((name) => !values.has(name));
  if (absent.length > 0) skip(`headers too old to compare ${absent.join(", ")}`);
  for (const [name, value] of CLAIMS) {
    if (absent.includes(name)) continue;
    // Some macros are unsigned and some are int; none needs more than 32 bits.
    const [found, expected] = [values.get(name)!, BigInt(value)].map((v) => BigInt.asIntN(32, v));
    assert.is(found, expected, name);
  }
});

test("the constants of the C library are those of its headers", () => {
  const missing = missingCompiler();
  if (missing !== undefined) return skip(missing);
  const values = headerValues(["sys/mount.h", "signal.h"], ["MNT_DETACH", "SIGRTMAX"]);
  assert.is(values.get("MNT_DETACH"), BigInt(linux.MNT_DETACH));
  assert.is(values.get("SIGRTMAX"), BigInt(linux.SIGNAL_MAX));
});

test("every system call number is that of asm/unistd_64.h", () => {
  const missing = missingCompiler();
  if (missing !== undefined) return skip(missing);
  const values = headerValues(
    ["asm/unistd.h"],
    [...SYSCALL_NUMBERS.keys()].map((name) => `__NR_${name}`),
  );
  assert.ok(SYSCALL_NUMBERS.size > 350);
  for (const [name, nr] of SYSCALL_NUMBERS) assert.is(values.get(`__NR_${name}`), BigInt(nr), name);
});

test("syscallNumber() and syscallName() know the numbers' ends and refuse others", () => {
  assert.is(syscallNumber("read"), 0);
  assert.is(syscallName(231), "exit_group");
  assert.is(syscallName(400), "syscall 400");
  assert.throws(() => syscallNumber("opne"), /no system call "opne"/);
});

test.run();
