// The supervisor: puts a VM together, lets it run, and takes it apart again so that no process,
// thread or descriptor stays behind.

import { VmmError } from "../errors.js";
import { Kvm, type Vm as KvmVm } from "../kvm/kvm.js";
import type { Proof } from "../sandbox/proof.js";
import type { GuestExit, Transport, UntimedEvent, VmConfig, VmEvent } from "./config.js";
import { prepareConfinement } from "./confine.js";
import type { Controlled, VmState, VmStatus } from "./control.js";
import { debugText } from "./control-debug.js";
import { Control } from "./control-socket.js";
import type { DeviceCounters } from "./counters.js";
import { DeviceSet } from "./devices.js";
import { EventFd } from "./eventfd.js";
import { guestExitOf, StopRequest } from "./exit.js";
import { loadKernel, usualTransport } from "./guest-kernel.js";
import { ACPI_SCI_GSI, COM1, CPU_COUNT_MAX } from "./layout.js";
import { Ram } from "./ram.js";
import { lostText, SerialOutput } from "./serial-output.js";
import { Shared } from "./shared.js";
import { dismissThreads, startThread } from "./thread.js";
import { Vcpus } from "./vcpus.js";
import type { EntryState } from "./x86/cpu.js";
import { Pm1 } from "./x86/pm1.js";
import { Serial } from "./x86/serial.js";

/** How often input that the guest has not read yet is offered again. */
const INPUT_RETRY_MS = 10;

type OnEvent = (event: VmEvent) => void;

/** A device as it is now: its name and what the kernel says of its process. */
export interface DeviceProof {
  id: string;
  proof: Proof;
}

/** A virtual machine whose devices are confined and whose guest has not run yet. */
export class Vm implements Controlled {
  readonly #parts: Parts;
  readonly #stop: StopRequest;
  readonly #emit: (event: UntimedEvent) => void;
  readonly #startedAt = Date.now();
  #stopping = false;

  constructor(parts: Parts, stop: StopRequest) {
    this.#parts = parts;
    this.#stop = stop;
    this.#emit = parts.emit;
  }

  /**
   * Confines this process for good, unless `seccomp` is "off", and runs the guest to its end; then
   * releases everything.
   *
   * @throws VmmError ERR_SANDBOX when the process cannot be confined; the guest has not run then
   */
  async run(): Promise<GuestExit> {
    const { vcpus, entry, control, serial } = this.#parts;
    control?.serve(this);
    await this.#confine();
    vcpus.go(entry);
    const cause = await Promise.race([vcpus.exit, this.#stop.requested]);
    const exit = guestExitOf(cause);
    this.#stopping = true;
    await this.#parts.close();
    if (serial.lostBytes > 0) {
      const text = `${serial.lostBytes} bytes of the serial output were lost`;
      this.#emit({ event: "log", level: "warning", text });
    }
    const { reason, detail } = exit;
    this.#emit({ event: "guest-exit", reason, ...(detail === undefined ? {} : { detail }) });
    return exit;
  }

  async #confine(): Promise<void> {
    const { config, control, close } = this.#parts;
    const { seccomp } = config;
    try {
      const syscalls = this.#filter();
      const asked = control === undefined ? {} : { name: control.name, socket: control.path };
      this.#emit({ event: "vmm-ready", seccomp, syscalls, startMs: performance.now(), ...asked });
    } catch (error) {
      await close();
      throw error;
    }
  }

  /** Installs the filter, if this kernel can; returns how many system calls it leaves. */
  #filter(): number | null {
    const { confine, config } = this.#parts;
    try {
      return confine();
    } catch (error) {
      if (!config.allowWeakSandbox || !(error instanceof VmmError)) throw error;
      this.#emit({ event: "log", level: "warning", text: `${error.message}; it has no filter` });
      return null;
    }
  }

