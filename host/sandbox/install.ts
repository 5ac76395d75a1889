// A policy put into force on every thread of this process.

import { errnoName, VmmError } from "../errors.js";
import { errno, prctl, syscall } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import {
  compilePolicy,
  SECCOMP_RET_KILL_PROCESS,
  SECCOMP_RET_LOG,
  SOCK_FILTER_BYTES,
} from "./bpf.js";
import { PRCTL, SECCOMP } from "./linux.js";
import type { Policy } from "./policy.js";
import { syscallNumber } from "./syscalls.js";

function must(result: number, what: string): void {
  if (result === 0) return;
  const number = errno();
  // seccomp(2) with TSYNC returns the thread that has a filter of another ancestry.
  const why = result > 0 ? `thread ${result} has a filter of its own` : errnoName(number);
  throw new VmmError("ERR_SANDBOX", `Cannot confine the VMM: ${what}: ${why}`, {
    errno: result > 0 ? undefined : number,
    syscall: what,
  });
}

/** A filter in memory that the kernel can take it from. */
export class Filter {
  readonly #fprog: Mapping;

  /** @param program an array of `struct sock_filter` */
  constructor(program: Uint8Array) {
    // struct sock_fprog { unsigned short len; struct sock_filter *filter; }, then the filter.
    const fprog = Mapping.anonymous(16 + program.length);
    fprog.view.setUint16(0, program.length / SOCK_FILTER_BYTES, true);
    fprog.view.setBigUint64(8, BigInt(fprog.address + 16), true);
    new Uint8Array(fprog.view.buffer).set(program, 16);
    this.#fprog = fprog;
  }

  /** What seccomp(2) returns for SECCOMP_SET_MODE_FILTER with `flags`; -1 sets errno. */
  install(flags: number): number {
    const { SECCOMP_SET_MODE_FILTER: operation } = SECCOMP;
    return syscall(syscallNumber("seccomp"), operation, flags, this.#fprog.address, 0, 0, 0);
  }
}

/**
 * Compiles a policy, so that putting it into force takes no time.
 *
 * @returns installs the filter on all threads, those of Node included, for good: what the policy
 *   does not allow kills the process, or in mode "log" is noted in the kernel's log. It throws
 *   VmmError ERR_SANDBOX, and then no thread has the filter
 */
export function prepareFilter(policy: Policy, mode: "enforce" | "log"): () => void {
  const denied = mode === "log" ? SECCOMP_RET_LOG : SECCOMP_RET_KILL_PROCESS;
  const filter = new Filter(compilePolicy(policy, denied));
  return () => {
    must(prctl(PRCTL.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)");
    must(filter.install(SECCOMP.SECCOMP_FILTER_FLAG_TSYNC), "seccomp");
  };
}
