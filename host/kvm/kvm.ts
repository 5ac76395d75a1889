// Kvm → Vm → Vcpu: one class for each kind of descriptor that /dev/kvm gives
// (Documentation/virt/kvm/ api.rst). No other file issues a KVM ioctl.

import { errnoName, VmmError } from "../errors.js";
import { checked, close, errno, ioctl, open } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import type { Struct } from "../ffi/struct.js";
import {
  KVM,
  KVM_API_VERSION,
  KVM_CAP,
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_PIT_SPEAKER_DUMMY,
  kvm_cpuid_entry2,
  kvm_cpuid2,
  kvm_ioeventfd,
  kvm_irqfd,
  kvm_pit_config,
  kvm_regs,
  kvm_run,
  kvm_run_io,
  kvm_run_mmio,
  kvm_sregs,
  kvm_userspace_memory_region,
} from "./kvm.h.js";

const O_RDWR = 2;
const O_CLOEXEC = 0x80000;
const ENOENT = 2;
const E2BIG = 7;
const EACCES = 13;

/** KVM_GET_SUPPORTED_CPUID gives 40 to 100 entries; KVM_MAX_CPUID_ENTRIES is 256. */
const CPUID_ENTRIES_MAX = 256;

/**
 * Three pages for the real-mode TSS and one for the identity map that Intel's VMX needs, out of
 * RAM's way.
 */
const TSS_GPA = 0xfffbd000;
const IDENTITY_MAP_GPA = 0xfffbc000;

export type CpuidEntry = ReturnType<typeof kvm_cpuid_entry2.read>;
export type Regs = Partial<ReturnType<typeof kvm_regs.read>>;
export type Sregs = ReturnType<typeof kvm_sregs.read>;

const LEAF_FEATURES = 1;
const FEATURE_ECX_TSC_DEADLINE = 1 << 24;

/** What a KVM must offer; the reason completes the error "This KVM cannot …". */
const NEEDED: readonly (readonly [capability: keyof typeof KVM_CAP, reason: string])[] = [
  ["USER_MEMORY", "map guest memory"],
  ["IRQCHIP", "emulate the interrupt controllers in the kernel"],
  ["PIT2", "emulate the timer in the kernel"],
  ["IRQFD", "raise interrupts from an eventfd"],
  ["IOEVENTFD", "turn a guest's notification into an eventfd"],
  ["EXT_CPUID", "tell which processor features a guest may have"],
  ["IMMEDIATE_EXIT", "stop a vCPU without a race"],
];

/** Likely causes of a failed open of /dev/kvm. */
function openHint(number: number): string {
  if (number === ENOENT) {
    return "is KVM in this kernel and switched on (modprobe kvm-intel or kvm-amd)?";
  }
  if (number === EACCES)
    return "is this user in group kvm (usermod -aG kvm $USER, then log in anew)?";
  return "does another hypervisor hold the processor?";
}

/**
 * KVM leaves this feature of its local APIC out of the list and tells of it by a capability
 * (api.rst, KVM_GET_SUPPORTED_CPUID); a guest without it falls back to a slower timer.
 */
function withTscDeadline(entry: CpuidEntry): CpuidEntry {
  if (entry.function !== LEAF_FEATURES) return entry;
  return { ...entry, ecx: (entry.ecx | FEATURE_ECX_TSC_DEADLINE) >>> 0 };
}

/** One argument of an ioctl: encoded into `scratch`, passed by address, read back from there. */
class Scratch {
  readonly mapping = Mapping.anonymous(16 * 1024);

  call(fd: number, request: number, name: string): number {
    return checked(ioctl(fd, request, this.mapping.address), `ioctl(${name})`, "KVM refused");
  }

  /**
   * Writes `value` over a zeroed struct and calls; the argument is the kernel's only in between.
   */
  set<S extends Struct>(
    type: S,
    value: Parameters<S["write"]>[2],
    target: { fd: number; request: number; name: string },
  ): number {
    new Uint8Array(this.mapping.view.buffer, 0, type.size).fill(0);
    type.write(this.mapping.view, 0, value);
    return this.call(target.fd, target.request, target.name);
  }
}

