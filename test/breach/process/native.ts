// What native code in a device process can do: any system call with any arguments, and a few
// instructions of its own that were in place before the lock-down, as they are for an attacker who
// finds them in the text of node.

import { readFileSync } from "node:fs";
import { errnoName } from "../../../host/errors.js";
import { callAt, errno, mprotect, syscall, viewOf } from "../../../host/ffi/libc.js";
import { Mapping, PAGE_BYTES, PROT_EXEC, PROT_READ } from "../../../host/ffi/memory.js";
import { syscallNumber } from "../../../host/sandbox/syscalls.js";

/** A string becomes a pointer to it with a NUL at its end, bytes a pointer to them. */
export type Argument = number | bigint | string | Uint8Array;

const SCRATCH_BYTES = 256 * 1024;
const ALIGN = 16;

/** Machine code: each piece is a function of one argument, except `thread`. */
const CODE = {
  /** push rbx; mov eax, edi; xor ebx, ebx; xor ecx, ecx; xor edx, edx; int 0x80; cdqe; pop rbx */
  int80: "5389f831db31c931d2cd8048985bc3",
  /** xor esi, esi; mov rax, 0xffffffffff600400; jmp rax: time(2) as old programs call it */
  vsyscall: "31f648c7c0000460ffffe0",
  /** xor edi, edi; mov eax, 60 (exit); syscall: where a new thread begins and ends */
  thread: "31ffb83c0000000f05",
} as const;

/** mov eax, 42; ret: proof that memory which an attacker wrote was executed. */
export const RETURN_42 = Uint8Array.from([0xb8, 42, 0, 0, 0, 0xc3]);

/**
 * Values of `bytes` size one after the other, little-endian, as structs of the kernel have them.
 */
export function packed(bytes: 4 | 8, ...values: (number | bigint)[]): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(values.length * bytes));
  for (const [i, value] of values.entries()) {
    if (bytes === 4) view.setUint32(i * 4, Number(BigInt.asUintN(32, BigInt(value))), true);
    else view.setBigUint64(i * 8, BigInt.asUintN(64, BigInt(value)), true);
  }
  return new Uint8Array(view.buffer);
}

/** A mapping: addresses of its first byte and of the one after its last. */
export interface Span {
  start: number;
  end: number;
}

function readMappings(): Span[] {
  const lines = readFileSync("/proc/self/maps", "latin1").matchAll(
    /^([0-9a-f]+)-([0-9a-f]+) ---p/gm,
  );
  const number = (hex: string | undefined) => Number.parseInt(hex ?? "0", 16);
  return [...lines].map(([, start, end]) => ({ start: number(start), end: number(end) }));
}

/** The machine as an attacker has it. Create it before the lock-down. */
export class Native {
  /** What this process had reserved before the lock-down. */
  readonly mappings = readMappings();
  readonly #scratch = Mapping.anonymous(SCRATCH_BYTES);
  readonly #code = Mapping.anonymous(1);
  readonly #addresses: Record<string, number> = {};
  #used = 0;

  constructor() {
    let at = 0;
    for (const [name, hex] of Object.entries(CODE)) {
      const bytes = Buffer.from(hex, "hex");
      new Uint8Array(this.#code.view.buffer).set(bytes, at);
      this.#addresses[name] = this.#code.address + at;
      at = Math.ceil((at + bytes.length) / ALIGN) * ALIGN;
    }
    mprotect(this.#code.address, this.#code.bytes, PROT_READ | PROT_EXEC);
  }

  /** The page that holds the code above: readable and executable. */
  get codePage(): number {
    return this.#code.address;
  }

  /** Where a new thread can begin. */
  get threadCode(): number {
    return this.#addresses.thread!;
  }

  /** A copy of `bytes` at an address that does not move; forgotten by reset(). */
  place(bytes: Uint8Array): number {
    const at = this.#used;
    new Uint8Array(this.#scratch.view.buffer).set(bytes, at);
    this.#used = Math.ceil((at + bytes.length) / ALIGN) * ALIGN;
    return this.#scratch.address + at;
  }

  /** Zeroed room. */
  room(bytes: number): number {
    return this.place(new Uint8Array(bytes));
  }

  reset(): void {
    this.#used = 0;
  }

  /** Bytes at `address`, read through a view: no system call. */
  bytesAt(address: number, bytes: number): Uint8Array {
    return new Uint8Array(viewOf(address, bytes)).slice();
  }

  /** Writes `bytes` at any address: no system call. */
  put(address: number, bytes: Uint8Array): void {
    new Uint8Array(viewOf(address, bytes.length)).set(bytes);
  }

  /** Writes one byte into every page at `address`: no system call. */
  fill(address: number, bytes: number): void {
    const view = new Uint8Array(viewOf(address, bytes));
    for (let at = 0; at < bytes; at += PAGE_BYTES) view[at] = 1;
  }

  /** Reads a byte at each `stride` from `address` on: no system call. */
  look(address: number, { bytes, stride }: { bytes: number; stride: number }): number {
    const view = new Uint8Array(viewOf(address, bytes));
    let sum = 0;
    for (let at = 0; at < bytes; at += stride) sum += view[at]!;
    return sum;
  }

  /** The system call `nr`: its result, or -errno. */
  raw(nr: number | bigint, ...args: (number | bigint)[]): number {
    const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = args;
    const result = syscall(BigInt.asIntN(64, BigInt(nr)), a, b, c, d, e, f);
    return result === -1 ? -errno() : result;
  }

  /** The system call `name`: its result, or -errno. */
  call(name: string, ...args: Argument[]): number {
    const encoder = new TextEncoder();
    const values = args.map((arg) => {
      if (typeof arg === "string") return this.place(encoder.encode(`${arg}\0`));
      return arg instanceof Uint8Array ? this.place(arg) : arg;
    });
    return this.raw(syscallNumber(name), ...values);
  }

  /** The 32-bit system call `nr`, entered by int 0x80, with all arguments 0. */
  int80(nr: number): number {
    return callAt(this.#addresses.int80!, nr);
  }

  /** time(2) through the page at a fixed address (arch/x86/entry/vsyscall). */
  vsyscallTime(): number {
    return this.run(this.#addresses.vsyscall!);
  }

  /** Calls code at any address. */
  run(address: number): number {
    return callAt(address, this.#scratch.address);
  }

  /** What `fd` says, or the errno of what failed: takes the result of open(2) as it is. */
  text(fd: number, bytes = 64): string {
    if (fd < 0) return nameOf(fd);
    const at = this.room(bytes);
    const length = this.call("read", fd, at, bytes);
    if (length < 0) return nameOf(length);
    return new TextDecoder().decode(this.bytesAt(at, length));
  }
}

/** Name of the errno in a negative result. */
export function nameOf(result: number): string {
  return errnoName(-result);
}
