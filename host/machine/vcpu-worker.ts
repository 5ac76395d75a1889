// One vCPU: a thread that is in KVM_RUN nearly all the time. It serves port accesses itself
// (ports.ts) and passes virtio register accesses to the I/O worker; notifications and interrupts
// never come here.

import { parentPort } from "node:worker_threads";
import { assert, errnoName } from "../errors.js";
import { errno, gettid } from "../ffi/libc.js";
import { KVM_EXIT, KVM_SYSTEM_EVENT_RESET, kvm_run } from "../kvm/kvm.h.js";
import type { CpuidEntry } from "../kvm/kvm.js";
import { type Regs, type Sregs, Vcpu } from "../kvm/vcpu.js";
import type { Transport } from "./config.js";
import { EventFd } from "./eventfd.js";
import {
  PCI_CONFIG_ADDRESS_PORT,
  PCI_CONFIG_DATA_PORT,
  PCI_ECAM_BASE,
  PCI_ECAM_BYTES,
  PCI_MEMORY_BASE,
  VIRTIO_MMIO_BASE,
  VIRTIO_MMIO_BYTES,
} from "./layout.js";
import { type BusAccess, MailboxClient, MEMORY, PORT } from "./mailbox.js";
import { Shared } from "./shared.js";
import { threadData } from "./thread.js";
import { cpuidOf, type EntryState, entryRegs, entrySregs } from "./x86/cpu.js";
import { Pm1 } from "./x86/pm1.js";
import { Ports } from "./x86/ports.js";
import { Serial } from "./x86/serial.js";

/** virtio-mmio registers that stay on the vCPU's thread (virtio v1.2 §4.2.2). */
const INTERRUPT_STATUS = 0x60;
const INTERRUPT_ACK = 0x64;

/** Registers of devices begin here, whichever transport there is. */
const BUS_BASE = Math.min(VIRTIO_MMIO_BASE, PCI_MEMORY_BASE);

const EINTR = 4;
const EAGAIN = 11;

export interface VcpuWorkerData {
  index: number;
  cpuCount: number;
  vmFd: number;
  runBytes: number;
  cpuid: CpuidEntry[];
  shared: SharedArrayBuffer;
  deviceCount: number;
  transport: Transport;
  mailboxWakeFd: number;
  serialInterruptFd: number;
  serialFd: number;
  /** Signalled for ACPI's interrupt. */
  sciFd: number;
  debugExit: boolean;
}

/** Why a vCPU left its loop for good. */
export type VcpuExit =
  | { reason: "poweroff" | "reboot" | "triple-fault" | "stopped" }
  | { reason: "debug-exit"; value: number }
  | { reason: "internal-error"; detail: string };

/** What a vCPU is in the middle of. */
export interface VcpuRegisters {
  regs: Required<Regs>;
  sregs: Sregs;
}

/**
 * vCPU worker → supervisor: first `created`, then, once let go, `exit`; in between `output-lost`
 * when the serial console's output cannot be written, and `registers` whenever they are asked for.
 */
export type VcpuMessage =
  | { type: "created"; tid: number; immediateExitAddress: number }
  | { type: "output-lost"; errno: number }
  | { type: "registers"; inspection: number; registers: VcpuRegisters }
  | { type: "exit"; exit: VcpuExit };
/**
 * Supervisor → vCPU worker: how the first CPU enters the kernel, before shared.go(); or the end.
 */
export type VcpuCommand = { type: "start"; entry: EntryState | undefined } | { type: "close" };

class VcpuLoop {
  readonly #vcpu: Vcpu;
  readonly #shared: Shared;
  readonly #ports: Ports;
  readonly #mailbox: MailboxClient;
  readonly #isPci: boolean;
  /** Addresses from the first device register on, to behind the last one. */
  readonly #busEnd: number;
  readonly #post: (message: VcpuMessage) => void;
  /** Of the orders in shared words, those that this vCPU knows. */
  #orders = 0;
  #inspections = 0;

