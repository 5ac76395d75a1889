// Policy → classic BPF, the language of seccomp filters (linux/filter.h, linux/bpf_common.h). The
// program is a list of blocks, one for each system call; a block ends in ALLOW or in the default,
// so all its jumps are short and the filter can be read from top to bottom.

import { assert } from "../errors.js";
import type { ArgTest, Policy, Rule } from "./policy.js";

/** linux/bpf_common.h: opcodes. */
export const BPF = {
  BPF_LD_W_ABS: 0x20,
  BPF_JMP_JA: 0x05,
  BPF_JMP_JEQ_K: 0x15,
  BPF_JMP_JGE_K: 0x35,
  BPF_ALU_AND_K: 0x54,
  BPF_RET_K: 0x06,
} as const;

/** linux/seccomp.h: what a filter answers. */
export const SECCOMP_RET_KILL_PROCESS = 0x8000_0000;
export const SECCOMP_RET_USER_NOTIF = 0x7fc0_0000;
export const SECCOMP_RET_LOG = 0x7ffc_0000;
export const SECCOMP_RET_ALLOW = 0x7fff_0000;

/** linux/audit.h: EM_X86_64 | __AUDIT_ARCH_64BIT | __AUDIT_ARCH_LE. */
export const AUDIT_ARCH_X86_64 = 0xc000_003e;
/** asm/unistd.h: the x32 ABI reaches the same calls under other numbers. */
export const __X32_SYSCALL_BIT = 0x4000_0000;
/** linux/bpf_common.h: the kernel takes no longer program. */
export const BPF_MAXINSNS = 4096;

/** struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6]. */
export const OFFSET_NR = 0;
export const OFFSET_ARCH = 4;
const OFFSET_ARGS = 16;
/** sizeof(struct sock_filter): u16 code, u8 jt, u8 jf, u32 k. */
export const SOCK_FILTER_BYTES = 8;
const JUMP_MAX = 255;
const WORD = 0xffff_ffff;

/** One instruction whose jumps still name labels; no label means the next instruction. */
interface Instruction {
  code: number;
  k: number;
  jt?: string | undefined;
  jf?: string | undefined;
}

/** Collects instructions and labels, then turns labels into distances. */
class Assembler {
  readonly #code: Instruction[] = [];
  readonly #labels = new Map<string, number>();

  label(name: string): void {
    assert(!this.#labels.has(name), `label ${name} is there twice`);
    this.#labels.set(name, this.#code.length);
  }

  emit(code: number, k: number, jt?: string, jf?: string): void {
    this.#code.push({ code, k, jt, jf });
  }

  #distance(from: number, label: string | undefined): number {
    if (label === undefined) return 0;
    const to = this.#labels.get(label);
    assert(to !== undefined && to > from, `label ${label} is missing or behind its jump`);
    return to - from - 1;
  }

