// The program of a filter with nothing changed but what it does to those it refuses: instead of
// killing, each of its refusals answers with an errno of its own. So one process can be refused
// thousands of times, and says where.

import { BPF, SECCOMP_RET_KILL_PROCESS, SOCK_FILTER_BYTES } from "../../../host/sandbox/bpf.js";
import { SECCOMP } from "../../../host/sandbox/linux.js";
import { type Native, packed } from "./native.js";

/** linux/seccomp.h */
const SECCOMP_RET_ERRNO = 0x0005_0000;
/** No errno of Linux is as large, and the kernel passes on no larger than 4095. */
export const REFUSED_FIRST = 2000;

/** Offsets of the `k` of the instructions that kill. */
export function killsOf(program: Uint8Array<ArrayBuffer>): number[] {
  const view = new DataView(program.buffer);
  const offsets = Array.from({ length: program.length / SOCK_FILTER_BYTES }, (_, i) => i * 8);
  return offsets
    .filter((at) => view.getUint16(at, true) === BPF.BPF_RET_K)
    .map((at) => at + 4)
    .filter((at) => view.getUint32(at, true) === SECCOMP_RET_KILL_PROCESS);
}

/** A copy of `program` whose n-th refusal answers REFUSED_FIRST + n. */
export function harmless(program: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const copy = program.slice();
  const view = new DataView(copy.buffer);
  for (const [n, at] of killsOf(program).entries()) {
    view.setUint32(at, SECCOMP_RET_ERRNO + REFUSED_FIRST + n, true);
  }
  return copy;
}

/** Puts a filter around all threads of this process. */
export function install(native: Native, program: Uint8Array): number {
  const { SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC } = SECCOMP;
  const fprog = packed(8, program.length / SOCK_FILTER_BYTES, native.place(program));
  return native.call("seccomp", SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, fprog);
}