/** /dev/kvm. */
export class Kvm {
  readonly fd: number;
  readonly #scratch = new Scratch();

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** Opens `path` and checks that this KVM can do what Bulkhead needs; ERR_KVM_* otherwise. */
  static open(path = "/dev/kvm"): Kvm {
    const fd = open(path, O_RDWR | O_CLOEXEC, 0);
    if (fd === -1) {
      const number = errno();
      const message = `Cannot open "${path}": ${errnoName(number)}, ${openHint(number)}`;
      throw new VmmError("ERR_KVM_UNAVAILABLE", message, { errno: number, syscall: "open" });
    }
    const kvm = new Kvm(fd);
    kvm.#checkAbilities(path);
    return kvm;
  }

  #checkAbilities(path: string): void {
    const version = ioctl(this.fd, KVM.GET_API_VERSION, 0);
    if (version !== KVM_API_VERSION) {
      throw new VmmError(
        "ERR_KVM_UNAVAILABLE",
        `Cannot use "${path}": its API version is ${version}, not ${KVM_API_VERSION}, is it KVM?`,
      );
    }
    for (const [name, reason] of NEEDED) {
      if (this.extension(KVM_CAP[name]) > 0) continue;
      throw new VmmError(
        "ERR_KVM_CAPABILITY",
        `This KVM cannot ${reason}: KVM_CAP_${name} is missing, is the kernel older than 4.12?`,
      );
    }
  }

  /** KVM_CHECK_EXTENSION: 0 when absent, otherwise 1 or a quantity. */
  extension(capability: number): number {
    return ioctl(this.fd, KVM.CHECK_EXTENSION, capability);
  }

  /** The largest number of vCPUs of one VM. */
  get vcpuCountMax(): number {
    return this.extension(KVM_CAP.MAX_VCPUS) || this.extension(KVM_CAP.NR_VCPUS) || 4;
  }

  /** KVM_GET_VCPU_MMAP_SIZE: bytes of kvm_run and what follows it. */
  get runBytes(): number {
    return checked(
      ioctl(this.fd, KVM.GET_VCPU_MMAP_SIZE, 0),
      "KVM_GET_VCPU_MMAP_SIZE",
      "KVM refused",
    );
  }

  /** KVM_GET_SUPPORTED_CPUID: the features that this KVM can give to a guest. */
  supportedCpuid(): CpuidEntry[] {
    const { view } = this.#scratch.mapping;
    kvm_cpuid2.write(view, 0, { nent: CPUID_ENTRIES_MAX, padding: 0 });
    if (ioctl(this.fd, KVM.GET_SUPPORTED_CPUID, this.#scratch.mapping.address) === -1) {
      const hint = errno() === E2BIG ? ", more CPUID entries than KVM documents" : "";
      throw new VmmError(
        "ERR_KVM_CAPABILITY",
        `KVM_GET_SUPPORTED_CPUID: ${errnoName(errno())}${hint}`,
      );
    }
    const { nent } = kvm_cpuid2.read(view, 0);
    const entries = Array.from({ length: nent }, (_, i) =>
      kvm_cpuid_entry2.read(view, kvm_cpuid2.size + i * kvm_cpuid_entry2.size),
    );
    return this.extension(KVM_CAP.TSC_DEADLINE_TIMER) > 0 ? entries.map(withTscDeadline) : entries;
  }

  /** KVM_CREATE_VM, with the in-kernel interrupt controllers and timer. */
  createVm(): Vm {
    const fd = checked(ioctl(this.fd, KVM.CREATE_VM, 0), "KVM_CREATE_VM", "Cannot create a VM");
    return new Vm(fd);
  }

  close(): void {
    this.#scratch.mapping.close();
    close(this.fd);
  }
}

