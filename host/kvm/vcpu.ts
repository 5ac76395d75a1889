// One virtual processor of KVM, and why it left the guest (Documentation/virt/kvm/api.rst, "The
// kvm_run structure").

import { checked, close, ioctl } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import {
  KVM,
  kvm_cpuid_entry2,
  kvm_cpuid2,
  kvm_regs,
  kvm_run,
  kvm_run_io,
  kvm_run_mmio,
  kvm_sregs,
} from "./kvm.h.js";
import type { CpuidEntry } from "./kvm.js";
import { Scratch } from "./scratch.js";

export type Regs = Partial<ReturnType<typeof kvm_regs.read>>;
export type Sregs = ReturnType<typeof kvm_sregs.read>;

const RUN_UNION = kvm_run.size;
const EXIT_REASON = kvm_run.offsets.exit_reason;
const IMMEDIATE_EXIT = kvm_run.offsets.immediate_exit;
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

  /** The next enter() enters the guest again: whoever wanted this vCPU out has said why before. */
  clearImmediateExit(): void {
    this.run.setUint8(IMMEDIATE_EXIT, 0);
  }

  /**
   * KVM_KVMCLOCK_CTRL: the guest learns that it was halted, or its watchdog would take that for a
   * CPU that is stuck. One that does not use kvmclock cannot be told (EINVAL).
   */
  noteHalted(): void {
    ioctl(this.#fd, KVM.KVMCLOCK_CTRL, 0);
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