  constructor(data: VcpuWorkerData, post: (message: VcpuMessage) => void) {
    this.#post = post;
    this.#shared = new Shared(data.shared);
    this.#vcpu = Vcpu.create(data.vmFd, data);
    this.#vcpu.setCpuid(cpuidOf(data.cpuid, data));
    const interrupt = new EventFd(data.serialInterruptFd);
    const output = {
      outFd: data.serialFd,
      onLost: (errno: number) => post({ type: "output-lost", errno }),
    };
    const serial = new Serial(this.#shared.legacy, { interrupt, ...output });
    const pm1 = new Pm1(this.#shared.pm1, new EventFd(data.sciFd));
    this.#ports = new Ports(serial, { pm1, debugExit: data.debugExit });
    const wake = new EventFd(data.mailboxWakeFd);
    this.#mailbox = new MailboxClient(this.#shared, { cpu: data.index, wake });
    this.#isPci = data.transport === "pci";
    this.#busEnd = this.#isPci
      ? PCI_ECAM_BASE + PCI_ECAM_BYTES
      : VIRTIO_MMIO_BASE + data.deviceCount * VIRTIO_MMIO_BYTES;
  }

  get immediateExitAddress(): number {
    return this.#vcpu.runAddress + kvm_run.offsets.immediate_exit;
  }

  enterKernel(entry: EntryState): void {
    this.#vcpu.sregs = entrySregs(this.#vcpu.sregs, entry);
    this.#vcpu.regs = entryRegs(entry);
  }

  /** Runs the guest until it ends or is stopped. */
  run(): VcpuExit {
    for (;;) {
      if (this.#shared.stopping) return { reason: "stopped" };
      if (this.#shared.orders !== this.#orders) {
        this.#obey();
        continue;
      }
      if (this.#vcpu.enter() === -1) {
        const number = errno();
        // Cleared before the orders are looked at: whoever sets it has given his order before.
        this.#vcpu.clearImmediateExit();
        if (number === EINTR || number === EAGAIN) continue;
        return this.#internalError(`KVM_RUN: ${errnoName(number)}`);
      }
      const exit = this.#handleExit();
      if (exit !== undefined) return exit;
    }
  }

  /** Does what the supervisor asks of all vCPUs; returns when this one may run. */
  #obey(): void {
    const shared = this.#shared;
    let halted = false;
    for (;;) {
      this.#orders = shared.orders;
      if (shared.inspections !== this.#inspections) this.#showRegisters();
      if (!shared.paused || shared.stopping) break;
      if (!halted) shared.addHalted(1);
      halted = true;
      shared.awaitOrder(this.#orders);
    }
    if (!halted) return;
    shared.addHalted(-1);
    this.#vcpu.noteHalted();
  }

  #showRegisters(): void {
    const inspection = this.#shared.inspections;
    this.#inspections = inspection;
    const { regs, sregs } = this.#vcpu;
    this.#post({ type: "registers", inspection, registers: { regs, sregs } });
  }

  close(): void {
    this.#vcpu.close();
  }

  #handleExit(): VcpuExit | undefined {
    switch (this.#vcpu.exitReason) {
      case KVM_EXIT.IO:
        return this.#handleIo();
      case KVM_EXIT.MMIO:
        this.#handleMmio();
        return undefined;
      case KVM_EXIT.INTR:
        return undefined;
      case KVM_EXIT.SHUTDOWN:
        return { reason: "triple-fault" };
      case KVM_EXIT.SYSTEM_EVENT:
        return this.#handleSystemEvent();
      case KVM_EXIT.FAIL_ENTRY:
        return this.#internalError(`KVM_EXIT_FAIL_ENTRY, hardware reason ${this.#word64(0)}`);
      case KVM_EXIT.INTERNAL_ERROR:
        return this.#internalError(`KVM_EXIT_INTERNAL_ERROR, suberror ${this.#word32(0)}`);
      default:
        return this.#internalError(`exit reason ${this.#vcpu.exitReason}`);
    }
  }

  #handleIo(): VcpuExit | undefined {
    const vcpu = this.#vcpu;
    const { run, ioPort, ioBytes, ioCount, ioIsOut } = vcpu;
    let offset = vcpu.ioDataOffset;
    for (let i = 0; i < ioCount; i++, offset += ioBytes) {
      if (this.#isPci && isPciConfig(ioPort)) {
        this.#access(PORT, ioPort, { at: offset, bytes: ioBytes, isWrite: ioIsOut });
        continue;
      }
      if (!ioIsOut) {
        writeSized(run, offset, { bytes: ioBytes, value: this.#ports.in(ioPort, ioBytes) });
        continue;
      }
      const exit = this.#ports.out(ioPort, readSized(run, offset, ioBytes));
      if (exit !== undefined) return exit;
    }
    return undefined;
  }

  #handleMmio(): void {
    const vcpu = this.#vcpu;
    const { run, mmioGpa: gpa, mmioBytes: bytes, mmioIsWrite: isWrite } = vcpu;
    const at = vcpu.mmioDataOffset;
    if (gpa < BUS_BASE || gpa >= this.#busEnd) {
      // Nobody is there: reads float high, writes are lost, as on a bus.
      if (!isWrite) new Uint8Array(run.buffer, run.byteOffset + at, 8).fill(0xff);
      return;
    }
    // Config space allows 64-bit accesses as two of 32 (virtio v1.2 §4.2.2.2).
    for (let part = 0; part < bytes; part += 4) {
      const width = Math.min(bytes - part, 4);
      this.#access(MEMORY, gpa + part, { at: at + part, bytes: width, isWrite });
    }
  }

  /** Makes an access whose data are, or go, at `at` of kvm_run. */
  #access(
    space: BusAccess["space"],
    address: number,
    { at, bytes, isWrite }: { at: number; bytes: number; isWrite: boolean },
  ): void {
    const { run } = this.#vcpu;
    const value = isWrite ? readSized(run, at, bytes) : 0;
    const access = { space, address, bytes, isWrite, value };
    const result = this.#interruptRegister(access) ?? this.#mailbox.access(access);
    if (!isWrite) writeSized(run, at, { bytes, value: result });
  }

  /** virtio-mmio's InterruptStatus and InterruptACK, which do not leave this thread. */
  #interruptRegister({ space, address, bytes, isWrite, value }: BusAccess): number | undefined {
    if (this.#isPci || space === PORT || bytes !== 4) return undefined;
    const device = Math.floor((address - VIRTIO_MMIO_BASE) / VIRTIO_MMIO_BYTES);
    const offset = address % VIRTIO_MMIO_BYTES;
    const index = this.#shared.interruptStatusIndex(device);
    if (offset === INTERRUPT_STATUS && !isWrite) return Atomics.load(this.#shared.words, index);
    if (offset !== INTERRUPT_ACK || !isWrite) return undefined;
    Atomics.and(this.#shared.words, index, ~value);
    return 0;
  }

  #handleSystemEvent(): VcpuExit {
    const type = this.#word32(0);
    return { reason: type === KVM_SYSTEM_EVENT_RESET ? "reboot" : "poweroff" };
  }

  #word32(offset: number): number {
    return this.#vcpu.run.getUint32(kvm_run.size + offset, true);
  }

  #word64(offset: number): string {
    return `0x${this.#vcpu.run.getBigUint64(kvm_run.size + offset, true).toString(16)}`;
  }

