// Becomes another program on a kernel that lacks something, or as far as that can be told apart
// from a filter which answers in the kernel's place. Arguments: refusals as JSON, then the program
// with its arguments. Filters nest: one more that is installed inside works as on any kernel.

import { errno, fcntl, syscall } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";
import { BPF, OFFSET_NR, SOCK_FILTER_BYTES } from "../../host/sandbox/bpf.js";
import { PRCTL, SECCOMP } from "../../host/sandbox/linux.js";
import { syscallNumber } from "../../host/sandbox/syscalls.js";

/** A system call that fails, if one of the bits is set in an argument or whenever it is made. */
export interface Refusal {
  syscall: string;
  errno: number;
  /** Which argument, from 0, and which of its lower 32 bits. */
  argument?: number;
  bits?: number;
  /** The argument's whole value instead. */
  value?: number;
}

const SECCOMP_RET_ERRNO = 0x0005_0000;
const SECCOMP_RET_ALLOW = 0x7fff_0000;
/** BPF_JMP | BPF_JSET | BPF_K (linux/filter.h) */
const BPF_JMP_JSET_K = 0x45;
const OFFSET_ARGS = 16;
const F_SETFD = 2;
const STRINGS_BYTES_MAX = 256 * 1024;

type Instruction = [code: number, jt: number, jf: number, k: number];

function refuse({ syscall: name, errno: value, argument = 0, ...on }: Refusal): Instruction[] {
  const load: Instruction = [BPF.BPF_LD_W_ABS, 0, 0, OFFSET_NR];
  const answer: Instruction = [BPF.BPF_RET_K, 0, 0, SECCOMP_RET_ERRNO | value];
  const nr = syscallNumber(name);
  if (on.bits === undefined && on.value === undefined) {
    return [load, [BPF.BPF_JMP_JEQ_K, 0, 1, nr], answer];
  }
  const code = on.bits === undefined ? BPF.BPF_JMP_JEQ_K : BPF_JMP_JSET_K;
  return [
    load,
    [BPF.BPF_JMP_JEQ_K, 0, 3, nr],
    [BPF.BPF_LD_W_ABS, 0, 0, OFFSET_ARGS + 8 * argument],
    [code, 0, 1, on.bits ?? on.value ?? 0],
    answer,
  ];
}

/** As root without no_new_privs, which would be one piece of what is under test. */
function install(program: readonly Instruction[]): number {
  const memory = Mapping.anonymous(16 + program.length * SOCK_FILTER_BYTES);
  memory.view.setUint16(0, program.length, true);
  memory.view.setBigUint64(8, BigInt(memory.address + 16), true);
  for (const [i, [code, jt, jf, k]] of program.entries()) {
    const at = 16 + i * SOCK_FILTER_BYTES;
    memory.view.setUint16(at, code, true);
    memory.view.setUint8(at + 2, jt);
    memory.view.setUint8(at + 3, jf);
    memory.view.setUint32(at + 4, k, true);
  }
  const nr = syscallNumber("seccomp");
  const { SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC } = SECCOMP;
  const flags = SECCOMP_FILTER_FLAG_TSYNC;
  return syscall(nr, SECCOMP_SET_MODE_FILTER, flags, memory.address, 0, 0, 0);
}

/** execve(2) with this environment: replaces the process, or returns and sets errno. */
function become(argv: readonly string[]): void {
  const memory = Mapping.anonymous(STRINGS_BYTES_MAX);
  let used = 0;
  const place = (bytes: Uint8Array): bigint => {
    const at = used;
    new Uint8Array(memory.view.buffer).set(bytes, at);
    used = Math.ceil((at + bytes.length) / 8) * 8;
    return BigInt(memory.address + at);
  };
  const text = (string: string) => place(new TextEncoder().encode(`${string}\0`));
  const list = (strings: readonly string[]) =>
    place(new Uint8Array(new BigUint64Array([...strings.map(text), 0n]).buffer));
  // Node has its children inherit nothing that they were not given.
  for (const fd of [0, 1, 2]) fcntl(fd, F_SETFD, 0);
  const environment = Object.entries(process.env).map(([name, value]) => `${name}=${value}`);
  syscall(syscallNumber("execve"), text(argv[0]!), list(argv), list(environment), 0, 0, 0);
}

const [refusals = "[]", ...argv] = process.argv.slice(2);
const program: Instruction[] = [
  ...(JSON.parse(refusals) as Refusal[]).flatMap(refuse),
  [BPF.BPF_RET_K, 0, 0, SECCOMP_RET_ALLOW],
];
if (install(program) !== 0) {
  syscall(syscallNumber("prctl"), PRCTL.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
  if (install(program) !== 0) throw new Error(`no filter: errno ${errno()}`);
}
become(argv);
throw new Error(`Cannot execute ${argv[0]}: errno ${errno()}`);
