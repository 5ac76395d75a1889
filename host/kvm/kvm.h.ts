// linux/kvm.h and asm/kvm.h: structs, ioctl numbers and constants, by their header names.

import { IO, IOR, IOW, IOWR } from "../ffi/ioctl.js";
import { array, bytes, s32, struct, u8, u16, u32, u64 } from "../ffi/struct.js";

export const KVMIO = 0xae;
export const KVM_API_VERSION = 12;

export const kvm_userspace_memory_region = struct("kvm_userspace_memory_region", 32, {
  slot: u32,
  flags: u32,
  guest_phys_addr: u64,
  memory_size: u64,
  userspace_addr: u64,
});

export const kvm_pit_config = struct("kvm_pit_config", 64, { flags: u32, pad: array(u32, 15) });
export const KVM_PIT_SPEAKER_DUMMY = 1;

export const kvm_irqfd = struct("kvm_irqfd", 32, {
  fd: u32,
  gsi: u32,
  flags: u32,
  resamplefd: u32,
  pad: bytes(16),
});

export const kvm_ioeventfd = struct("kvm_ioeventfd", 64, {
  datamatch: u64,
  addr: u64,
  len: u32,
  fd: s32,
  flags: u32,
  pad: bytes(36),
});
export const KVM_IOEVENTFD_FLAG_DATAMATCH = 1;
export const KVM_IOEVENTFD_FLAG_DEASSIGN = 4;

export const kvm_irq_level = struct("kvm_irq_level", 8, { irq: u32, level: u32 });

export const kvm_msi = struct("kvm_msi", 32, {
  address_lo: u32,
  address_hi: u32,
  data: u32,
  flags: u32,
  devid: u32,
  pad: bytes(12),
});

export const kvm_regs = struct("kvm_regs", 144, {
  rax: u64,
  rbx: u64,
  rcx: u64,
  rdx: u64,
  rsi: u64,
  rdi: u64,
  rsp: u64,
  rbp: u64,
  r8: u64,
  r9: u64,
  r10: u64,
  r11: u64,
  r12: u64,
  r13: u64,
  r14: u64,
  r15: u64,
  rip: u64,
  rflags: u64,
});

export const kvm_segment = struct("kvm_segment", 24, {
  base: u64,
  limit: u32,
  selector: u16,
  type: u8,
  present: u8,
  dpl: u8,
  db: u8,
  s: u8,
  l: u8,
  g: u8,
  avl: u8,
  unusable: u8,
  padding: u8,
});

export const kvm_dtable = struct("kvm_dtable", 16, {
  base: u64,
  limit: u16,
  padding: array(u16, 3),
});

export const kvm_sregs = struct("kvm_sregs", 312, {
  cs: kvm_segment,
  ds: kvm_segment,
  es: kvm_segment,
  fs: kvm_segment,
  gs: kvm_segment,
  ss: kvm_segment,
  tr: kvm_segment,
  ldt: kvm_segment,
  gdt: kvm_dtable,
  idt: kvm_dtable,
  cr0: u64,
  cr2: u64,
  cr3: u64,
  cr4: u64,
  cr8: u64,
  efer: u64,
  apic_base: u64,
  interrupt_bitmap: array(u64, 4),
});

export const kvm_cpuid_entry2 = struct("kvm_cpuid_entry2", 40, {
  function: u32,
  index: u32,
  flags: u32,
  eax: u32,
  ebx: u32,
  ecx: u32,
  edx: u32,
  padding: array(u32, 3),
});

/** The head of kvm_cpuid2; `nent` entries of kvm_cpuid_entry2 follow it. */
export const kvm_cpuid2 = struct("kvm_cpuid2", 8, { nent: u32, padding: u32 });

/** The part of kvm_run before its union. */
export const kvm_run = struct("kvm_run", 32, {
  request_interrupt_window: u8,
  immediate_exit: u8,
  padding1: bytes(6),
  exit_reason: u32,
  ready_for_interrupt_injection: u8,
  if_flag: u8,
  flags: u16,
  cr8: u64,
  apic_base: u64,
});

