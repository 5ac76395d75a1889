// A hold on a process: unlike its pid, it can never come to mean another one (pidfd_open(2)).

import { checked, close, syscall } from "../ffi/libc.js";
import { SIGNAL } from "./linux.js";
import { syscallNumber } from "./syscalls.js";

/** A descriptor of a process, close-on-exec: who has it may end that process and no other. */
export class PidFd {
  readonly fd: number;

  /** @param pid a child that was not reaped yet, or the pid may be somebody else's */
  constructor(pid: number) {
    const fd = syscall(syscallNumber("pidfd_open"), pid, 0, 0, 0, 0, 0);
    const action = `Cannot hold process ${pid}`;
    this.fd = checked(fd, "pidfd_open", action, "ERR_SANDBOX");
  }

  /** Ends the process; nothing happens when it has ended already. */
  kill(): void {
    this.#send(SIGNAL.SIGKILL);
  }

  /** The process waits until go(). */
  stop(): void {
    this.#send(SIGNAL.SIGSTOP);
  }

  go(): void {
    this.#send(SIGNAL.SIGCONT);
  }

  #send(signal: number): void {
    syscall(syscallNumber("pidfd_send_signal"), this.fd, signal, 0, 0, 0, 0);
  }

  close(): void {
    close(this.fd);
  }
}
