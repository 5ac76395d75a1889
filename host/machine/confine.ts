// The VMM confines itself, as the last thing before a guest runs.

import { KVM } from "../kvm/kvm.h.js";
import { prepareFilter } from "../sandbox/install.js";
import { type Policy, syscallsOf } from "../sandbox/policy.js";
import { type InlineDevice, vmmPolicyOf } from "../sandbox/vmm-policy.js";
import { primeVmm } from "../sandbox/vmm-prime.js";
import type { SeccompMode } from "./config.js";

/** What the vCPU workers still ask of KVM; the first CPU's registers are set as it is let go. */
const KVM_REQUESTS = [KVM.RUN, KVM.GET_REGS, KVM.SET_REGS, KVM.GET_SREGS, KVM.SET_SREGS];

/** The policy of this process with these devices inside it, and its distinct system calls. */
export function vmmPolicy(inline: readonly InlineDevice[]): { policy: Policy; syscalls: string[] } {
  const policy = vmmPolicyOf({ pid: process.pid, kvmRequests: KVM_REQUESTS, inline });
  return { policy, syscalls: syscallsOf(policy) };
}

/**
 * Makes ready for the filter of `mode`, so that putting it into force takes no time.
 *
 * @returns confines this process, with all its threads and for good; the function returns how many
 *   system calls are left, or null in mode "off", and throws VmmError ERR_SANDBOX
 */
export async function prepareConfinement(
  mode: SeccompMode,
  inline: readonly InlineDevice[],
): Promise<() => number | null> {
  if (mode === "off") return () => null;
  const { policy, syscalls } = vmmPolicy(inline);
  const install = prepareFilter(policy, mode);
  await primeVmm();
  return () => {
    install();
    return syscalls.length;
  };
}
