// How a process of ours shares the processor with the others (sched(7)).

import { syscall } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { SCHED } from "./linux.js";
import { syscallNumber } from "./syscalls.js";

const SELF = 0;

/** What cannot be set, by a user who may not, stays as it is: it is a matter of speed alone. */
function set(pid: number, policy: number): void {
  const schedParam = Mapping.anonymous(4); // its priority is 0
  syscall(syscallNumber("sched_setscheduler"), pid, policy, schedParam.address, 0, 0, 0);
  schedParam.close();
}

function ofSelf(): number {
  return syscall(syscallNumber("sched_getscheduler"), SELF, 0, 0, 0, 0, 0);
}

/** Has `pid` wait for its turn when it wakes up, instead of taking that of who runs. */
export function waitForTurn(pid: number): void {
  if (ofSelf() === SCHED.SCHED_NORMAL) set(pid, SCHED.SCHED_BATCH);
}

/** Undoes waitForTurn(), in the process itself. */
export function takeTurn(): void {
  if (ofSelf() === SCHED.SCHED_BATCH) set(SELF, SCHED.SCHED_NORMAL);
}
