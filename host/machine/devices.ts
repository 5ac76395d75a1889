// All devices of a VM and the I/O worker that serves them, seen from the supervisor: start, watch,
// start again, give up.

import type { Worker } from "node:worker_threads";
import { assert, type ErrorCode, VmmError } from "../errors.js";
import type { Vm } from "../kvm/kvm.js";
import type { SocketFile } from "../sandbox/grants.js";
import type { Proof } from "../sandbox/proof.js";
import { type DeviceStarter, ParentStarter } from "../sandbox/starter.js";
import { removeSocketFile } from "../sandbox/unix-socket.js";
import type { InlineDevice } from "../sandbox/vmm-policy.js";
import { Warden } from "../sandbox/warden.js";
import { WATCHDOG_INTERVAL_MS } from "../sandbox/watchdog.js";
import type { Transport, UntimedEvent, VmConfig } from "./config.js";
import type { DeviceStatus } from "./control.js";
import { createCounters, type DeviceCounters, readCounters } from "./counters.js";
import { type Death, DeviceSlot } from "./device-slot.js";
import { EventFd } from "./eventfd.js";
import type { StopRequest } from "./exit.js";
import { InlineWatch } from "./inline-watch.js";
import type { IoCommand, IoReport, IoWorkerData } from "./io-worker.js";
import type { Ram } from "./ram.js";
import type { Shared } from "./shared.js";
import { threadFor } from "./thread.js";

/** A device that is not ready by then never will be; on a loaded machine it takes a second. */
const DEVICE_START_TIMEOUT_MS = 30_000;

/** The I/O worker tells at once what devices do, unless an inline one keeps it. */
const DESCRIBE_MS_MAX = 2000;

/** What the devices are part of. */
interface Machine {
  shared: Shared;
  ram: Ram;
  vm: Vm;
  cpuCount: number;
  transport: Transport;
}

interface DeviceSetOptions {
  emit: (event: UntimedEvent) => void;
  stop: StopRequest;
  /** Files that are to be gone with the devices, besides those of their own sockets. */
  socketFiles?: readonly SocketFile[];
}

/** All devices of a VM, and the I/O worker that serves them. */
export class DeviceSet {
  readonly #slots: DeviceSlot[];
  readonly #parent: ParentStarter;
  #starter: DeviceStarter;
  #warden: Warden | undefined;
  /** What was asked of the starter and must be known before it can be closed. */
  readonly #underWay = new Set<Promise<unknown>>();
  readonly #stopOnFailure: boolean;
  readonly #emit: (event: UntimedEvent) => void;
  readonly #stop: StopRequest;
  /** Who waits for the I/O worker to describe the devices. */
  readonly #describing: ((devices: string[][]) => void)[] = [];
  readonly #otherFiles: readonly SocketFile[];
  readonly #wake = EventFd.create();
  readonly #counters: SharedArrayBuffer;
  #worker: Worker | undefined;
  /** Resolves when the I/O worker is gone, also of a bug of its own. */
  #workerEnded = Promise.resolve();
  #closing = false;
  #settleReady: { resolve: () => void; reject: (error: Error) => void } | undefined;
  readonly #ready: Promise<void>;

  constructor(config: VmConfig, options: DeviceSetOptions) {
    const allowWeak = config.allowWeakSandbox;
    this.#slots = config.devices.map(
      (device, index) => new DeviceSlot(device, { index, allowWeak }),
    );
    this.#counters = createCounters(config.devices.length);
    const { pid } = process;
    this.#parent = new ParentStarter(this.#slots.map(({ plan }) => ({ plan, pid })));
    this.#starter = this.#parent;
    this.#stopOnFailure = config.onDeviceFailure === "stop";
    this.#emit = options.emit;
    this.#stop = options.stop;
    this.#otherFiles = options.socketFiles ?? [];
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

