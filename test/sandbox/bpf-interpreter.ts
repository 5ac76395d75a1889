// Classic BPF as the kernel runs it for seccomp (net/core/filter.c, kernel/seccomp.c): the filter
// is checked without installing it.

import * as assert from "uvu/assert";
import { AUDIT_ARCH_X86_64, BPF, SOCK_FILTER_BYTES } from "../../host/sandbox/bpf.js";

/** What a filter sees of a system call. */
export interface Call {
  nr: number;
  arch?: number;
  args?: readonly bigint[];
}

const SECCOMP_DATA_BYTES = 64;

function seccompData({ nr, arch = AUDIT_ARCH_X86_64, args = [] }: Call): DataView {
  const view = new DataView(new ArrayBuffer(SECCOMP_DATA_BYTES));
  view.setUint32(0, nr >>> 0, true);
  view.setUint32(4, arch, true);
  for (const [i, arg] of args.entries())
    view.setBigUint64(16 + i * 8, BigInt.asUintN(64, arg), true);
  return view;
}

/** Runs `program` over one system call; every access and jump must stay inside. */
export function evaluate(program: Uint8Array, call: Call): number {
  const code = new DataView(program.buffer, program.byteOffset, program.length);
  const data = seccompData(call);
  const count = program.length / SOCK_FILTER_BYTES;
  let accumulator = 0;
  for (let pc = 0; ; pc++) {
    assert.ok(pc < count, `the program runs off its end at ${pc}`);
    const at = pc * SOCK_FILTER_BYTES;
    const k = code.getUint32(at + 4, true);
    const jump = (taken: boolean) => code.getUint8(at + (taken ? 2 : 3));
    switch (code.getUint16(at, true)) {
      case BPF.BPF_LD_W_ABS:
        assert.ok(k % 4 === 0 && k < SECCOMP_DATA_BYTES, `load of offset ${k}`);
        accumulator = data.getUint32(k, true);
        break;
      case BPF.BPF_ALU_AND_K:
        accumulator = (accumulator & k) >>> 0;
        break;
      case BPF.BPF_JMP_JA:
        pc += k;
        break;
      case BPF.BPF_JMP_JEQ_K:
        pc += jump(accumulator === k);
        break;
      case BPF.BPF_JMP_JGE_K:
        pc += jump(accumulator >= k);
        break;
      case BPF.BPF_RET_K:
        return k;
      default:
        assert.unreachable(`unknown instruction ${code.getUint16(at, true)}`);
    }
  }
}