/** One virtual machine: its memory, interrupt lines and notification addresses. */
export class Vm {
  readonly fd: number;
  readonly #scratch = new Scratch();

  constructor(fd: number) {
    this.fd = fd;
  }

  /** KVM_CREATE_IRQCHIP and KVM_CREATE_PIT2; must come before the first vCPU. */
  createInterruptControllers(): void {
    checked(ioctl(this.fd, KVM.SET_TSS_ADDR, TSS_GPA), "KVM_SET_TSS_ADDR", "KVM refused");
    this.#scratch.mapping.view.setBigUint64(0, BigInt(IDENTITY_MAP_GPA), true);
    this.#scratch.call(this.fd, KVM.SET_IDENTITY_MAP_ADDR, "KVM_SET_IDENTITY_MAP_ADDR");
    checked(ioctl(this.fd, KVM.CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP", "KVM refused");
    const flags = KVM_PIT_SPEAKER_DUMMY;
    this.#set(kvm_pit_config, { flags }, KVM.CREATE_PIT2, "KVM_CREATE_PIT2");
  }

  /** KVM_SET_USER_MEMORY_REGION: `bytes` at host address `hva` appear to the guest at `gpa`. */
  mapMemory(slot: number, region: { gpa: number; bytes: number; hva: number }): void {
    const value = {
      slot,
      flags: 0,
      guest_phys_addr: BigInt(region.gpa),
      memory_size: BigInt(region.bytes),
      userspace_addr: BigInt(region.hva),
    };
    const name = "KVM_SET_USER_MEMORY_REGION";
    this.#set(kvm_userspace_memory_region, value, KVM.SET_USER_MEMORY_REGION, name);
  }

  /** KVM_IRQFD: a write to eventfd `fd` raises interrupt line `gsi` (edge). */
  irqfd(fd: number, gsi: number): void {
    this.#set(kvm_irqfd, { fd, gsi }, KVM.IRQFD, "KVM_IRQFD");
  }

  /**
   * KVM_IOEVENTFD: a 32-bit guest write of `value` to `gpa` signals eventfd `fd` instead of
   * exiting.
   */
  ioeventfd(fd: number, match: { gpa: number; value: number }): void {
    const argument = {
      datamatch: BigInt(match.value),
      addr: BigInt(match.gpa),
      len: 4,
      fd,
      flags: KVM_IOEVENTFD_FLAG_DATAMATCH,
    };
    this.#set(kvm_ioeventfd, argument, KVM.IOEVENTFD, "KVM_IOEVENTFD");
  }

  #set<S extends Struct>(
    type: S,
    value: Parameters<S["write"]>[2],
    request: number,
    name: string,
  ): void {
    this.#scratch.set(type, value, { fd: this.fd, request, name });
  }

  close(): void {
    this.#scratch.mapping.close();
    close(this.fd);
  }
}

const RUN_UNION = kvm_run.size;
const EXIT_REASON = kvm_run.offsets.exit_reason;
const IO_DIRECTION = RUN_UNION + kvm_run_io.offsets.direction;
const IO_SIZE = RUN_UNION + kvm_run_io.offsets.size;
const IO_PORT = RUN_UNION + kvm_run_io.offsets.port;
const IO_COUNT = RUN_UNION + kvm_run_io.offsets.count;
const IO_DATA_OFFSET = RUN_UNION + kvm_run_io.offsets.data_offset;
const MMIO_PHYS_ADDR = RUN_UNION + kvm_run_mmio.offsets.phys_addr;
const MMIO_DATA = RUN_UNION + kvm_run_mmio.offsets.data;
const MMIO_LEN = RUN_UNION + kvm_run_mmio.offsets.len;
const MMIO_IS_WRITE = RUN_UNION + kvm_run_mmio.offsets.is_write;

/** One virtual processor. Lives on the thread that created it (KVM API, "vcpu ioctls"). */
export class Vcpu {
  readonly index: number;
  readonly run: DataView<ArrayBuffer>;
  /** Host address of kvm_run: another thread sets immediate_exit through it. */
  readonly runAddress: number;
  readonly #fd: number;
  readonly #mapping: Mapping;
  readonly #scratch = new Scratch();

