// How a VM ends: what a vCPU, a signal or a failed device means for the exit status.

import { EXIT } from "../errors.js";
import { _exit } from "../ffi/libc.js";
import type { GuestExit } from "./config.js";
import type { VcpuExit } from "./vcpu-worker.js";

/** An end that does not come from the guest. */
export type StopCause = { reason: "stopped" | "device-failed"; detail: string };

/** Asked by whoever wants the VM to end; the first cause counts. */
export class StopRequest {
  request: (cause: StopCause) => void = () => {};
  readonly requested: Promise<StopCause> = new Promise((resolve) => {
    this.request = resolve;
  });
}

/** isa-debug-exit's rule: odd, so that no guest can claim the success that it did not have. */
function debugExitStatus(value: number): number {
  return ((value << 1) | 1) & 0xff;
}

/** What the process tells its caller about `cause`. */
export function guestExitOf(cause: VcpuExit | StopCause): GuestExit {
  switch (cause.reason) {
    case "poweroff":
    case "reboot":
      return { reason: cause.reason, status: EXIT.ok };
    case "debug-exit": {
      const { reason, value } = cause;
      return { reason, status: debugExitStatus(value), detail: `value ${value}` };
    }
    case "triple-fault":
      return { reason: cause.reason, status: EXIT.guestCrashed };
    case "internal-error":
      return { reason: cause.reason, status: EXIT.guestCrashed, detail: cause.detail };
    case "device-failed":
      return { reason: cause.reason, status: EXIT.deviceFailed, detail: cause.detail };
    case "stopped": {
      const detail = "detail" in cause ? { detail: cause.detail } : {};
      return { reason: cause.reason, status: EXIT.ok, ...detail };
    }
  }
}

/** Ends the process with `status` and without what its libraries do at their end. */
export function leaveAtOnce(status: number): never {
  return _exit(status);
}
