// The devices of a VM, seen from the supervisor: check what each asks for against what it is granted,
// start it where it shall run, and measure from outside what it really got.

import { Worker } from "node:worker_threads";
import { assert, VmmError } from "../errors.js";
import type { Vm } from "../kvm/kvm.js";
import { openGrants } from "../sandbox/grants.js";
import type { Manifest } from "../sandbox/manifest.js";
import { type Proof, proofOf } from "../sandbox/proof.js";
import { type DeviceExit, type DeviceProcess, spawnDevice } from "../sandbox/spawn.js";
import { verifyProof } from "../sandbox/verify.js";
import type { DeviceConfig, UntimedEvent, VmConfig } from "./config.js";
import { EventFd } from "./eventfd.js";
import type { StopRequest } from "./exit.js";
import { type Inspection, inspectDevice } from "./inspect.js";
import type { IoCommand, IoDeviceData, IoReport, IoWorkerData } from "./io-worker.js";
import { virtioMmioWindow } from "./layout.js";
import type { Ram } from "./ram.js";
import type { Shared } from "./shared.js";

/** virtio-mmio QueueNotify (virtio v1.2 §4.2.2). */
const QUEUE_NOTIFY = 0x50;

/** A device that is not ready by then never will be; on a loaded machine it takes a second. */
const DEVICE_START_TIMEOUT_MS = 30_000;

/** A device of the VM before and while it runs. */
export class DeviceSlot {
  readonly index: number;
  readonly config: DeviceConfig;
  readonly #inspection: Inspection;
  readonly startedAt = performance.now();
  process: DeviceProcess | undefined;
  ready = false;
  readonly #notify: EventFd[];
  readonly #interrupt = EventFd.create();

  /** Reads and checks module and grants; ERR_MODULE, ERR_GRANT or ERR_FILE when they do not fit. */
  constructor(index: number, config: DeviceConfig) {
    this.index = index;
    this.config = config;
    this.#inspection = inspectDevice(config.module, config.grants);
    this.#notify = this.#manifest.queues.map(() => EventFd.create());
  }