  private constructor(fd: number, index: number, mapping: Mapping) {
    this.#fd = fd;
    this.index = index;
    this.#mapping = mapping;
    this.run = mapping.view;
    this.runAddress = mapping.address;
  }

  /** KVM_CREATE_VCPU on VM `vmFd`, with kvm_run mapped (`runBytes` of it). */
  static create(vmFd: number, options: { index: number; runBytes: number }): Vcpu {
    const { index, runBytes } = options;
    const fd = checked(
      ioctl(vmFd, KVM.CREATE_VCPU, index),
      "KVM_CREATE_VCPU",
      `Cannot create vCPU ${index}`,
    );
    return new Vcpu(fd, index, Mapping.shared(fd, runBytes));
  }

  setCpuid(entries: CpuidEntry[]): void {
    const { view } = this.#scratch.mapping;
    kvm_cpuid2.write(view, 0, { nent: entries.length, padding: 0 });
    for (const [i, entry] of entries.entries()) {
      kvm_cpuid_entry2.write(view, kvm_cpuid2.size + i * kvm_cpuid_entry2.size, entry);
    }
    this.#scratch.call(this.#fd, KVM.SET_CPUID2, "KVM_SET_CPUID2");
  }

  get sregs(): Sregs {
    this.#scratch.call(this.#fd, KVM.GET_SREGS, "KVM_GET_SREGS");
    return kvm_sregs.read(this.#scratch.mapping.view, 0);
  }

  set sregs(value: Sregs) {
    const target = { fd: this.#fd, request: KVM.SET_SREGS, name: "KVM_SET_SREGS" };
    this.#scratch.set(kvm_sregs, value, target);
  }

  get regs(): Required<Regs> {
    this.#scratch.call(this.#fd, KVM.GET_REGS, "KVM_GET_REGS");
    return kvm_regs.read(this.#scratch.mapping.view, 0);
  }

  set regs(value: Regs) {
    const target = { fd: this.#fd, request: KVM.SET_REGS, name: "KVM_SET_REGS" };
    this.#scratch.set(kvm_regs, value, target);
  }

  /** KVM_RUN until the next exit; 0, or -1 with errno (EINTR after a kick). */
  enter(): number {
    return ioctl(this.#fd, KVM.RUN, 0);
  }

  get exitReason(): number {
    return this.run.getUint32(EXIT_REASON, true);
  }

  get ioIsOut(): boolean {
    return this.run.getUint8(IO_DIRECTION) === 1;
  }

  /** Width of the port access: 1, 2 or 4 bytes. */
  get ioBytes(): number {
    return this.run.getUint8(IO_SIZE);
  }

  get ioPort(): number {
    return this.run.getUint16(IO_PORT, true);
  }

  /** How many accesses of `ioBytes` a string instruction made. */
  get ioCount(): number {
    return this.run.getUint32(IO_COUNT, true);
  }

  /** Where in `run` the data of the port access lies. */
  get ioDataOffset(): number {
    return this.run.getUint32(IO_DATA_OFFSET, true);
  }

  get mmioGpa(): number {
    const low = this.run.getUint32(MMIO_PHYS_ADDR, true);
    return low + this.run.getUint32(MMIO_PHYS_ADDR + 4, true) * 2 ** 32;
  }

  get mmioIsWrite(): boolean {
    return this.run.getUint8(MMIO_IS_WRITE) !== 0;
  }

  /** Width of the memory access: 1 to 8 bytes. */
  get mmioBytes(): number {
    return this.run.getUint32(MMIO_LEN, true);
  }

  /** Where in `run` the data of the memory access lies. */
  get mmioDataOffset(): number {
    return MMIO_DATA;
  }

  close(): void {
    this.#mapping.close();
    this.#scratch.mapping.close();
    close(this.#fd);
  }
}