  connectMmio(vm: Vm): void {
    for (const slot of this.#slots) slot.connectMmio(vm);
  }

  /** Starts the first device. Its process is what takes longest, so nothing else comes first. */
  async startFirst(): Promise<void> {
    const [first] = this.#slots;
    if (first !== undefined) await this.#startSlot(first);
  }

  /**
   * Starts the I/O worker and all other devices: each waits at its lock-down until somebody takes
   * the listener of its filter.
   */
  async start(machine: Machine): Promise<void> {
    const [first, ...others] = this.#slots;
    this.#startWorker(machine);
    const attach = (slot: DeviceSlot) => this.#tell(slot.attachCommand());
    if (first !== undefined) attach(first);
    await Promise.all(others.map((slot) => this.#startSlot(slot).then(() => attach(slot))));
    for (const slot of this.#slots) slot.foresee();
    if (this.#slots.length === 0) this.#settleReady?.resolve();
    if (this.#slots.some(({ plan }) => plan === null)) this.#watchInline(machine.shared);
  }

  #startWorker(machine: Machine): void {
    const data: IoWorkerData = {
      shared: machine.shared.buffer,
      counters: this.#counters,
      cpuCount: machine.cpuCount,
      ramAddress: machine.ram.address,
      memoryBytes: machine.ram.bytes,
      wakeFd: this.#wake.fd,
      transport: machine.transport,
      vmFd: machine.vm.fd,
      devices: this.#slots.map((slot) => slot.ioData),
    };
    const worker = threadFor("io", data);
    this.#worker = worker;
    this.#workerEnded = new Promise((resolve) => worker.once("exit", () => resolve()));
    worker.on("message", (report: IoReport) => this.#reported(report));
    worker.on("error", (error) => this.#workerFailed(error));
  }

  /** An inline device that loops takes the I/O worker with it, so the VM ends; but it is named. */
  #watchInline(shared: Shared): void {
    const watch = new InlineWatch(shared);
    const timer = setInterval(() => {
      const found = watch.look();
      if (found === undefined) return;
      clearInterval(timer);
      const id = this.#slots[found.device]?.config.id ?? "?";
      const detail = `${id} ended, and the VM that it runs in with it: ${found.reason}`;
      this.#fail("ERR_SANDBOX", detail);
      this.#stop.request({ reason: "device-failed", detail });
      void this.#worker?.terminate();
    }, WATCHDOG_INTERVAL_MS);
    void this.#workerEnded.then(() => clearInterval(timer));
  }

  /**
   * Creates the warden, which boots when the devices have. From then on this process starts no
   * device any more and looks at none: its warden does.
   */
  hireWarden(): void {
    const onGone = (reason: string) => {
      const text = `${reason}; a device that dies stays so`;
      this.#emit({ event: "log", level: "warning", text });
    };
    this.#warden = Warden.start(this.#parent.placed, onGone, this.#socketFiles);
  }

  /** Resolves when every device runs confined; rejects with why one does not. */
  async ready(): Promise<void> {
    const timeout = setTimeout(() => {
      const late = this.#slots.filter((slot) => !slot.ready).map((slot) => slot.config.id);
      const who = `Device ${late.join(", ")}`;
      const message = `${who} did not start within ${DEVICE_START_TIMEOUT_MS} ms`;
      this.#fail("ERR_SANDBOX", message);
    }, DEVICE_START_TIMEOUT_MS);
    try {
      await this.#ready;
    } finally {
      clearTimeout(timeout);
    }
    if (this.#warden === undefined) return;
    this.#warden.go();
    this.#starter = this.#warden;
    this.#parent.letGo();
  }

  /** What the kernel says of each device's process; the VM does not end before it is known. */
  proofs(): Promise<{ id: string; proof: Proof }[]> {
    const proofs = this.#slots.map(async (slot) => {
      const proof = await this.#ask((starter) => starter.prove(slot.index));
      return { id: slot.config.id, proof };
    });
    return Promise.all(proofs);
  }

  /** What each device is and how it fares. */
  status(): DeviceStatus[] {
    return this.#slots.map((slot) => slot.status);
  }

  /** Lines about each device, or undefined when the I/O worker is too busy to tell. */
  async describe(): Promise<string[][] | undefined> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(resolve, DESCRIBE_MS_MAX, undefined);
    });
    const told = new Promise<string[][]>((resolve) => this.#describing.push(resolve));
    this.#tell({ type: "describe" });
    try {
      return await Promise.race([told, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** What each device has done so far. */
  counters(): DeviceCounters[] {
    return this.#slots.map(({ index }) => readCounters(this.#counters, index));
  }

  /** Has the device called `id` look again at what it was granted. */
  wake(id: string): void {
    const slot = this.#slots.find(({ config }) => config.id === id);
    if (slot !== undefined && !this.#closing) this.#tell({ type: "wake", device: slot.index });
  }

  /** Devices inside this process, and what they were granted. */
  get inline(): InlineDevice[] {
    return this.#slots.flatMap((slot) => slot.inline ?? []);
  }

  /** Files of sockets that listen: none of them outlives the VM. */
  get #socketFiles(): SocketFile[] {
    const inline = this.#slots.flatMap((slot) => slot.socketFiles);
    return [...this.#parent.socketFiles, ...inline, ...this.#otherFiles];
  }

  async #ask<T>(question: (starter: DeviceStarter) => Promise<T> | T): Promise<T> {
    const answer = (async () => question(this.#starter))();
    this.#underWay.add(answer);
    try {
      return await answer;
    } finally {
      this.#underWay.delete(answer);
    }
  }

  #startSlot(slot: DeviceSlot): Promise<void> {
    return this.#ask((starter) =>
      slot.start(starter, (exit) => this.#died(slot, slot.died({ exit }))),
    );
  }

  #tell(command: IoCommand): void {
    this.#worker?.postMessage(command);
    this.#wake.signal();
  }

  #reported(report: IoReport): void {
    if (report.type === "described") {
      for (const take of this.#describing.splice(0)) take(report.devices);
      return;
    }
    const slot = this.#slots[report.device];
    assert(slot !== undefined, `a report of device ${report.device}`);
    const { id } = slot.config;
    switch (report.type) {
      case "log":
        slot.lastLog = slot.explain(report.text);
        this.#emit({ event: "log", level: "info", id, text: slot.lastLog });
        break;
      case "ready":
        void this.#deviceReady(slot, report.report);
        break;
      case "stuck":
        this.#emit({ event: "log", level: "warning", id, text: `killed: ${report.reason}` });
        slot.kill(`was killed for ${report.reason}`);
        break;
      case "denied":
        this.#denied(slot, report.call);
        break;
      case "broken":
        this.#emit({ event: "log", level: "warning", id, text: `device bug: ${report.reason}` });
        slot.kill(`was killed because it ${report.reason}`);
        this.#died(slot, slot.died(report));
        break;
      case "closed":
        slot.kill(); // it may have closed the socket and go on with its descriptors
        this.#died(slot, slot.died(report));
        break;
    }
  }

  /** The device tried what its policy does not allow; its thread waits in that call. */
  #denied(slot: DeviceSlot, call: string): void {
    const { id, seccomp } = slot.config;
    const what = `the system call ${call}, which its policy does not allow`;
    const text = seccomp === "log" ? `let through: ${what}` : `killed: it tried ${what}`;
    this.#emit({ event: "log", level: "warning", id, text });
    if (seccomp !== "log") slot.kill(`was killed because it tried ${what}`);
  }

  /** The device says that it is confined; only what /proc says of it counts. */
  async #deviceReady(slot: DeviceSlot, report: object): Promise<void> {
    const { generation } = slot;
    const isGone = () => slot.generation !== generation || this.#closing;
    try {
      const event = await this.#ask((starter) => slot.readyEvent(starter, report));
      if (isGone()) return; // it died while it was looked at, and its successor was not seen yet
      this.#emit(event);
    } catch (error) {
      if (!isGone()) slot.kill((error as Error).message);
      this.#settleReady?.reject(error as Error);
      return;
    }
    slot.ready = true;
    slot.confined = true;
    this.#tell({ type: "approve", device: slot.index });
    if (this.#slots.every((each) => each.ready)) this.#settleReady?.resolve();
  }

  /**
   * Starts a device again whose process is gone; what it had not answered is sent to the next one.
   */
  #died(slot: DeviceSlot, death: Death | undefined): void {
    if (death === undefined || this.#closing) return;
    const { id } = slot.config;
    this.#emit({ event: "device-exit", id, reason: death.reason });
    if (!slot.ready) {
      const why =
        slot.lastLog === undefined ? "" : `: ${slot.lastLog.split(": device says: ").at(-1)}`;
      const message = `Device ${id} ended before it was ready: ${death.reason}${why}`;
      this.#fail(death.trapped ? "ERR_DEVICE_FAILED" : "ERR_SANDBOX", message);
      return;
    }
    const verdict = slot.restarts.died(death.answered);
    if (verdict.restart) setTimeout(() => void this.#restart(slot), verdict.delayMs);
    else this.#giveUp(slot, death.reason);
  }

  async #restart(slot: DeviceSlot): Promise<void> {
    if (this.#closing) return;
    try {
      await this.#startSlot(slot);
      if (this.#closing) return;
      this.#tell(slot.attachCommand());
      this.#emit({ event: "device-restart", id: slot.config.id, pid: slot.pid });
    } catch (error) {
      if (this.#closing) return;
      this.#giveUp(slot, error instanceof Error ? error.message : String(error));
    }
  }

  /** The device stays dead: its driver is told to reset it and finds nobody there. */
  #giveUp(slot: DeviceSlot, reason: string): void {
    const { id } = slot.config;
    slot.failed = true;
    const text = `failed for good: ${reason}`;
    this.#emit({ event: "log", level: "warning", id, text });
    this.#tell({ type: "give-up", device: slot.index });
    if (this.#stopOnFailure)
      this.#stop.request({ reason: "device-failed", detail: `${id} ${text}` });
  }

  #fail(code: ErrorCode, message: string): void {
    this.#settleReady?.reject(new VmmError(code, message));
  }

  #workerFailed(error: Error): void {
    const detail = `the I/O worker failed: ${error.stack ?? error.message}`;
    this.#settleReady?.reject(new VmmError("ERR_INTERNAL", detail));
    this.#stop.request({ reason: "device-failed", detail });
  }

  /** Ends every device and the I/O worker; a device that does not leave by itself is killed. */
  async close(): Promise<void> {
    this.#closing = true;
    // A device that is being started is one to end, and a proof is of a device that runs.
    await Promise.allSettled(this.#underWay);
    if (this.#worker !== undefined) {
      this.#tell({ type: "stop" });
      await this.#workerEnded;
    }
    await Promise.all(this.#slots.map((slot) => slot.close()));
    await this.#warden?.close();
    // Once a guest runs only the warden may remove a file.
    if (this.#starter === this.#parent) this.#socketFiles.forEach(removeSocketFile);
    this.#parent.letGo();
    this.#wake.close();
  }
}
