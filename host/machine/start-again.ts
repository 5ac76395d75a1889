// A process without io_uring: started again under a filter for which the kernel has none. libuv
// then does as on an older kernel.

import { VmmError } from "../errors.js";
import { prctl } from "../ffi/libc.js";
import {
  BPF,
  OFFSET_NR,
  SECCOMP_RET_ALLOW,
  SECCOMP_RET_ERRNO,
  SOCK_FILTER_BYTES,
} from "../sandbox/bpf.js";
import { Filter } from "../sandbox/install.js";
import { PRCTL } from "../sandbox/linux.js";
import { syscallNumber } from "../sandbox/syscalls.js";

const ENOSYS = 38;

/** Since Node 22.15; @types/node are those of the oldest Node that Bulkhead runs with. */
type Execve = (file: string, args: readonly string[], env: NodeJS.ProcessEnv) => never;

/** Answers io_uring_setup(2) with ENOSYS, and lets everything else through. */
function filterOfIoUring(): Filter {
  const program = [
    { code: BPF.BPF_LD_W_ABS, jf: 0, k: OFFSET_NR },
    { code: BPF.BPF_JMP_JEQ_K, jf: 1, k: syscallNumber("io_uring_setup") },
    { code: BPF.BPF_RET_K, jf: 0, k: SECCOMP_RET_ERRNO + ENOSYS },
    { code: BPF.BPF_RET_K, jf: 0, k: SECCOMP_RET_ALLOW },
  ];
  const bytes = new DataView(new ArrayBuffer(program.length * SOCK_FILTER_BYTES));
  for (const [i, { code, jf, k }] of program.entries()) {
    bytes.setUint16(i * SOCK_FILTER_BYTES, code, true);
    bytes.setUint8(i * SOCK_FILTER_BYTES + 3, jf);
    bytes.setUint32(i * SOCK_FILTER_BYTES + 4, k, true);
  }
  return new Filter(new Uint8Array(bytes.buffer));
}

/**
 * Starts this program again, in this process and with these arguments, where no ring can be had.
 * Returns where the kernel has no filters either: then nothing is confined, which others say.
 *
 * @throws VmmError ERR_SANDBOX where Node cannot do that
 */
export function startAgainWithoutIoUring(): void {
  const { execve } = process as unknown as { execve?: Execve };
  if (execve === undefined) {
    const what = `Cannot confine the VMM: Node ${process.versions.node} has a ring of io_uring`;
    throw new VmmError(
      "ERR_SANDBOX",
      `${what}\nuse Node 22.15 or later, or 20 without UV_USE_IO_URING`,
    );
  }
  if (prctl(PRCTL.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) !== 0) return;
  if (filterOfIoUring().install(0) !== 0) return;
  const args = [process.argv0, ...process.execArgv, ...process.argv.slice(1)];
  execve.call(process, process.execPath, args, process.env);
}
