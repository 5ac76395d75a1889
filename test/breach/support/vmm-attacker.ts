// A process that confines itself as a VMM does, unless it is told not to, and then does one deed
// that no VMM does: what somebody could try who took one over. Its exit status is 0 when the deed
// succeeded.

import { writeSync } from "node:fs";
import { _exit, errno, ioctl, mmap, syscall } from "../../../host/ffi/libc.js";
import { Mapping } from "../../../host/ffi/memory.js";
import { prepareConfinement } from "../../../host/machine/confine.js";
import { syscallNumber } from "../../../host/sandbox/syscalls.js";

/** Descriptors that were open before: of a file and of a directory. */
const FILE_FD = 3;
const DIRECTORY_FD = 4;

const AT_FDCWD = -100;
const O_TMPFILE_WRONLY = 0o20200001;
const SIGCHLD = 17;
const SIGCONT = 18;
const PTRACE_TRACEME = 0;
const AF_UNIX = 1;
const AF_INET = 2;
const SOCK_STREAM = 1;
const FIONREAD = 0x541b;
const PR_SET_DUMPABLE = 4;
const PROT_READ = 1;
const MAP_PRIVATE = 2;
const CLONE_FILES = 0x400;

const page = Mapping.anonymous(4096);
/** Where in the page an argument that is not a string is put. */
const STRUCT = 1024;

/** Address of `text` in C's form. */
function place(text: string): number {
  new Uint8Array(page.view.buffer).set(new TextEncoder().encode(`${text}\0`));
  return page.address;
}

/** Address of a list of 64-bit words. */
function words(...values: number[]): number {
  for (const [i, value] of values.entries()) {
    page.view.setBigUint64(STRUCT + 8 * i, BigInt(value), true);
  }
  return page.address + STRUCT;
}

function call(name: string, ...args: number[]): number {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = args;
  return syscall(syscallNumber(name), a, b, c, d, e, f);
}

/** A child ends at once: it shall not go on as a second attacker. */
function parentOf(pid: number): number {
  if (pid === 0) _exit(0);
  return pid;
}

/** Each returns -1 when it fails. */
const DEEDS: Readonly<Record<string, () => number>> = {
  open: () => call("open", place("/etc/passwd"), 0),
  openat: () => call("openat", AT_FDCWD, place("/etc/passwd"), 0),
  "create a file": () => call("openat", AT_FDCWD, place("/tmp"), O_TMPFILE_WRONLY, 0o600),
  "list a directory": () => call("getdents64", DIRECTORY_FD, page.address, 4096),
  fork: () => parentOf(call("fork")),
  clone: () => parentOf(call("clone", CLONE_FILES | SIGCHLD)),
  execve: () => call("execve", place("/bin/true"), words(page.address, 0), 0),
  "kill another process": () => call("kill", process.ppid, SIGCONT),
  "kill itself with another signal": () => call("kill", process.pid, SIGCONT),
  "tgkill another process": () => call("tgkill", process.ppid, process.ppid, SIGCONT),
  pidfd_open: () => call("pidfd_open", process.ppid, 0),
  ptrace: () => call("ptrace", PTRACE_TRACEME),
  process_vm_readv: () => {
    const iovec = words(page.address, 8);
    return call("process_vm_readv", process.pid, iovec, 1, iovec, 1);
  },
  "socket AF_INET": () => call("socket", AF_INET, SOCK_STREAM, 0),
  "socket AF_UNIX": () => call("socket", AF_UNIX, SOCK_STREAM, 0),
  socketpair: () => call("socketpair", AF_UNIX, SOCK_STREAM, 0, page.address),
  "ioctl with a number of another kind": () => ioctl(FILE_FD, FIONREAD, page.address),
  memfd_create: () => call("memfd_create", place("x"), 0),
  "map a file": () => mmap(0, 4096, PROT_READ, MAP_PRIVATE, FILE_FD, 0),
  prctl: () => call("prctl", PR_SET_DUMPABLE, 1),
};

export const DEED_NAMES = Object.keys(DEEDS);

/** What the program does with its arguments: a deed, and the mode of its filter. */
async function attack(deed: string, seccomp: "enforce" | "off"): Promise<void> {
  (await prepareConfinement(seccomp, { inline: [], transport: "pci" }))();
  const result = DEEDS[deed]!();
  if (result === -1) writeSync(1, `errno ${errno()}`);
  _exit(result === -1 ? 1 : 0);
}

const [, program = "", deed, seccomp] = process.argv;
if (import.meta.url.endsWith(program) && deed !== undefined) {
  await attack(deed, seccomp === "off" ? "off" : "enforce");
}
