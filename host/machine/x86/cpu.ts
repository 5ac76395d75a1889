// What a vCPU is before its first instruction: the features it admits to (CPUID) and the mode it is
// in. Values are those of the Intel SDM volume 3, and of the boot protocols that plan.ts follows.

import type { SegmentDescriptor } from "../../boot/paging.js";
import type { BootPlan } from "../../boot/plan.js";
import type { CpuidEntry } from "../../kvm/kvm.js";
import type { Regs, Sregs } from "../../kvm/vcpu.js";

const CR0_PE = 1n << 0n;
const CR0_ET = 1n << 4n;
const CR0_PG = 1n << 31n;
const CR4_PAE = 1n << 5n;
const EFER_LME = 1n << 8n;
const EFER_LMA = 1n << 10n;
/** Bit 1 of RFLAGS always reads as one. */
const RFLAGS_RESERVED = 2n;

const LEAF_FEATURES = 0x1;
const LEAF_CACHE = 0x4;
const LEAF_TOPOLOGY = 0xb;
const LEAF_TOPOLOGY_V2 = 0x1f;
const LEAF_AMD_SIZES = 0x80000008;
const LEAF_AMD_TOPOLOGY = 0x8000001e;
const FEATURE_ECX_HYPERVISOR = 1 << 31;
const FEATURE_EDX_HTT = 1 << 28;
const TOPOLOGY_LEVEL_SMT = 1;
const TOPOLOGY_LEVEL_CORE = 2;

/** Bits of an APIC id that number the cores of one package. */
function coreBits(cpuCount: number): number {
  return Math.ceil(Math.log2(cpuCount));
}

/** One level of leaf 0xB: how many id bits lie below the next one, and how many CPUs that makes. */
function topologyLevel(entry: CpuidEntry, cpuCount: number): Partial<CpuidEntry> {
  if (entry.index === 0) return { eax: 0, ebx: 1, ecx: (TOPOLOGY_LEVEL_SMT << 8) | 0 };
  if (entry.index === 1) {
    return { eax: coreBits(cpuCount), ebx: cpuCount, ecx: (TOPOLOGY_LEVEL_CORE << 8) | 1 };
  }
  return { eax: 0, ebx: 0, ecx: entry.index };
}

/** What `entry` says for vCPU `index` of `cpuCount`: one package, a core each, APIC id = index. */
function forCpu(entry: CpuidEntry, cpu: { index: number; cpuCount: number }): CpuidEntry {
  const { index, cpuCount } = cpu;
  switch (entry.function) {
    case LEAF_FEATURES: {
      const ebx = ((entry.ebx & 0xffff) | (index << 24) | (cpuCount << 16)) >>> 0;
      const edx = cpuCount > 1 ? entry.edx | FEATURE_EDX_HTT : entry.edx & ~FEATURE_EDX_HTT;
      return { ...entry, ebx, ecx: (entry.ecx | FEATURE_ECX_HYPERVISOR) >>> 0, edx: edx >>> 0 };
    }
    case LEAF_CACHE:
      return { ...entry, eax: ((entry.eax & 0x3fff) | ((cpuCount - 1) << 26)) >>> 0 };
    case LEAF_TOPOLOGY:
    case LEAF_TOPOLOGY_V2:
      return { ...entry, ...topologyLevel(entry, cpuCount), edx: index };
    case LEAF_AMD_SIZES:
      return { ...entry, ecx: ((coreBits(cpuCount) << 12) | (cpuCount - 1)) >>> 0 };
    case LEAF_AMD_TOPOLOGY:
      return { ...entry, eax: index, ebx: index, ecx: 0 };
    default:
      return entry;
  }
}

/** The CPUID of vCPU `index`, from what this KVM supports. */
export function cpuidOf(
  supported: CpuidEntry[],
  cpu: { index: number; cpuCount: number },
): CpuidEntry[] {
  return supported.map((entry) => forCpu(entry, cpu));
}

/** How the first CPU enters the kernel: the part of a boot plan that is about registers. */
export type EntryState = {
  entry: number;
  gdt: { gpa: number; limit: number; code: SegmentDescriptor; data: SegmentDescriptor };
} & (
  | { mode: "long64"; pageTablesGpa: number; bootParamsGpa: number }
  | { mode: "pvh32"; startInfoGpa: number }
);

/** What of `plan` a vCPU thread needs; the segments' bytes stay with the supervisor. */
export function entryStateOf(plan: BootPlan): EntryState {
  const { entry, gdt } = plan;
  if (plan.mode === "pvh32")
    return { entry, gdt, mode: plan.mode, startInfoGpa: plan.startInfoGpa };
  const { mode, pageTablesGpa, bootParamsGpa } = plan;
  return { entry, gdt, mode, pageTablesGpa, bootParamsGpa };
}

function segment(descriptor: SegmentDescriptor): Sregs["cs"] {
  return { ...descriptor, base: BigInt(descriptor.base), avl: 0, unusable: 0, padding: 0 };
}

/**
 * `reset` changed to what the boot protocol wants: flat segments, and for the 64-bit protocol long
 * mode over the plan's page tables. TR and LDT keep KVM's reset values: port access at CPL 3 looks
 * at TR.
 */
export function entrySregs(reset: Sregs, state: EntryState): Sregs {
  const code = segment(state.gdt.code);
  const data = segment(state.gdt.data);
  const gdt = { base: BigInt(state.gdt.gpa), limit: state.gdt.limit, padding: [0, 0, 0] };
  const sregs = { ...reset, cs: code, ds: data, es: data, fs: data, gs: data, ss: data, gdt };
  if (state.mode === "pvh32") return { ...sregs, cr0: CR0_PE | CR0_ET, cr4: 0n, efer: 0n };
  return {
    ...sregs,
    cr0: CR0_PE | CR0_ET | CR0_PG,
    cr3: BigInt(state.pageTablesGpa),
    cr4: CR4_PAE,
    efer: EFER_LME | EFER_LMA,
  };
}

/** General registers at the entry: interrupts off, the argument where the protocol puts it. */
export function entryRegs(state: EntryState): Regs {
  const regs = { rip: BigInt(state.entry), rflags: RFLAGS_RESERVED };
  if (state.mode === "pvh32") return { ...regs, rbx: BigInt(state.startInfoGpa) };
  return { ...regs, rsi: BigInt(state.bootParamsGpa) };
}
