// The registers of a vCPU as text for a person, as a kernel's oops has them.

import type { VcpuRegisters } from "../vcpu-worker.js";

type Segment = VcpuRegisters["sregs"]["cs"];

function hex(value: number | bigint | undefined, digits = 16): string {
  return (value ?? 0).toString(16).padStart(digits, "0");
}

function segment(name: string, { selector, base, limit, dpl, l }: Segment): string {
  const mode = l === 1 ? ", 64-bit" : "";
  return `${name} ${hex(selector, 4)} base ${hex(base)} limit ${hex(limit, 8)} dpl ${dpl}${mode}`;
}

/** Lines about the registers of a vCPU. */
export function describeRegisters({ regs, sregs }: VcpuRegisters): string[] {
  const general = (names: (keyof typeof regs)[]) =>
    names.map((name) => `${name.padEnd(3)} ${hex(regs[name])}`).join("  ");
  const { cr0, cr2, cr3, cr4, efer, gdt, idt } = sregs;
  return [
    `rip ${hex(regs.rip)}  rflags ${hex(regs.rflags, 8)}`,
    general(["rax", "rbx", "rcx"]),
    general(["rdx", "rsi", "rdi"]),
    general(["rbp", "rsp", "r8"]),
    general(["r9", "r10", "r11"]),
    general(["r12", "r13", "r14"]),
    general(["r15"]),
    segment("cs ", sregs.cs),
    segment("ss ", sregs.ss),
    segment("fs ", sregs.fs),
    segment("gs ", sregs.gs),
    `cr0 ${hex(cr0, 8)}  cr2 ${hex(cr2)}  cr3 ${hex(cr3)}  cr4 ${hex(cr4, 8)}`,
    `efer ${hex(efer, 8)}  gdt ${hex(gdt.base)}+${hex(gdt.limit, 4)}  ` +
      `idt ${hex(idt.base)}+${hex(idt.limit, 4)}`,
  ];
}
