// The I/O worker: one thread that owns every transport, every queue and every device socket, so
// that none of them needs a lock. It sleeps in epoll_wait and serves four kinds of events: a
// driver's kick (ioeventfd), a device's reply (socket), a vCPU's register access (mailbox) and the
// supervisor's word.

import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { assert } from "../errors.js";
import { close, gettid } from "../ffi/libc.js";
import type { InlineChannel } from "../runtime/inline.js";
import type { GrantedFd } from "../sandbox/grants.js";
import type { Manifest, ModuleFacts } from "../sandbox/manifest.js";
import type { OptionValue } from "../sandbox/options.js";
import { cpuMsOf, hasUnread, WATCHDOG_INTERVAL_MS, Watchdog } from "../sandbox/watchdog.js";
import { CONFIG_ANSWER_MS_MAX } from "../virtio/config-writes.js";
import { DeviceLink } from "../virtio/link.js";
import { GuestMemory } from "../virtio/memory.js";
import { MmioTransport } from "../virtio/mmio.js";
import { RegisterFile } from "../virtio/registers.js";
import { SocketChannel } from "../wire/channel.js";
import type { SeccompMode } from "./config.js";
import { DenialWatch } from "./denial-watch.js";
import { EPOLLET, EPOLLIN, EPOLLOUT, Epoll } from "./epoll.js";
import { EventFd } from "./eventfd.js";
import { InlineEvents } from "./inline-events.js";
import { MailboxServer, type RegisterAccess } from "./mailbox.js";
import { ramWindows } from "./ram.js";
import { Shared } from "./shared.js";

/** A device as the I/O worker knows it. */
export interface IoDeviceData {
  id: string;
  manifest: Manifest;
  /** An eventfd a queue, signalled by the driver's QueueNotify. */
  notifyFds: number[];
  /** Signalled to interrupt the guest. */
  interruptFd: number;
}

export interface IoWorkerData {
  shared: SharedArrayBuffer;
  cpuCount: number;
  ramAddress: number;
  memoryBytes: number;
  /** Signalled by vCPUs that ask and by the supervisor. */
  wakeFd: number;
  devices: IoDeviceData[];
}

/** Supervisor → I/O worker, followed by a signal of the wake descriptor. */
export type IoCommand =
  | AttachProcess
  | AttachInline
  | { type: "approve"; device: number }
  | { type: "give-up"; device: number }
  | { type: "stop" };
interface AttachProcess {
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
  | { type: "log"; device: number; text: string };

/**
 * Messages of an inline device in one turn: a driver that always has more must not starve the
 * others.
 */
const INLINE_MESSAGES_MAX = 64;

/** Why a device is ended that leaves a vCPU waiting; it is looked for when there is time to. */
const CONFIG_OVERDUE = `no answer to a write of its config space in ${CONFIG_ANSWER_MS_MAX} ms`;

/** One device: its registers, and the channel to where its code runs. */
class IoDevice {
  readonly registers: RegisterFile;
  readonly #transport: MmioTransport;
  readonly #link: DeviceLink;
  readonly #epoll: Epoll;
  readonly #post: (report: IoReport) => void;
  readonly #index: number;
  #socketFd = -1;
  #socket: SocketChannel | undefined;
  #watched = 0;
  #pid = 0;
  #watchdog: Watchdog | undefined;
  #denials: DenialWatch | undefined;
  #inline: InlineChannel | undefined;
  /** What the device waits for, if it runs here and may wait for something. */
  #events: InlineEvents | undefined;
  /** Wakes this thread again for an inline device that has more to say than one turn allows. */
  readonly #again = EventFd.create();

