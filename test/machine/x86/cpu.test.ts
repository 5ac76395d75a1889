import { test } from "uvu";
import * as assert from "uvu/assert";
import { kvm_sregs } from "../../../host/kvm/kvm.h.js";
import type { CpuidEntry } from "../../../host/kvm/kvm.js";
import type { Sregs } from "../../../host/kvm/vcpu.js";
import { cpuidOf, type EntryState, entryRegs, entrySregs } from "../../../host/machine/x86/cpu.js";

function entry(leaf: number, rest: Partial<CpuidEntry> = {}): CpuidEntry {
  const zero = { index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0, padding: [0, 0, 0] };
  return { ...zero, function: leaf, ...rest };
}

function only(entries: CpuidEntry[], cpu: { index: number; cpuCount: number }): CpuidEntry {
  const [first] = cpuidOf(entries, cpu);
  if (first === undefined) throw new Error("no entry");
  return first;
}

test("CPUID leaf 1 tells the APIC id, the number of vCPUs and that this is a guest", () => {
  const host = entry(1, { ebx: 0x7f_40_0800, edx: 0 });
  const { ebx, ecx, edx } = only([host], { index: 2, cpuCount: 4 });
  assert.is(ebx, 0x02_04_0800);
  assert.is(ecx, 0x80000000);
  assert.is(edx, 1 << 28);
});

test("a single vCPU has no hyper-threading bit, whatever the host has", () => {
  const { edx } = only([entry(1, { edx: 0xffffffff })], { index: 0, cpuCount: 1 });
  assert.is(edx, 0xefffffff);
});

test("CPUID leaf 0xB makes every vCPU a core of one package", () => {
  const leaves = [0, 1, 2].map((index) => entry(0xb, { index }));
  const [smt, core, none] = cpuidOf(leaves, { index: 3, cpuCount: 6 });
  assert.equal([smt?.eax, smt?.ebx, smt?.ecx, smt?.edx], [0, 1, 0x100, 3]);
  assert.equal([core?.eax, core?.ebx, core?.ecx, core?.edx], [3, 6, 0x201, 3]);
  assert.equal([none?.eax, none?.ebx, none?.ecx], [0, 0, 2]);
});

test("an unknown leaf stays what KVM supports", () => {
  const host = entry(0x80000001, { ecx: 5 });
  assert.equal(cpuidOf([host], { index: 0, cpuCount: 1 }), [host]);
});

const descriptor = { base: 0, limit: 0xffffffff, present: 1, dpl: 0, s: 1, g: 1 };
const gdt = {
  gpa: 0x500,
  limit: 31,
  code: { ...descriptor, selector: 0x10, type: 0xb, l: 1, db: 0 },
  data: { ...descriptor, selector: 0x18, type: 0x3, l: 0, db: 1 },
};

function resetSregs(): Sregs {
  const zero = kvm_sregs.read(new DataView(new ArrayBuffer(kvm_sregs.size)), 0);
  return { ...zero, tr: { ...zero.tr, limit: 0xffff } };
}

test("the 64-bit entry is long mode with paging on, RSI = boot_params", () => {
  const state: EntryState = {
    mode: "long64",
    entry: 0x1000200,
    pageTablesGpa: 0x9000,
    bootParamsGpa: 0x7000,
    gdt,
  };
  const sregs = entrySregs(resetSregs(), state);
  assert.is(sregs.cr0, 0x80000011n);
  assert.is(sregs.cr3, 0x9000n);
  assert.is(sregs.cr4, 0x20n);
  assert.is(sregs.efer, 0x500n);
  assert.is(sregs.cs.l, 1);
  assert.is(sregs.tr.limit, 0xffff, "port access at CPL 3 needs TR as KVM resets it");
  const regs = entryRegs(state);
  assert.equal([regs.rip, regs.rsi, regs.rflags], [0x1000200n, 0x7000n, 2n]);
});

test("the PVH entry is 32-bit protected mode without paging, RBX = start info", () => {
  const state: EntryState = { mode: "pvh32", entry: 0x100000, startInfoGpa: 0x6000, gdt };
  const sregs = entrySregs(resetSregs(), state);
  assert.equal([sregs.cr0, sregs.cr4, sregs.efer], [0x11n, 0n, 0n]);
  assert.is(entryRegs(state).rbx, 0x6000n);
});

test.run();
