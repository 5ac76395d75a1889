// The I/O worker: one thread that owns every transport, every queue and every device socket, so
// that none of them needs a lock. It sleeps in epoll_wait and serves four kinds of events: a
// driver's kick (ioeventfd), a device's reply (socket), a vCPU's register access (mailbox) and the
// supervisor's word.

import { parentPort, receiveMessageOnPort } from "node:worker_threads";
import { assert } from "../errors.js";
import { gettid } from "../ffi/libc.js";
import { Vm } from "../kvm/kvm.js";
import type { InlineChannel } from "../runtime/inline.js";
import type { GrantedFd } from "../sandbox/grants.js";
import type { Manifest, ModuleFacts } from "../sandbox/manifest.js";
import type { OptionValue } from "../sandbox/options.js";
import { WATCHDOG_INTERVAL_MS } from "../sandbox/watchdog.js";
import { GuestMemory } from "../virtio/memory.js";
import { nobody } from "../virtio/window.js";
import { type Bus, MmioBus } from "./bus.js";
import type { SeccompMode, Transport } from "./config.js";
import { EPOLLET, EPOLLIN, Epoll } from "./epoll.js";
import { IoDevice, type IoHost } from "./io-device.js";
import { hasCoreToSpare, Lookout } from "./lookout.js";
import { MailboxServer } from "./mailbox.js";
import { PciBus } from "./pci-bus.js";
import { PciLines } from "./pci-lines.js";
import { ramWindows } from "./ram.js";
import { Shared } from "./shared.js";
import { threadData } from "./thread.js";

/** A device as the I/O worker knows it. */
export interface IoDeviceData {
  id: string;
  manifest: Manifest;
  /** An eventfd a queue, signalled by the driver's QueueNotify. */
  notifyFds: number[];
  /** Signalled to interrupt the guest. */
  interruptFd: number;
  /** Can be read when the device shall look again at what it was granted. */
  wakeFds: number[];
}

export interface IoWorkerData {
  shared: SharedArrayBuffer;
  /** Figures of the devices, see counters.ts. */
  counters: SharedArrayBuffer;
  cpuCount: number;
  ramAddress: number;
  memoryBytes: number;
  /** Signalled by vCPUs that ask and by the supervisor. */
  wakeFd: number;
  transport: Transport;
  /** The VM, for its interrupts. */
  vmFd: number;
  devices: IoDeviceData[];
}

/** Supervisor → I/O worker, followed by a signal of the wake descriptor. */
export type IoCommand =
  | AttachProcess
  | AttachInline
  | { type: Word; device: number }
  | { type: "describe" }
  | { type: "stop" };
/**
 * The device was found confined, and may see requests; it is given up, and its driver told that it
 * needs a reset; it is to look again at what it was granted.
 */
export type Word = "approve" | "give-up" | "wake";
export interface AttachProcess {
  type: "attach-process";
  device: number;
  socketFd: number;
  pid: number;
  seccomp: SeccompMode;
}
interface AttachInline {
  type: "attach-inline";
  device: number;
  module: Uint8Array;
  grants: GrantedFd[];
  options: readonly OptionValue[];
}

/** I/O worker → supervisor. */
export type IoReport =
  | { type: "ready"; device: number; report: object }
  | { type: "closed"; device: number; answered: number }
  | { type: "broken"; device: number; answered: number; reason: string }
  | { type: "stuck"; device: number; reason: string }
  | { type: "denied"; device: number; call: string }
  | { type: "log"; device: number; text: string }
  /** Lines about each device. */
  | { type: "described"; devices: string[][] };

class IoWorker implements IoHost {
  readonly epoll = new Epoll();
  readonly lookout: Lookout;
  readonly memory: GuestMemory;
  readonly shared: Shared;
  readonly counters: SharedArrayBuffer;
  readonly pci: PciLines | undefined;
  readonly post: (report: IoReport) => void;
  readonly #devices: IoDevice[];
  readonly #bus: Bus;
  readonly #mailboxes: MailboxServer;
  #stopped = false;

