// Every struct, ioctl number and constant of host/kvm/kvm.h.ts against the installed <linux/kvm.h>.

import { test } from "uvu";
import * as assert from "uvu/assert";
import * as kvm from "../../host/kvm/kvm.h.js";
import { claimsOf, headerValues, missingCompiler } from "../support/headers.js";
import { skip } from "../support/skip.js";

const STRUCTS = [
  kvm.kvm_userspace_memory_region,
  kvm.kvm_pit_config,
  kvm.kvm_irqfd,
  kvm.kvm_ioeventfd,
  kvm.kvm_irq_level,
  kvm.kvm_msi,
  kvm.kvm_regs,
  kvm.kvm_segment,
  kvm.kvm_dtable,
  kvm.kvm_sregs,
  kvm.kvm_cpuid_entry2,
  kvm.kvm_cpuid2,
];

/** Members of kvm_run's union: their fields lie behind the head. */
const UNION_MEMBERS = {
  io: kvm.kvm_run_io,
  mmio: kvm.kvm_run_mmio,
  fail_entry: kvm.kvm_run_fail_entry,
  internal: kvm.kvm_run_internal,
  system_event: kvm.kvm_run_system_event,
};

function unionClaims(): [string, bigint][] {
  const claims: [string, bigint][] = [];
  for (const [member, struct] of Object.entries(UNION_MEMBERS)) {
    for (const [field, offset] of Object.entries<number>(struct.offsets)) {
      const expected = BigInt(kvm.kvm_run.size + offset);
      claims.push([`offsetof(struct kvm_run, ${member}.${field})`, expected]);
    }
  }
  for (const [field, offset] of Object.entries<number>(kvm.kvm_run.offsets)) {
    claims.push([`offsetof(struct kvm_run, ${field})`, BigInt(offset)]);
  }
  return claims;
}

function numbers(prefix: string, values: Readonly<Record<string, number>>): [string, bigint][] {
  return Object.entries(values).map(([name, value]) => [`${prefix}${name}`, BigInt(value)]);
}

const claims = new Map<string, bigint>([
  ...STRUCTS.flatMap((struct) => [...claimsOf(struct)]),
  ...unionClaims(),
  ...numbers("KVM_", kvm.KVM),
  ...numbers("KVM_CAP_", kvm.KVM_CAP),
  ...numbers("KVM_EXIT_", kvm.KVM_EXIT),
  ["KVM_API_VERSION", BigInt(kvm.KVM_API_VERSION)],
  ["KVM_PIT_SPEAKER_DUMMY", BigInt(kvm.KVM_PIT_SPEAKER_DUMMY)],
  ["KVM_IOEVENTFD_FLAG_DATAMATCH", BigInt(kvm.KVM_IOEVENTFD_FLAG_DATAMATCH)],
  ["KVM_IOEVENTFD_FLAG_DEASSIGN", BigInt(kvm.KVM_IOEVENTFD_FLAG_DEASSIGN)],
  ["KVM_EXIT_IO_OUT", BigInt(kvm.KVM_EXIT_IO_OUT)],
  ["KVM_SYSTEM_EVENT_SHUTDOWN", BigInt(kvm.KVM_SYSTEM_EVENT_SHUTDOWN)],
  ["KVM_SYSTEM_EVENT_RESET", BigInt(kvm.KVM_SYSTEM_EVENT_RESET)],
  ["KVM_SYSTEM_EVENT_CRASH", BigInt(kvm.KVM_SYSTEM_EVENT_CRASH)],
]);

test("every KVM struct, ioctl number and constant is that of the installed headers", () => {
  const missing = missingCompiler();
  if (missing !== undefined) return skip(missing);
  assert.ok(claims.size > 150, `only ${claims.size} claims`);
  assert.equal(claims, headerValues(["linux/kvm.h"], [...claims.keys()]));
});

test.run();
