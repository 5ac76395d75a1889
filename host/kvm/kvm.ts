// Kvm → Vm → Vcpu (vcpu.ts): one class for each kind of descriptor that /dev/kvm gives
// (Documentation/virt/kvm/api.rst). No other folder issues a KVM ioctl.

import { errnoName, VmmError } from "../errors.js";
import { checked, close, errno, ioctl, ioctlAside, open } from "../ffi/libc.js";
import type { Struct } from "../ffi/struct.js";
import {
  KVM,
  KVM_API_VERSION,
  KVM_CAP,
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_IOEVENTFD_FLAG_DEASSIGN,
  KVM_PIT_SPEAKER_DUMMY,
  kvm_cpuid_entry2,
  kvm_cpuid2,
  kvm_ioeventfd,
  kvm_irq_level,
  kvm_irqfd,
  kvm_msi,
  kvm_pit_config,
  kvm_userspace_memory_region,
} from "./kvm.h.js";
import { Scratch } from "./scratch.js";

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

/** A message-signalled interrupt: a write of `data` to an address. */
export interface Msi {
  addressLow: number;
  addressHigh: number;
  data: number;
}

export type CpuidEntry = ReturnType<typeof kvm_cpuid_entry2.read>;

const LEAF_FEATURES = 1;
const FEATURE_ECX_TSC_DEADLINE = 1 << 24;

/** What a KVM must offer; the reason completes the error "This KVM cannot …". */
const NEEDED: readonly (readonly [capability: keyof typeof KVM_CAP, reason: string])[] = [
  ["USER_MEMORY", "map guest memory"],
  ["IRQCHIP", "emulate the interrupt controllers in the kernel"],
  ["PIT2", "emulate the timer in the kernel"],
  ["IRQFD", "raise interrupts from an eventfd"],
  ["IOEVENTFD", "turn a guest's notification into an eventfd"],
  ["SIGNAL_MSI", "send a message-signalled interrupt"],
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

  /** KVM_CREATE_IRQCHIP and KVM_CREATE_PIT2; must come before the first vCPU and any irqfd(). */
  async createInterruptControllers(): Promise<void> {
    checked(ioctl(this.fd, KVM.SET_TSS_ADDR, TSS_GPA), "KVM_SET_TSS_ADDR", "KVM refused");
    this.#scratch.mapping.view.setBigUint64(0, BigInt(IDENTITY_MAP_GPA), true);
    this.#scratch.call(this.fd, KVM.SET_IDENTITY_MAP_ADDR, "KVM_SET_IDENTITY_MAP_ADDR");
    // Without an argument: meanwhile the memory for those of other calls is theirs.
    if ((await ioctlAside(this.fd, KVM.CREATE_IRQCHIP, 0)) === -1) {
      checked(ioctl(this.fd, KVM.CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP", "KVM refused");
    }
    const flags = KVM_PIT_SPEAKER_DUMMY;
    this.#set(kvm_pit_config, { flags }, KVM.CREATE_PIT2, "KVM_CREATE_PIT2");
  }

  /** KVM_SET_USER_MEMORY_REGION: `bytes` at host address `hva` appear to the guest at `gpa`. */
  async mapMemory(
    slot: number,
    region: { gpa: number; bytes: number; hva: number },
  ): Promise<void> {
    const value = {
      slot,
      flags: 0,
      guest_phys_addr: BigInt(region.gpa),
      memory_size: BigInt(region.bytes),
      userspace_addr: BigInt(region.hva),
    };
    const name = "KVM_SET_USER_MEMORY_REGION";
    const argument = new Scratch();
    try {
      argument.fill(kvm_userspace_memory_region, value);
      await argument.callAside(this.fd, KVM.SET_USER_MEMORY_REGION, name);
    } finally {
      argument.mapping.close();
    }
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

  /**
   * KVM_IOEVENTFD: a 16-bit guest write of anything to `gpa` signals eventfd `fd`, or no longer.
   * False when another one has that address already.
   */
  doorbell(fd: number, { gpa, isOn }: { gpa: number; isOn: boolean }): boolean {
    const { view, address } = this.#scratch.mapping;
    const flags = isOn ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN;
    new Uint8Array(view.buffer, 0, kvm_ioeventfd.size).fill(0);
    kvm_ioeventfd.write(view, 0, { addr: BigInt(gpa), len: 2, fd, flags });
    return ioctl(this.fd, KVM.IOEVENTFD, address) === 0;
  }

  /** KVM_IRQ_LINE: the level of interrupt line `gsi`. */
  irqLine(gsi: number, level: boolean): void {
    this.#set(kvm_irq_level, { irq: gsi, level: level ? 1 : 0 }, KVM.IRQ_LINE, "KVM_IRQ_LINE");
  }

  /**
   * KVM_SIGNAL_MSI: delivers a message at once. False when it means no processor that is there: a
   * guest writes into its tables what it likes.
   */
  signalMsi({ addressLow, addressHigh, data }: Msi): boolean {
    const { view, address } = this.#scratch.mapping;
    new Uint8Array(view.buffer, 0, kvm_msi.size).fill(0);
    kvm_msi.write(view, 0, { address_lo: addressLow, address_hi: addressHigh, data });
    return ioctl(this.fd, KVM.SIGNAL_MSI, address) >= 0;
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