/** kvm_run.io, in the union behind the head. */
export const kvm_run_io = struct("kvm_run.io", 16, {
  direction: u8,
  size: u8,
  port: u16,
  count: u32,
  data_offset: u64,
});

/** kvm_run.mmio */
export const kvm_run_mmio = struct("kvm_run.mmio", 24, {
  phys_addr: u64,
  data: bytes(8),
  len: u32,
  is_write: u8,
});

/** kvm_run.fail_entry */
export const kvm_run_fail_entry = struct("kvm_run.fail_entry", 16, {
  hardware_entry_failure_reason: u64,
  cpu: u32,
});

/** kvm_run.internal */
export const kvm_run_internal = struct("kvm_run.internal", 136, {
  suberror: u32,
  ndata: u32,
  data: array(u64, 16),
});

/** kvm_run.system_event, its head. */
export const kvm_run_system_event = struct("kvm_run.system_event", 8, { type: u32, ndata: u32 });

/** ioctl numbers, each derived from the struct that it takes. */
export const KVM = {
  GET_API_VERSION: IO(KVMIO, 0x00),
  CREATE_VM: IO(KVMIO, 0x01),
  CHECK_EXTENSION: IO(KVMIO, 0x03),
  GET_VCPU_MMAP_SIZE: IO(KVMIO, 0x04),
  GET_SUPPORTED_CPUID: IOWR(KVMIO, 0x05, kvm_cpuid2),
  CREATE_VCPU: IO(KVMIO, 0x41),
  SET_USER_MEMORY_REGION: IOW(KVMIO, 0x46, kvm_userspace_memory_region),
  SET_TSS_ADDR: IO(KVMIO, 0x47),
  SET_IDENTITY_MAP_ADDR: IOW(KVMIO, 0x48, u64),
  CREATE_IRQCHIP: IO(KVMIO, 0x60),
  IRQ_LINE: IOW(KVMIO, 0x61, kvm_irq_level),
  IRQFD: IOW(KVMIO, 0x76, kvm_irqfd),
  CREATE_PIT2: IOW(KVMIO, 0x77, kvm_pit_config),
  IOEVENTFD: IOW(KVMIO, 0x79, kvm_ioeventfd),
  RUN: IO(KVMIO, 0x80),
  GET_REGS: IOR(KVMIO, 0x81, kvm_regs),
  SET_REGS: IOW(KVMIO, 0x82, kvm_regs),
  GET_SREGS: IOR(KVMIO, 0x83, kvm_sregs),
  SET_SREGS: IOW(KVMIO, 0x84, kvm_sregs),
  SET_CPUID2: IOW(KVMIO, 0x90, kvm_cpuid2),
  SIGNAL_MSI: IOW(KVMIO, 0xa5, kvm_msi),
  KVMCLOCK_CTRL: IO(KVMIO, 0xad),
} as const;

/** KVM_CAP_*: what Bulkhead asks of a KVM. */
export const KVM_CAP = {
  IRQCHIP: 0,
  USER_MEMORY: 3,
  SET_TSS_ADDR: 4,
  EXT_CPUID: 7,
  NR_VCPUS: 9,
  IRQFD: 32,
  PIT2: 33,
  IOEVENTFD: 36,
  MAX_VCPUS: 66,
  TSC_DEADLINE_TIMER: 72,
  SIGNAL_MSI: 77,
  IMMEDIATE_EXIT: 136,
} as const;

export const KVM_EXIT = {
  UNKNOWN: 0,
  IO: 2,
  HLT: 5,
  MMIO: 6,
  SHUTDOWN: 8,
  FAIL_ENTRY: 9,
  INTR: 10,
  INTERNAL_ERROR: 17,
  SYSTEM_EVENT: 24,
} as const;

export const KVM_EXIT_IO_OUT = 1;
export const KVM_SYSTEM_EVENT_SHUTDOWN = 1;
export const KVM_SYSTEM_EVENT_RESET = 2;
export const KVM_SYSTEM_EVENT_CRASH = 3;
