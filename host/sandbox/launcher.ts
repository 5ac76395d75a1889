// Starts a process with its namespaces already around it. Namespaces must exist before Node starts
// its threads, so something has to run between clone(2) and execve(2), where no JavaScript can: in
// a child of a multi-threaded process only bare system calls are safe. That something is 79 bytes
// of machine code which makes the system calls of a list, one after the other. The list is written
// here, as data.

import { errnoName, VmmError } from "../errors.js";
import * as libc from "../ffi/libc.js";
import {
  MAP_ANONYMOUS,
  MAP_SHARED,
  Mapping,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from "../ffi/memory.js";
import type { Piece } from "./pieces.js";
import { syscallNumber } from "./syscalls.js";

/**
 * The interpreter, instruction by instruction; a test assembles the left column and compares. It
 * takes the address of the list in rdi. The first call creates the child; the parent returns its
 * result, and the child makes the other calls until one fails (and then ends) or execve(2) replaces
 * it.
 */
export const LAUNCHER_CODE: readonly (readonly [assembly: string, bytes: string])[] = [
  ["push rbx", "53"],
  ["push rbp", "55"],
  ["mov rbx, rdi", "4889fb"],
  ["xor ebp, ebp", "31ed"],
  ["next:", ""],
  ["mov rax, [rbx]", "488b03"],
  ["mov rdi, [rbx+8]", "488b7b08"],
  ["mov rsi, [rbx+16]", "488b7310"],
  ["mov rdx, [rbx+24]", "488b5318"],
  ["mov r10, [rbx+32]", "4c8b5320"],
  ["mov r8, [rbx+40]", "4c8b4328"],
  ["mov r9, [rbx+48]", "4c8b4b30"],
  ["syscall", "0f05"],
  ["mov [rbx+56], rax", "48894338"],
  ["test ebp, ebp", "85ed"],
  ["jne check", "7509"],
  ["test rax, rax", "4885c0"],
  ["jne done", "751b"],
  ["inc ebp", "ffc5"],
  ["jmp advance", "eb05"],
  ["check:", ""],
  ["test rax, rax", "4885c0"],
  ["js fail", "7806"],
  ["advance:", ""],
  ["add rbx, 64", "4883c340"],
  ["jmp next", "ebc7"],
  ["fail:", ""],
  ["mov edi, 127", "bf7f000000"],
  ["mov eax, 231", "b8e7000000"],
  ["syscall", "0f05"],
  ["done:", ""],
  ["pop rbp", "5d"],
  ["pop rbx", "5b"],
  ["ret", "c3"],
];

/** One entry of the list: number, six arguments, result; eight bytes each. */
const STEP_WORDS = 8;
const STEP_BYTES = STEP_WORDS * 8;
const RESULT_WORD = 7;
/** Steps and strings of one list; a start takes about 60 steps. */
const SCRIPT_BYTES_MAX = 256 * 1024;
/** The part of a script that holds its steps; its strings follow. */
const STEPS_BYTES_MAX = 64 * 1024;

/**
 * An argument: a number, a string (passed as a pointer to it), or a list of strings (argv, envp).
 */
export type Argument = number | string | Uint8Array | readonly string[];

interface Step {
  syscall: string;
  args: readonly Argument[];
  what: string;
  piece: Piece | undefined;
}

/** A child that did not get as far as execve(2): which step failed, and why. */
export class LaunchError extends VmmError {
  readonly step: string;
  /** The piece of the sandbox that the step belongs to, if a start is possible without. */
  readonly piece: Piece | undefined;
  override readonly errno: number;
  override readonly syscall: string;

  constructor({ what, syscall, piece }: Omit<Step, "args">, errno: number) {
    const message = `Cannot set up the sandbox: ${what}: ${syscall}: ${errnoName(errno)}`;
    super("ERR_SANDBOX", message);
    this.step = what;
    this.piece = piece;
    this.errno = errno;
    this.syscall = syscall;
  }
}

/** The list as the interpreter reads it, in memory that parent and child share. */
class Script {
  readonly #address: number;
  readonly #view: DataView;
  #strings = STEPS_BYTES_MAX;

  constructor() {
    const prot = PROT_READ | PROT_WRITE;
    const flags = MAP_SHARED | MAP_ANONYMOUS;
    const address = libc.mmap(0, SCRIPT_BYTES_MAX, prot, flags, -1, 0);
    this.#address = libc.checked(address, "mmap", "Cannot map a launcher script", "ERR_SANDBOX");
    this.#view = new DataView(libc.viewOf(this.#address, SCRIPT_BYTES_MAX));
  }

  get address(): number {
    return this.#address;
  }

  write(index: number, { syscall, args }: Step): void {
    this.#setWord(index, 0, syscallNumber(syscall));
    for (const [i, arg] of args.entries()) this.#setWord(index, i + 1, this.#place(arg));
  }

  result(index: number): number {
    return Number(this.#view.getBigInt64(index * STEP_BYTES + RESULT_WORD * 8, true));
  }

  #setWord(index: number, word: number, value: number): void {
    this.#view.setBigInt64(index * STEP_BYTES + word * 8, BigInt(value), true);
  }

  #place(arg: Argument): number {
    if (typeof arg === "number") return arg;
    if (typeof arg === "string") return this.#placeBytes(new TextEncoder().encode(`${arg}\0`));
    if (arg instanceof Uint8Array) return this.#placeBytes(arg);
    const pointers = new BigUint64Array([...arg.map((each) => BigInt(this.#place(each))), 0n]);
    return this.#placeBytes(new Uint8Array(pointers.buffer));
  }

  #placeBytes(bytes: Uint8Array): number {
    const offset = this.#strings;
    new Uint8Array(this.#view.buffer, offset, bytes.length).set(bytes);
    this.#strings = Math.ceil((offset + bytes.length) / 8) * 8;
    return this.#address + offset;
  }

  close(): void {
    libc.munmap(this.#address, SCRIPT_BYTES_MAX);
  }
}

/** The interpreter in executable, no longer writable memory; it stays for the life of the VMM. */
let interpreterAddress = 0;

function interpreter(): number {
  if (interpreterAddress !== 0) return interpreterAddress;
  const code = Buffer.from(LAUNCHER_CODE.map(([, bytes]) => bytes).join(""), "hex");
  const mapping = Mapping.anonymous(code.length);
  new Uint8Array(mapping.view.buffer).set(code);
  const result = libc.mprotect(mapping.address, mapping.bytes, PROT_READ | PROT_EXEC);
  libc.checked(result, "mprotect", "Cannot make the launcher executable", "ERR_SANDBOX");
  interpreterAddress = mapping.address;
  return interpreterAddress;
}

/** Reaps a child that has ended or is about to. */
function waitFor(pid: number): void {
  libc.syscall(syscallNumber("wait4"), pid, 0, 0, 0, 0, 0);
}

/** Collects the steps of one start. */
export class Launch {
  readonly #steps: Step[] = [];
  #piece: Piece | undefined;

  /** The steps that follow belong to `piece`; undefined: nothing starts without them. */
  for(piece: Piece | undefined): this {
    this.#piece = piece;
    return this;
  }

  /** @param what the step in a user's words, for the message if it fails */
  step(what: string, syscall: string, ...args: Argument[]): this {
    this.#steps.push({ what, syscall, args, piece: this.#piece });
    return this;
  }

  /**
   * Makes the calls. The first step must be clone(2) with CLONE_VFORK, so that this returns when
   * the child has either executed its program or failed.
   *
   * @returns the pid of the child
   * @throws LaunchError naming the step that failed; the child is a zombie then, unless it was
   *   the first
   */
  run(): number {
    const script = new Script();
    try {
      for (const [i, step] of this.#steps.entries()) script.write(i, step);
      const pid = libc.callAt(interpreter(), script.address);
      for (const [i, step] of this.#steps.entries()) {
        const result = script.result(i);
        if (result >= 0) continue;
        if (pid > 0) waitFor(pid);
        throw new LaunchError(step, -result);
      }
      return pid;
    } finally {
      script.close();
    }
  }
}