  get #manifest(): Manifest {
    return this.#inspection.facts.manifest;
  }

  get window(): { base: number; bytes: number; gsi: number } {
    return virtioMmioWindow(this.index);
  }

  /** Kicks become events and events become interrupts, without a vCPU leaving the kernel. */
  connect(vm: Vm): void {
    const { base, gsi } = this.window;
    for (const [queue, notify] of this.#notify.entries()) {
      vm.ioeventfd(notify.fd, { gpa: base + QUEUE_NOTIFY, value: queue });
    }
    vm.irqfd(this.#interrupt.fd, gsi);
  }

  get ioData(): IoDeviceData {
    return {
      id: this.config.id,
      manifest: this.#manifest,
      notifyFds: this.#notify.map((notify) => notify.fd),
      interruptFd: this.#interrupt.fd,
    };
  }

  /** Starts the device's code; the command tells the I/O worker where to reach it. */
  start(options: { allowWeak: boolean; onExit: (exit: DeviceExit) => void }): IoCommand {
    const device = this.index;
    if (this.config.isolation === "inline") {
      const { module, grants } = this.#inspection;
      return { type: "attach-inline", device, module, grants: openGrants(grants) };
    }
    this.process = spawnDevice({
      id: this.config.id,
      module: this.config.module,
      grants: this.#inspection.grants,
      seccomp: this.config.seccomp,
      allowWeak: options.allowWeak,
    });
    this.process.onExit(options.onExit);
    return { type: "attach-process", device, socketFd: this.process.takeSocket() };
  }

  /** Pid of the process in which the device's code runs. */
  get pid(): number {
    return this.process?.pid ?? process.pid;
  }

  /** The event that tells of a confined device, from what the kernel says of its process. */
  readyEvent(allowWeak: boolean): UntimedEvent {
    const proof = this.proof();
    if (this.process !== undefined) this.#verify(proof, allowWeak);
    const { id, isolation } = this.config;
    const startMs = performance.now() - this.startedAt;
    const fds = proof.fds.length;
    const filtered = isolation === "process" && this.config.seccomp !== "off";
    const syscalls = filtered ? this.#inspection.syscalls.length : null;
    const { wxPages } = proof;
    return { event: "device-ready", id, pid: this.pid, isolation, syscalls, fds, wxPages, startMs };
  }

  #verify(proof: Proof, allowWeak: boolean): void {
    const { id, seccomp } = this.config;
    verifyProof(proof, { id, seccomp, grantCount: this.#inspection.grants.length, allowWeak });
  }

  /** What the kernel says of that process, right now. */
  proof(): Proof {
    return proofOf(this.pid);
  }

  close(): void {
    this.process?.close();
    for (const notify of this.#notify) notify.close();
    this.#interrupt.close();
  }
}

interface DeviceSetOptions {
  emit: (event: UntimedEvent) => void;
  stop: StopRequest;
}

/** All devices of a VM, and the I/O worker that serves them. */
export class DeviceSet {
  readonly #slots: DeviceSlot[];
  readonly #allowWeak: boolean;
  readonly #emit: (event: UntimedEvent) => void;
  readonly #stop: StopRequest;
  readonly #wake = EventFd.create();
  #worker: Worker | undefined;
  #closing = false;
  #settleReady: { resolve: () => void; reject: (error: Error) => void } | undefined;
  readonly #ready: Promise<void>;

  constructor(config: VmConfig, options: DeviceSetOptions) {
    this.#slots = config.devices.map((device, index) => new DeviceSlot(index, device));
    this.#allowWeak = config.allowWeakSandbox;
    this.#emit = options.emit;
    this.#stop = options.stop;
    this.#ready = new Promise((resolve, reject) => {
      this.#settleReady = { resolve, reject };
    });
    // Whoever awaits ready() sees a failure; until then it must not count as unhandled.
    this.#ready.catch(() => {});
  }

  /** Descriptor that wakes the I/O worker: vCPUs ask through it. */
  get wakeFd(): number {
    return this.#wake.fd;
  }

  get windows(): { base: number; bytes: number; gsi: number }[] {
    return this.#slots.map((slot) => slot.window);
  }

  connect(vm: Vm): void {
    for (const slot of this.#slots) slot.connect(vm);
  }

  /** Starts the I/O worker and every device. */
  start(machine: { shared: Shared; ram: Ram; cpuCount: number }): void {
    const commands = this.#slots.map((slot) => this.#startSlot(slot));
    const workerData: IoWorkerData = {
      shared: machine.shared.buffer,
      cpuCount: machine.cpuCount,
      ramAddress: machine.ram.address,
      memoryBytes: machine.ram.bytes,
      wakeFd: this.#wake.fd,
      devices: this.#slots.map((slot) => slot.ioData),
    };
    this.#worker = new Worker(new URL("./io-worker.js", import.meta.url), { workerData });
    this.#worker.on("message", (report: IoReport) => this.#reported(report));
    this.#worker.on("error", (error) => this.#workerFailed(error));
    for (const command of commands) this.#tell(command);
    if (this.#slots.length === 0) this.#settleReady?.resolve();
  }

  /** Resolves when every device runs confined; rejects with why one does not. */
  async ready(): Promise<void> {
    const timeout = setTimeout(() => {
      const late = this.#slots.filter((slot) => !slot.ready).map((slot) => slot.config.id);
      this.#fail(`Device ${late.join(", ")} did not start within ${DEVICE_START_TIMEOUT_MS} ms`);
    }, DEVICE_START_TIMEOUT_MS);
    try {
      await this.#ready;
    } finally {
      clearTimeout(timeout);
    }
  }

  proofs(): { id: string; proof: Proof }[] {
    return this.#slots.map((slot) => ({ id: slot.config.id, proof: slot.proof() }));
  }

  #startSlot(slot: DeviceSlot): IoCommand {
    const onExit = (exit: DeviceExit) => this.#exited(slot, exit);
    return slot.start({ allowWeak: this.#allowWeak, onExit });
  }

  #tell(command: IoCommand): void {
    this.#worker?.postMessage(command);
    this.#wake.signal();
  }

  #reported(report: IoReport): void {
    const slot = this.#slots[report.device];
    assert(slot !== undefined, `a report of device ${report.device}`);
    const { id } = slot.config;
    if (report.type === "log") {
      this.#emit({ event: "log", level: "info", id, text: report.text });
    } else if (report.type === "ready") {
      this.#deviceReady(slot);
    } else if (report.type === "broken") {
      this.#emit({ event: "log", level: "warning", id, text: `device bug: ${report.reason}` });
      slot.process?.kill();
    }
  }

  /** The device says that it is confined; only what /proc says of it counts. */
  #deviceReady(slot: DeviceSlot): void {
    try {
      this.#emit(slot.readyEvent(this.#allowWeak));
    } catch (error) {
      this.#settleReady?.reject(error as Error);
      return;
    }
    slot.ready = true;
    if (this.#slots.every((each) => each.ready)) this.#settleReady?.resolve();
  }

  #exited(slot: DeviceSlot, exit: DeviceExit): void {
    if (this.#closing) return;
    const { id } = slot.config;
    this.#emit({ event: "device-exit", id, reason: exit.reason });
    if (!slot.ready) this.#fail(`Device ${id} ended before it was ready: ${exit.reason}`);
  }

  #fail(message: string): void {
    this.#settleReady?.reject(new VmmError("ERR_SANDBOX", message));
  }

  #workerFailed(error: Error): void {
    const detail = `the I/O worker failed: ${error.stack ?? error.message}`;
    this.#settleReady?.reject(new VmmError("ERR_INTERNAL", detail));
    this.#stop.request({ reason: "device-failed", detail });
  }

  /** Ends every device and the I/O worker; a device that does not leave by itself is killed. */
  async close(): Promise<void> {
    this.#closing = true;
    if (this.#worker !== undefined) {
      const ended = new Promise((resolve) => this.#worker?.once("exit", resolve));
      this.#tell({ type: "stop" });
      await ended;
    }
    for (const slot of this.#slots) slot.close();
    this.#wake.close();
  }
}
