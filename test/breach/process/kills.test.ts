// Real deaths: system calls that no device ever makes, each in a process of its own.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { __X32_SYSCALL_BIT } from "../../../host/sandbox/bpf.js";
import { syscallName } from "../../../host/sandbox/syscalls.js";
import { skip } from "../../support/skip.js";
import { Attacker, deathOf, missingNamespaces, NOBODY } from "../support/attacker.js";
import { ABSURD, UNFILTERED } from "./numbers.js";

/** What a device must never be able to do, whatever it is granted. */
const NEVER = (
  "io_uring_setup io_uring_enter io_uring_register memfd_create memfd_secret userfaultfd clone " +
  "clone3 fork vfork execve execveat kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo " +
  "pidfd_send_signal pidfd_open pidfd_getfd ptrace process_vm_readv process_vm_writev " +
  "process_madvise open openat openat2 creat open_by_handle_at socket socketpair connect bind " +
  "listen accept accept4 sendto recvfrom sendmmsg recvmmsg setsockopt bpf prctl arch_prctl " +
  "seccomp unshare setns mount umount2 pivot_root chroot fsopen open_tree keyctl add_key " +
  "perf_event_open ioctl fcntl dup dup2 dup3 pipe2 pkey_mprotect mremap remap_file_pages shmget " +
  "shmat setuid setresuid capset prlimit64 setrlimit init_module finit_module reboot kexec_load " +
  "settimeofday modify_ldt personality rt_sigaction rt_sigreturn splice sendfile " +
  "copy_file_range getdents64 close"
).split(" ");

/** 32-bit numbers of exit, fork, read, open, execve, ptrace, mmap, clone and mmap2. */
const INT80 = [1, 2, 3, 5, 11, 26, 90, 120, 192];
/** x32 forms of read, getpid, ioctl and execve. */
const X32 = [0x4000_0000, 0x4000_0027, 0x4000_0202, 0x4000_0208];

const PARALLEL = 3;
const ENXIO = 6;

async function endOf(deed: string): Promise<string> {
  const attacker = new Attacker({ deed, context: NOBODY });
  try {
    await attacker.ready();
    attacker.go();
    const said = await attacker.hear();
    if (said !== undefined) return `lived: ${said}`;
    const end = await attacker.end();
    const call = end.denied?.split("(")[0];
    return call === undefined ? (deathOf(end) ?? "ended") : `denied ${call}`;
  } finally {
    await attacker.close();
  }
}

async function endsOf(deeds: string[]): Promise<ReadonlyMap<string, string>> {
  const ends = new Map<string, string>();
  const left = [...deeds];
  const worker = async () => {
    for (let deed = left.shift(); deed !== undefined; deed = left.shift()) {
      ends.set(deed, await endOf(deed));
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  return ends;
}

/** Each deed must end as `endOf` says. */
function testDeaths(title: string, deeds: ReadonlyMap<string, string>): void {
  test(title, async () => {
    const ends = await endsOf([...deeds.keys()]);
    assert.is(ends.size, deeds.size);
    for (const [deed, end] of ends) assert.is(end, deeds.get(deed), deed);
  });
}

function foreign(deeds: string[]): Map<string, string> {
  return new Map(deeds.map((deed) => [deed, "SIGSYS"]));
}

/** The kernel looks at the lower half of a number, and a filter at the ABI that it belongs to. */
function endOfNumber(nr: bigint): string {
  const seen = Number(BigInt.asIntN(32, nr));
  return seen < 0 || seen >= __X32_SYSCALL_BIT ? "SIGSYS" : `denied ${syscallName(seen)}`;
}

const missing = await missingNamespaces();
if (missing !== undefined) {
  skip(missing);
} else {
  testDeaths(
    "each system call that no device ever makes is denied by its name",
    new Map(NEVER.map((name) => [`call ${name}`, `denied ${name}`])),
  );
  testDeaths(
    "32-bit system calls kill at once, whatever their number means",
    foreign(INT80.map((nr) => `int80 ${nr}`)),
  );
  testDeaths("x32 system calls kill at once", foreign(X32.map((nr) => `number ${nr}`)));
  testDeaths(
    "numbers that do not exist are denied, or kill at once",
    new Map(ABSURD.map((nr) => [`number ${nr}`, endOfNumber(nr)])),
  );

  test("what Linux lets through any filter does nothing", async () => {
    const uretprobe = await endOf(`number ${UNFILTERED.uretprobe}`);
    assert.ok(["SIGSYS", "SIGILL"].includes(uretprobe), uretprobe);
    const uprobe = await endOf(`number ${UNFILTERED.uprobe}`);
    assert.ok(["SIGSYS", `lived: ${-ENXIO}`].includes(uprobe), uprobe);
  });
}

test.run();