  constructor(index: number, data: IoDeviceData, worker: IoWorker) {
    const { id, manifest } = data;
    this.#index = index;
    this.#epoll = worker.epoll;
    this.#post = worker.post;
    const interrupt = new EventFd(data.interruptFd);
    const log = (text: string) => worker.post({ type: "log", device: index, text });
    this.registers = new RegisterFile(worker.memory, {
      id,
      virtioId: manifest.virtioId,
      queueSizesMax: manifest.queues,
      features: BigInt(manifest.features),
      configBytes: manifest.config,
      interruptStatus: worker.shared.words,
      interruptIndex: worker.shared.interruptStatusIndex(index),
      interrupt: () => interrupt.signal(),
      log,
    });
    this.#transport = new MmioTransport(this.registers);
    this.#link = new DeviceLink(this.registers, {
      log,
      ready: (report) => worker.post({ type: "ready", device: index, report }),
      closed: () => this.#detached({ type: "closed" }),
      broken: (reason) => this.#detached({ type: "broken", reason }),
    });
    this.#epoll.add(this.#again.fd, EPOLLIN | EPOLLET, () => this.#settle());
    for (const [queue, fd] of data.notifyFds.entries()) {
      this.#epoll.add(fd, EPOLLIN | EPOLLET, () => this.#kick(queue));
    }
  }

  attachSocket({ socketFd: fd, pid, seccomp }: AttachProcess): void {
    this.#socketFd = fd;
    this.#pid = pid;
    this.#watchdog = new Watchdog();
    if (seccomp !== "off") {
      const denied = (call: string) => this.#post({ type: "denied", device: this.#index, call });
      this.#denials = new DenialWatch(this.#epoll, { log: seccomp === "log", denied });
    }
    this.#watched = EPOLLIN;
    this.#epoll.add(fd, EPOLLIN, (events) => this.#socketReady(events));
    this.#socket = new SocketChannel(fd);
    this.#link.attach(this.#socket);
    this.#settle();
  }

  /** The device's code runs here; its grants are the supervisor's to close. */
  attachInline(channel: InlineChannel, grants: readonly GrantedFd[]): void {
    this.#inline = channel;
    const awaitable = channel.awaitable(grants);
    if (awaitable !== undefined) {
      const options = { epoll: this.#epoll, woken: () => this.#settle() };
      this.#events = new InlineEvents(channel, awaitable, options);
    }
    this.#link.attach(channel);
    this.#settle();
  }

  /** Makes the access; undefined when the device must say something first. */
  access(access: RegisterAccess): number | undefined {
    const { offset, bytes, isWrite, value } = access;
    if (this.#transport.mustWait(offset)) {
      if (!this.#link.configOverdue) return undefined;
      this.#stuck(CONFIG_OVERDUE);
    }
    let result = 0;
    if (isWrite) this.#transport.write(offset, bytes, value);
    else result = this.#transport.read(offset, bytes);
    this.#settle();
    return result;
  }

  #kick(queue: number): void {
    this.registers.notify(queue);
    this.#settle();
  }

  #socketReady(events: number): void {
    if (this.#denials?.introduce(this.#socketFd)) return;
    if (events & EPOLLOUT) this.#link.onWritable();
    if (this.#socketFd !== -1 && events & ~EPOLLOUT) this.#link.onReadable();
    this.#settle();
  }

  /**
   * After anything happened: an inline device has answered by now; a socket may have become full.
   */
  #settle(): void {
    if (this.#inline !== undefined) this.#serveInline(this.#inline);
    this.#events?.update();
    if (this.#socketFd === -1) return;
    const wanted = this.#link.wantsWritable ? EPOLLIN | EPOLLOUT : EPOLLIN;
    if (wanted === this.#watched) return;
    this.#watched = wanted;
    this.#epoll.modify(this.#socketFd, wanted);
  }

  #serveInline(channel: InlineChannel): void {
    for (let i = 0; i < INLINE_MESSAGES_MAX; i++) {
      if (this.#link.wantsWritable) this.#link.onWritable();
      if (this.#inline === undefined || !channel.ready) return;
      this.#link.onReadable();
    }
    this.#again.signal();
  }

  /** Wakes an inline device whose deadline has passed; returns the milliseconds until it has. */
  tick(): number {
    if (this.#events === undefined) return Number.POSITIVE_INFINITY;
    const now = process.hrtime.bigint();
    this.#events.tick(now);
    return this.#events?.restMs(now) ?? Number.POSITIVE_INFINITY;
  }

  /** Looks whether the device's process computes without end; says so once. */
  watch(): void {
    if (this.#watchdog === undefined || this.#socketFd === -1) return;
    // Before READY it may compile for long on a slow machine; the supervisor's time limit counts
    // then.
    if (this.#link.receivedCount === 0) return;
    const cpuMs = cpuMsOf(this.#pid);
    if (cpuMs === undefined) return; // it is gone, and its socket tells
    const { sentCount: sent, receivedCount: received } = this.#link;
    const unread = hasUnread(this.#socketFd);
    const reason = this.#watchdog.look({ sent, received, unread, cpuMs });
    if (reason === undefined) return;
    this.#stuck(reason);
  }

  /** Has the supervisor end the device, once; what it owes is its successor's. */
  #stuck(reason: string): void {
    if (this.#watchdog === undefined || this.#socketFd === -1) return;
    this.#watchdog = undefined;
    this.#post({ type: "stuck", device: this.#index, reason });
  }

  /** The supervisor found the device confined: it may see requests. */
  approve(): void {
    this.#link.approve();
    this.#settle();
  }

  /** The device is given up: whatever the driver does, it is told that the device needs a reset. */
  giveUp(): void {
    this.registers.abandon("the device failed for good");
  }

  #detached(how: { type: "closed" } | { type: "broken"; reason: string }): void {
    if (this.#socketFd !== -1) {
      this.#epoll.remove(this.#socketFd);
      close(this.#socketFd);
      this.#socketFd = -1;
    }
    this.#denials?.close();
    // The link has let go of it; what it has mapped would stay at each death.
    this.#socket?.close();
    this.#socket = undefined;
    this.#inline?.release();
    this.#inline = undefined;
    this.#events?.close();
    this.#events = undefined;
    this.#post({ ...how, device: this.#index, answered: this.#link.answered });
  }

  close(): void {
    this.#again.close();
    this.#denials?.close();
    this.#socket?.close();
    if (this.#socketFd !== -1) close(this.#socketFd);
  }
}

class IoWorker {
  readonly epoll = new Epoll();
  readonly memory: GuestMemory;
  readonly shared: Shared;
  readonly post: (report: IoReport) => void;
  readonly #devices: IoDevice[];
  readonly #mailboxes: MailboxServer;
  #stopped = false;

  constructor(data: IoWorkerData, post: (report: IoReport) => void) {
    this.post = post;
    this.shared = new Shared(data.shared);
    this.shared.ioThread = gettid();
    this.memory = new GuestMemory(ramWindows(data.ramAddress, data.memoryBytes));
    const cpus = Array.from({ length: data.cpuCount }, (_, cpu) => this.shared.mailbox(cpu));
    this.#mailboxes = new MailboxServer(cpus);
    this.#devices = data.devices.map((device, index) => new IoDevice(index, device, this));
    this.epoll.add(data.wakeFd, EPOLLIN | EPOLLET, () => this.#woken());
  }

  /** Serves events until the supervisor says stop. Commands that need to wait are awaited here. */
  async run(): Promise<void> {
    await this.#obey();
    while (!this.#stopped) {
      this.epoll.wait(Math.min(this.#untilWatch(), this.#untilDue()));
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
      const device = this.#devices[access.device];
      return device === undefined ? 0 : device.access(access);
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
    const device = this.#devices[command.device];
    assert(device !== undefined, `command for device ${command.device}`);
    if (command.type === "attach-process") {
      device.attachSocket(command);
    } else if (command.type === "approve") {
      device.approve();
    } else if (command.type === "give-up") {
      device.giveUp();
    } else {
      device.attachInline(await inlineChannel(command, this.shared), command.grants);
    }
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
  const worker = new IoWorker(workerData as IoWorkerData, (report) => port.postMessage(report));
  void worker.run().then(() => port.close());
}

main();