  #internalError(what: string): VcpuExit {
    const { rip, rsp, rflags } = this.#vcpu.regs;
    const hex = (value: bigint) => `0x${value.toString(16)}`;
    const state = `rip ${hex(rip)}, rsp ${hex(rsp)}, rflags ${hex(rflags)}`;
    return { reason: "internal-error", detail: `vCPU ${this.#vcpu.index}: ${what}, ${state}` };
  }
}

function isPciConfig(port: number): boolean {
  return port >= PCI_CONFIG_ADDRESS_PORT && port < PCI_CONFIG_DATA_PORT + 4;
}

function readSized(view: DataView, offset: number, bytes: number): number {
  if (bytes === 4) return view.getUint32(offset, true);
  if (bytes === 2) return view.getUint16(offset, true);
  if (bytes === 1) return view.getUint8(offset);
  return view.getUint16(offset, true) | (view.getUint8(offset + 2) << 16);
}

function writeSized(view: DataView, offset: number, data: { bytes: number; value: number }): void {
  for (let i = 0; i < data.bytes; i++) view.setUint8(offset + i, (data.value >>> (8 * i)) & 0xff);
}

function main(): void {
  assert(parentPort !== null, "a vCPU runs on a worker thread");
  const port = parentPort;
  const data = threadData<VcpuWorkerData>();
  if (data === undefined) return;
  const post = (message: VcpuMessage) => port.postMessage(message);
  const loop = new VcpuLoop(data, post);
  port.on("message", (command: VcpuCommand) => {
    if (command.type === "start") {
      if (command.entry !== undefined) loop.enterKernel(command.entry);
      new Shared(data.shared).waitForGo();
      post({ type: "exit", exit: loop.run() });
    } else {
      // Only now: the supervisor kicks by writing to this vCPU's memory until it knows of the exit.
      loop.close();
      port.close();
    }
  });
  post({ type: "created", tid: gettid(), immediateExitAddress: loop.immediateExitAddress });
}

main();
