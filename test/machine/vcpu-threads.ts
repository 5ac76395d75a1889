// Whether a guest's virtual CPU that hangs does so in KVM or in bulkhead, seen from outside.

import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const SAMPLES = 20;
const SAMPLE_MS = 30;

/** In /proc/PID/task/TID/syscall: it runs, here or in its guest, or is in ioctl(fd, KVM_RUN). */
const IN_KVM = /^(?:running|16 0x[0-9a-f]+ 0xae80 )/;

/** The kernel's own threads in the process of a VM, which count as running. */
const OF_THE_KERNEL = /^kvm-/;

function isInKvm(thread: string): boolean {
  try {
    const read = (file: string) => fs.readFileSync(`${thread}/${file}`, "latin1");
    return IN_KVM.test(read("syscall")) && !OF_THE_KERNEL.test(read("comm"));
  } catch {
    return false; // it has ended
  }
}

/**
 * How many threads of `pid` are in KVM_RUN whenever one looks. A vCPU whose access nobody answers
 * waits for a futex instead.
 */
export async function threadsInKvm(pid: number): Promise<number> {
  const directory = `/proc/${pid}/task`;
  let threads = fs.existsSync(directory) ? fs.readdirSync(directory) : [];
  for (let sample = 0; sample < SAMPLES; sample++) {
    threads = threads.filter((thread) => isInKvm(`${directory}/${thread}`));
    await sleep(SAMPLE_MS);
  }
  return threads.length;
}
