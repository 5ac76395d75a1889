// The VMM confines itself, as the last thing before a guest runs.

import { KVM } from "../kvm/kvm.h.js";
import { prepareFilter } from "../sandbox/install.js";
import { type Policy, syscallsOf } from "../sandbox/policy.js";
import { type InlineDevice, vmmPolicyOf } from "../sandbox/vmm-policy.js";
import { primeVmm } from "../sandbox/vmm-prime.js";
import type { SeccompMode, Transport } from "./config.js";

/** What the vCPU workers still ask of KVM; the first CPU's registers are set as it is let go. */
const KVM_REQUESTS = [
  KVM.RUN,
  KVM.GET_REGS,
  KVM.SET_REGS,
  KVM.GET_SREGS,
  KVM.SET_SREGS,
  KVM.KVMCLOCK_CTRL,
];
/** And the I/O worker, for interrupts of PCI functions and where their queues are notified. */
const PCI_REQUESTS = [KVM.SIGNAL_MSI, KVM.IRQ_LINE, KVM.IOEVENTFD];

/** What of a VM its policy follows from. */
interface Confined {
  /** Devices inside this process. */
  inline: readonly InlineDevice[];
  transport: Transport;
  /** The listening control socket, if there is one. */
  controlFd?: number | undefined;
}

/** The policy of this process, and its distinct system calls. */
export function vmmPolicy({ inline, transport, controlFd }: Confined): {
  policy: Policy;
  syscalls: string[];
} {
  const pciRequests = transport === "pci" ? PCI_REQUESTS : [];
  const kvmRequests = KVM_REQUESTS;
  const { pid } = process;
  const policy = vmmPolicyOf({ pid, kvmRequests, pciRequests, inline, controlFd });
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
  confined: Confined,
): Promise<() => number | null> {
  if (mode === "off") return () => null;
  const { policy, syscalls } = vmmPolicy(confined);
  const install = prepareFilter(policy, mode);
  await primeVmm();
  return () => {
    install();
    return syscalls.length;
  };
}