  constructor(data: IoWorkerData, post: (report: IoReport) => void) {
    this.post = post;
    this.lookout = new Lookout(this.epoll, { looks: hasCoreToSpare(data.cpuCount) });
    this.shared = new Shared(data.shared);
    this.counters = data.counters;
    this.shared.ioThread = gettid();
    this.memory = new GuestMemory(ramWindows(data.ramAddress, data.memoryBytes));
    const cpus = Array.from({ length: data.cpuCount }, (_, cpu) => this.shared.mailbox(cpu));
    this.#mailboxes = new MailboxServer(cpus);
    this.pci = data.transport === "pci" ? new PciLines(new Vm(data.vmFd)) : undefined;
    this.#devices = data.devices.map((device, index) => new IoDevice(index, device, this));
    this.#bus =
      this.pci === undefined
        ? new MmioBus(this.#devices.map(({ mmio }) => mmio!))
        : new PciBus(this.#devices.map(({ pci }) => pci!));
    this.epoll.add(data.wakeFd, EPOLLIN | EPOLLET, () => this.#woken());
  }

  /** Serves events until the supervisor says stop. Commands that need to wait are awaited here. */
  async run(): Promise<void> {
    await this.#obey();
    while (!this.#stopped) {
      this.lookout.wait(Math.min(this.#untilWatch(), this.#untilDue()));
      if (this.#accessesWait) this.#serveAccesses();
      if (this.#commandsWait) await this.#obey();
    }
    for (const device of this.#devices) device.close();
    this.epoll.close();
  }

  #commandsWait = false;
  #accessesWait = false;
  #watchAt = performance.now() + WATCHDOG_INTERVAL_MS;

  /** Looks after the devices when it is time to; returns how long until the next time. */
  #untilWatch(): number {
    const now = performance.now();
    if (now >= this.#watchAt) {
      for (const device of this.#devices) device.watch();
      this.#watchAt = now + WATCHDOG_INTERVAL_MS;
    }
    return Math.ceil(this.#watchAt - now);
  }

  /** Wakes devices whose time has come; returns the milliseconds until that of the next one. */
  #untilDue(): number {
    let restMs = Number.POSITIVE_INFINITY;
    for (const device of this.#devices) restMs = Math.min(restMs, device.tick());
    return restMs;
  }

  #woken(): void {
    this.#serveAccesses();
    this.#commandsWait = true;
  }

  /** An access that must wait for its device is tried again after whatever happens next. */
  #serveAccesses(): void {
    this.#accessesWait = this.#mailboxes.serve((access) => {
      const place = this.#bus.find(access);
      if (place === undefined) return nobody(access.bytes);
      const { device, window, offset } = place;
      if (device !== undefined) return this.#devices[device]!.access(window, offset, access);
      if (!access.isWrite) return window.read(offset, access.bytes);
      window.write(offset, access.bytes, access.value);
      return 0;
    });
  }

  async #obey(): Promise<void> {
    this.#commandsWait = false;
    assert(parentPort !== null, "the I/O worker is a worker thread");
    for (;;) {
      const received = receiveMessageOnPort(parentPort);
      if (received === undefined) return;
      await this.#command(received.message as IoCommand);
    }
  }

  async #command(command: IoCommand): Promise<void> {
    if (command.type === "stop") {
      this.#stopped = true;
      return;
    }
    if (command.type === "describe") {
      this.post({ type: "described", devices: this.#devices.map((each) => each.describe()) });
      return;
    }
    const device = this.#devices[command.device];
    assert(device !== undefined, `command for device ${command.device}`);
    if (command.type === "attach-process") {
      device.attachSocket(command);
    } else if (command.type === "attach-inline") {
      device.attachInline(await inlineChannel(command, this.shared), command.grants);
    } else device.obey(command.type);
  }
}

/** The device of `command`, running in this thread; its code is loaded only for such a device. */
async function inlineChannel(command: AttachInline, shared: Shared): Promise<InlineChannel> {
  const [{ InlineChannel }, { DeviceInstance }, { GrantedFiles }] = await Promise.all([
    import("../runtime/inline.js"),
    import("../runtime/instance.js"),
    import("../runtime/wasi_snapshot_preview1.js"),
  ]);
  const world = ({ manifest }: ModuleFacts) => new GrantedFiles(manifest, command.grants);
  const enter = () => shared.enterInline(command.device);
  const leave = () => shared.leaveInline();
  const device = DeviceInstance.create(command.module, world);
  return new InlineChannel(device, { options: command.options, presence: { enter, leave } });
}

function main(): void {
  assert(parentPort !== null, "the I/O worker is a worker thread");
  const port = parentPort;
  const data = threadData<IoWorkerData>();
  if (data === undefined) return;
  const worker = new IoWorker(data, (report) => port.postMessage(report));
  void worker.run().then(() => port.close());
}

main();