  /**
   * Bytes typed at the serial console. Resolves when the guest has room for the next ones, so that
   * one that does not read cannot make the VMM buffer without limit.
   */
  async serialInput(bytes: Uint8Array): Promise<void> {
    let done = 0;
    for (;;) {
      done += this.#parts.serial.input(bytes.subarray(done));
      if (done === bytes.length || this.#parts.shared.stopping) return;
      await new Promise((resolve) => setTimeout(resolve, INPUT_RETRY_MS));
    }
  }

  /** Whether the serial output is in the middle of a line, which counts as ended from now on. */
  breakLine(): boolean {
    return this.#parts.serial.breakLine();
  }

  /** Has a device look again at what it was granted: a terminal has another size. */
  wakeDevice(id: string): void {
    this.#parts.devices.wake(id);
  }

  /** Asks for a clean end: run() resolves with reason `stopped` and `detail`. */
  stop(detail: string): void {
    this.#stopping = true;
    this.#stop.request({ reason: "stopped", detail });
  }

  /**
   * Halts the guest, whose devices go on with what they have and then idle. When a vCPU waits for
   * something else just now the state is `pausing` until it has got that.
   */
  async pause(): Promise<void> {
    if (!this.#stopping) await this.#parts.vcpus.pause();
  }

  resume(): void {
    if (!this.#stopping) this.#parts.vcpus.resume();
  }

  /** What vCPUs and queues are in the middle of, as text; a guest that runs goes on. */
  async debug(): Promise<string> {
    const { vcpus, devices } = this.#parts;
    if (this.#stopping) return "The VM is stopping.\n";
    const [registers, described] = await Promise.all([vcpus.registers(), devices.describe()]);
    return debugText({ state: this.#state, registers, devices: devices.status(), described });
  }

  get #state(): VmState {
    const { vcpus } = this.#parts;
    if (this.#stopping) return "stopping";
    if (!vcpus.paused) return "running";
    return vcpus.halted ? "paused" : "pausing";
  }

  /** What this VM is and does now. */
  status(): VmStatus {
    const { config, control, devices, transport } = this.#parts;
    const { kernel, cpuCount: cpus, memoryBytes, seccomp } = config;
    return {
      name: control?.name ?? "",
      pid: process.pid,
      state: this.#state,
      startedAt: this.#startedAt,
      kernel,
      cpus,
      memoryBytes,
      transport,
      seccomp,
      devices: devices.status(),
    };
  }

  /** What each device has done so far, in the order of the devices. */
  counters(): DeviceCounters[] {
    return this.#parts.devices.counters();
  }

  /** Presses the power button, if somebody in the guest listens to it; returns whether. */
  pressPowerButton(): boolean {
    const { pm1 } = this.#parts;
    if (this.#stopping || !pm1.hasButton) return false;
    this.resume(); // a guest that is halted would not notice
    pm1.pressButton();
    return true;
  }

  /** What the kernel says of each device's process, measured now. */
  proofs(): Promise<DeviceProof[]> {
    return this.#parts.devices.proofs();
  }
}

/** Everything that a running VM holds. */
interface Parts {
  emit: (event: UntimedEvent) => void;
  config: VmConfig;
  transport: Transport;
  control: Control | undefined;
  /** Confines this process; returns how many system calls are left to it. */
  confine(): number | null;
  entry: EntryState;
  shared: Shared;
  vcpus: Vcpus;
  devices: DeviceSet;
  serial: Serial;
  pm1: Pm1;
  close(): Promise<void>;
}

/**
 * Puts a VM together: checks KVM, kernel and devices, starts every device and verifies from outside
 * that it is confined. Throws a VmmError, with nothing left behind, when any of it cannot be had.
 */
export async function createVm(config: VmConfig, onEvent: OnEvent): Promise<Vm> {
  const emit = (event: UntimedEvent) => onEvent({ time: Date.now(), ...event } as VmEvent);
  const stop = new StopRequest();
  const cleanup: Assembly["cleanup"] = [];
  const close = () => undo(cleanup);
  try {
    const parts = await assemble(config, { emit, stop, cleanup });
    return new Vm({ ...parts, emit, close }, stop);
  } catch (error) {
    await close();
    throw error;
  }
}

/** Does the steps, the last one first. */
async function undo(steps: Assembly["cleanup"]): Promise<void> {
  for (const step of steps.splice(0).reverse()) await step();
}

interface Assembly {
  emit: (event: UntimedEvent) => void;
  stop: StopRequest;
  /** What undoes each step, in the order of the steps. */
  cleanup: (() => void | Promise<void>)[];
}

async function assemble(
  config: VmConfig,
  { emit, stop, cleanup }: Assembly,
): Promise<Omit<Parts, "emit" | "close">> {
  // Before anything else: whether the name is free is known at once.
  const control = Control.claim(config.control, emit);
  cleanup.push(() => control?.close());
  // What devices and their worker use is released behind them, although it is there later.
  const used: Assembly["cleanup"] = [];
  cleanup.push(() => undo(used));
  const socketFiles = control === undefined ? [] : [control.handOver()];
  const devices = new DeviceSet(config, { emit, stop, socketFiles });
  cleanup.push(() => devices.close());
  await devices.startFirst();
  // Its process boots from now on, whatever KVM says.
  const { kvm, vm } = openKvm(config, used);
  const controllers = vm.createInterruptControllers();
  used.push(settled(controllers));
  startThread("vcpu");
  cleanup.push(dismissThreads);
  const { cpuCount } = config;
  const shared = Shared.create(cpuCount);
  const ram = Ram.create(config.memoryBytes);
  used.push(() => ram.close());
  const mapped = ram.mapInto(vm);
  used.push(settled(mapped));
  const transport = config.transport ?? usualTransport(config.kernel);
  await devices.start({ shared, ram, vm, cpuCount, transport });
  const entry = loadKernel(config, { ram, transport });
  const output = SerialOutput.open(config.serialFd, (text) => emit({ event: "serial", text }));
  cleanup.push(() => output.close());
  const interrupt = EventFd.create();
  cleanup.push(() => interrupt.close());
  const sci = EventFd.create();
  cleanup.push(() => sci.close());
  const cpuid = kvm.supportedCpuid();
  await controllers;
  if (transport === "mmio") devices.connectMmio(vm);
  vm.irqfd(interrupt.fd, COM1.gsi);
  vm.irqfd(sci.fd, ACPI_SCI_GSI);
  const vcpuData = {
    cpuCount,
    vmFd: vm.fd,
    runBytes: kvm.runBytes,
    cpuid,
    shared: shared.buffer,
    deviceCount: config.devices.length,
    transport,
    mailboxWakeFd: devices.wakeFd,
    serialInterruptFd: interrupt.fd,
    serialFd: output.fd,
    sciFd: sci.fd,
    debugExit: config.debugExit,
  };
  const starting = Vcpus.start(shared, vcpuData, (errno) => {
    emit({ event: "log", level: "warning", text: lostText(errno) });
  });
  const started = starting.catch(() => undefined); // who awaits `starting` hears why it failed
  cleanup.push(async () => (await started)?.close());
  // Devices and vCPUs take longest to start: what is done until then costs no time.
  if (config.seccomp !== "off") devices.hireWarden();
  await control?.listen();
  const confined = { inline: devices.inline, transport, controlFd: control?.fd };
  const confine = await prepareConfinement(config.seccomp, confined);
  const [vcpus] = await Promise.all([starting, mapped]);
  await devices.ready();
  const serial = new Serial(shared.legacy, { interrupt, outFd: output.fd });
  const pm1 = new Pm1(shared.pm1, sci);
  return { config, transport, control, confine, entry, shared, vcpus, devices, serial, pm1 };
}

/**
 * A step of undoing that waits until KVM has done what it was asked for, or has refused: until then
 * nothing that it works on may be closed. Whoever awaits the promise itself hears why it failed.
 */
function settled(asked: Promise<void>): () => Promise<void> {
  const done = asked.catch(() => {});
  return () => done;
}

interface OpenKvm {
  kvm: Kvm;
  vm: KvmVm;
}

function openKvm(config: VmConfig, cleanup: Assembly["cleanup"]): OpenKvm {
  const kvm = Kvm.open();
  cleanup.push(() => kvm.close());
  const most = Math.min(kvm.vcpuCountMax, CPU_COUNT_MAX);
  if (config.cpuCount > most) {
    const message = `Cannot make ${config.cpuCount} vCPUs: KVM allows ${most}, see -c`;
    throw new VmmError("ERR_USAGE", message);
  }
  const vm = kvm.createVm();
  cleanup.push(() => vm.close());
  return { kvm, vm };
}
