// One device in the I/O worker: its registers, and the channel to where its code runs.

import { close, read } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import type { InlineChannel } from "../runtime/inline.js";
import type { GrantedFd } from "../sandbox/grants.js";
import { cpuMsOf, hasUnread, Watchdog } from "../sandbox/watchdog.js";
import { CONFIG_ANSWER_MS_MAX } from "../virtio/config-writes.js";
import { describeRegisters } from "../virtio/describe.js";
import { DeviceLink } from "../virtio/link.js";
import type { GuestMemory } from "../virtio/memory.js";
import { MmioTransport } from "../virtio/mmio.js";
import { PciFunction } from "../virtio/pci.js";
import { RegisterFile } from "../virtio/registers.js";
import type { Window } from "../virtio/window.js";
import { SocketChannel } from "../wire/channel.js";
import { CounterWriter } from "./counters.js";
import { DenialWatch } from "./denial-watch.js";
import { EPOLLET, EPOLLIN, EPOLLOUT, type Epoll } from "./epoll.js";
import { EventFd } from "./eventfd.js";
import { InlineEvents } from "./inline-events.js";
import type { AttachProcess, IoDeviceData, IoReport, Word } from "./io-worker.js";
import { pciPlace } from "./layout.js";
import type { Lookout } from "./lookout.js";
import type { BusAccess } from "./mailbox.js";
import type { PciLines } from "./pci-lines.js";
import type { Shared } from "./shared.js";

/**
 * Messages of an inline device in one turn: a driver that always has more must not starve the
 * others.
 */
const INLINE_MESSAGES_MAX = 64;

/** Read at a time of what only says that there is something; the rest is read the next time. */
const NEWS_BYTES = 4096;

/** Why a device is ended that leaves a vCPU waiting; it is looked for when there is time to. */
const CONFIG_OVERDUE = `no answer to a write of its config space in ${CONFIG_ANSWER_MS_MAX} ms`;

/** What the devices of a VM share. */
export interface IoHost {
  readonly epoll: Epoll;
  readonly lookout: Lookout;
  readonly memory: GuestMemory;
  readonly shared: Shared;
  /** Figures of all devices, see counters.ts. */
  readonly counters: SharedArrayBuffer;
  /** Of PCI; undefined with virtio-mmio. */
  readonly pci: PciLines | undefined;
  post(report: IoReport): void;
}

export class IoDevice {
  readonly registers: RegisterFile;
  /** Registers as virtio-mmio has them, or else as a PCI function. */
  readonly mmio: MmioTransport | undefined;
  readonly pci: PciFunction | undefined;
  readonly #link: DeviceLink;
  readonly #counters: CounterWriter;
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

  constructor(index: number, data: IoDeviceData, worker: IoHost) {
    const { id, manifest } = data;
    this.#index = index;
    this.#epoll = worker.epoll;
    this.#post = (report) => worker.post(report);
    this.#counters = new CounterWriter(worker.counters, index);
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
      interrupt: (queue) => (this.pci ? this.pci.interrupt(queue) : interrupt.signal()),
      log,
      meter: this.#counters,
    });
    if (worker.pci === undefined) this.mmio = new MmioTransport(this.registers);
    else {
      const place = pciPlace(index);
      const ignored = (kind: string, detail: string) => this.registers.ignored(kind, detail);
      const wires = worker.pci.wires({ place, doorbells: data.notifyFds, ignored });
      this.pci = new PciFunction(this.registers, wires, place);
    }
    const notify = (queue: number) => this.#notify(queue);
    this.#link = new DeviceLink(this.registers, {
      log,
      ready: (report) => worker.post({ type: "ready", device: index, report }),
      closed: () => this.#detached({ type: "closed" }),
      broken: (reason) => this.#detached({ type: "broken", reason }),
      looksAt: (queue) => worker.lookout.takes(queue, notify),
    });
    this.#epoll.add(this.#again.fd, EPOLLIN | EPOLLET, () => this.#settle());
    for (const [queue, fd] of data.notifyFds.entries()) {
      this.#epoll.add(fd, EPOLLIN | EPOLLET, () => this.#kick(queue));
    }
    for (const fd of data.wakeFds) this.#epoll.add(fd, EPOLLIN, () => this.#lookAgain(fd));
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
    this.#counters.started();
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
    this.#counters.started();
    this.#link.attach(channel);
    this.#settle();
  }

  /** Makes an access to its `window`; undefined when the device must say something first. */
  access(window: Window, offset: number, access: BusAccess): number | undefined {
    const { bytes, isWrite, value } = access;
    if (window.mustWait(offset)) {
      if (!this.#link.configOverdue) return undefined;
      this.#stuck(CONFIG_OVERDUE);
    }
    let result = 0;
    if (isWrite) window.write(offset, bytes, value);
    else result = window.read(offset, bytes);
    this.#settle();
    return result;
  }

  /** Takes what can be read from a descriptor that wakes the device, and wakes it. */
  #lookAgain(fd: number): void {
    const news = Mapping.anonymous(NEWS_BYTES);
    read(fd, news.address, news.bytes);
    news.close();
    this.#link.wake();
    this.#settle();
  }

  #kick(queue: number): void {
    this.#counters.kicked();
    this.#notify(queue);
  }

  #notify(queue: number): void {
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
    this.#counters.messages(this.#link.sentCount, this.#link.receivedCount);
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

  /** Does what the supervisor says of a device that is attached. */
  obey(word: Word): void {
    if (word === "approve") this.#link.approve();
    if (word === "wake") this.#link.wake();
    if (word === "give-up") this.registers.abandon("the device failed for good");
    this.#settle();
  }

  /** Lines about what it is in the middle of. */
  describe(): string[] {
    const { sentCount, receivedCount, wantsWritable } = this.#link;
    const full = wantsWritable ? ", its socket is full" : "";
    return [
      ...describeRegisters(this.registers),
      `messages since its start: ${sentCount} to it, ${receivedCount} from it${full}`,
    ];
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