  assemble(): Uint8Array<ArrayBuffer> {
    assert(this.#code.length <= BPF_MAXINSNS, `a filter of ${this.#code.length} instructions`);
    const bytes = new Uint8Array(this.#code.length * SOCK_FILTER_BYTES);
    const view = new DataView(bytes.buffer);
    for (const [i, { code, k, jt, jf }] of this.#code.entries()) {
      const offset = i * SOCK_FILTER_BYTES;
      const isLong = code === BPF.BPF_JMP_JA;
      const jumps = [jt, jf].map((label) => (isLong ? 0 : this.#distance(i, label)));
      assert(Math.max(...jumps) <= JUMP_MAX, `a jump over ${Math.max(...jumps)} instructions`);
      view.setUint16(offset, code, true);
      view.setUint8(offset + 2, jumps[0]!);
      view.setUint8(offset + 3, jumps[1]!);
      view.setUint32(offset + 4, isLong ? this.#distance(i, jt) : k, true);
    }
    return bytes;
  }
}

/** Compares 32 bits of an argument with `wanted`; falls through if equal, else goes to `miss`. */
function compareWord(
  asm: Assembler,
  offset: number,
  half: { mask: number; wanted: number; miss: string },
): void {
  if (half.mask === 0) return;
  asm.emit(BPF.BPF_LD_W_ABS, offset);
  if (half.mask !== WORD) asm.emit(BPF.BPF_ALU_AND_K, half.mask);
  asm.emit(BPF.BPF_JMP_JEQ_K, half.wanted, undefined, half.miss);
}

/** One test: any of its values may match, both halves of it; none of them goes to `miss`. */
function compileTest(
  asm: Assembler,
  test: ArgTest,
  { here, miss }: { here: string; miss: string },
): void {
  const low = OFFSET_ARGS + test.arg * 8;
  const halves = [
    { offset: low, shift: 0n },
    { offset: low + 4, shift: 32n },
  ];
  for (const [i, value] of test.values.entries()) {
    const isLast = i === test.values.length - 1;
    const next = isLast ? miss : `${here}.${i + 1}`;
    if (i > 0) asm.label(`${here}.${i}`);
    for (const { offset, shift } of halves) {
      const mask = Number((test.mask >> shift) & BigInt(WORD));
      const wanted = Number((value >> shift) & BigInt(WORD));
      compareWord(asm, offset, { mask, wanted, miss: next });
    }
    if (!isLast) asm.emit(BPF.BPF_JMP_JA, 0, `${here}.hit`);
  }
  asm.label(`${here}.hit`);
}

/** All rules of one system call: the first whose tests hold allows it. */
function compileSyscall(asm: Assembler, rules: readonly Rule[], denied: number): void {
  const { nr } = rules[0]!;
  asm.emit(BPF.BPF_JMP_JEQ_K, nr, `${nr}`);
  asm.emit(BPF.BPF_JMP_JA, 0, `after ${nr}`);
  asm.label(`${nr}`);
  for (const [i, rule] of rules.entries()) {
    const miss = `${nr}:${i + 1}`;
    for (const [t, test] of rule.args.entries()) {
      compileTest(asm, test, { here: `${nr}:${i}:${t}`, miss });
    }
    asm.emit(BPF.BPF_RET_K, SECCOMP_RET_ALLOW);
    asm.label(miss);
  }
  asm.emit(BPF.BPF_RET_K, denied);
  asm.label(`after ${nr}`);
}

/**
 * Compiles a policy.
 *
 * @param denied what the filter answers for everything else: SECCOMP_RET_USER_NOTIF where a
 *   listener decides, SECCOMP_RET_KILL_PROCESS or, to find out what is needed, SECCOMP_RET_LOG
 * @returns an array of `struct sock_filter`
 */
export function compilePolicy(
  { rules }: Policy,
  denied: number = SECCOMP_RET_KILL_PROCESS,
): Uint8Array<ArrayBuffer> {
  const asm = new Assembler();
  asm.emit(BPF.BPF_LD_W_ABS, OFFSET_ARCH);
  asm.emit(BPF.BPF_JMP_JEQ_K, AUDIT_ARCH_X86_64, "arch is x86-64");
  // Foreign ABIs die even in log mode: under them the numbers below would mean other calls.
  asm.emit(BPF.BPF_RET_K, SECCOMP_RET_KILL_PROCESS);
  asm.label("arch is x86-64");
  asm.emit(BPF.BPF_LD_W_ABS, OFFSET_NR);
  asm.emit(BPF.BPF_JMP_JGE_K, __X32_SYSCALL_BIT, undefined, "abi is not x32");
  asm.emit(BPF.BPF_RET_K, SECCOMP_RET_KILL_PROCESS);
  asm.label("abi is not x32");
  for (const nr of new Set(rules.map((rule) => rule.nr))) {
    compileSyscall(
      asm,
      rules.filter((rule) => rule.nr === nr),
      denied,
    );
  }
  asm.emit(BPF.BPF_RET_K, denied);
  return asm.assemble();
}
