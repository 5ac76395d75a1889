// Between the queues of a device and the process that serves it. Chains become requests on the way
// out, straight from guest memory; replies are distrusted, and what is right about them goes
// straight into the writable segments of their chains. Chains are kept until answered, so that a
// device process may die at any time: attach() of the next one sends again what the last one owes.

import { type Channel, FULL, NOTHING, SENT } from "../wire/channel.js";
import {
  ACTIVATE,
  ACTIVATE_BYTES,
  CONFIG,
  CONFIGURE,
  CONFIGURE_BYTES,
  GENERATION,
  HEADER_BYTES,
  IDLE,
  LOG,
  QUEUE,
  READY,
  REPLIES,
  RESET,
  TYPE,
  WAKE,
} from "../wire/format.js";
import { LineLog } from "../wire/line-log.js";
import {
  entriesFault,
  LOG_BYTES_MAX,
  printable,
  READY_BYTES_MAX,
  reportIn,
} from "../wire/message.js";
import type { Backend } from "./backend.js";
import { NONE } from "./chains.js";
import { type ConfigWrite, ConfigWrites } from "./config-writes.js";
import type { DeviceLinkOptions } from "./link-options.js";
import type { RegisterFile } from "./registers.js";
import { repliesFault, scatterReplies, useReplies } from "./replies.js";
import { noteSent, packRequests, roomBeside } from "./requests.js";
import { BLOCKED, FAULT, type Queue } from "./virtqueue.js";

/** The only way from chains of one device to messages, and back. */
export class DeviceLink implements Backend {
  readonly #registers: RegisterFile;
  readonly #options: DeviceLinkOptions;
  readonly #log: LineLog;
  #channel: Channel | undefined;
  /** The process attached has sent READY, and whoever had to look at it found it confined. */
  #greeted = false;
  #ready = false;
  #withheld = 0; // features of the process attached that are not offered
  /** Counts resets: a reply to something older is void. */
  #generation: number;
  /** The driver set DRIVER_OK, and accepted these features. */
  #active = false;
  #features = 0n;
  #resetPending = false; // what the process attached must hear before any request
  #activatePending = false;
  #wakePending = false;
  /** The process attached has heard of the driver, so only a RESET makes it fresh again. */
  #touched = false;
  #stalled = false; // the socket was full
  #starved = false; // the device has no room for more readable bytes until it has answered some
  #sentCount = 0; // messages to the process attached
  #receivedCount = 0; // and from it
  #answered = 0;
  readonly #configWrites: ConfigWrites;
  /** The last CONFIG, until it counts: the device is approved, and has answered all writes. */
  #configPending: Uint8Array | undefined;
  /** Queue that is served first when there is room again: in turns, but pieces stay together. */
  #first = 0;

  constructor(registers: RegisterFile, options: DeviceLinkOptions) {
    this.#registers = registers;
    this.#options = options;
    this.#generation = options.generation ?? 0;
    const now = options.now ?? (() => performance.now());
    this.#log = new LineLog((line) => options.log(line), now);
    this.#configWrites = new ConfigWrites(now);
    registers.backend = this;
  }

  /**
   * Connects a fresh device process, the first or a later one. It is told of everything unanswered
   * once it is ready; the channel remains the caller's to close, after closed() or broken().
   */
  attach(channel: Channel): void {
    for (const queue of this.#registers.queues) queue.chains.rewind();
    this.#configWrites.attach();
    this.#configPending = undefined;
    this.detach();
    this.#channel = channel;
    this.#touched = false;
    this.#resetPending = false;
    this.#activatePending = this.#active;
    this.#answered = 0;
    this.#sentCount = 0;
    this.#receivedCount = 0;
  }

  /** Messages sent to the process attached last, and received from it: for its watchdog. */
  get sentCount(): number {
    return this.#sentCount;
  }

  /** Messages received from the process attached last, without its lines for the log. */
  get receivedCount(): number {
    return this.#receivedCount;
  }

  /** Messages of new answers that the process attached last has sent: whether it got anywhere. */
  get answered(): number {
    return this.#answered + this.#configWrites.answered;
  }

  /** The process that said READY may see requests: until then it gets nothing from the guest. */
  approve(): void {
    if (!this.#greeted || this.#ready) return;
    const fault = this.#registers.withhold(BigInt(this.#withheld));
    if (fault !== "") this.#break(fault);
    this.#ready = fault === "";
    this.#resume();
  }

  /** Uses the channel no more; for a process that the caller ends. */
  detach(): void {
    this.#channel = undefined;
    this.#greeted = false;
    this.#ready = false;
    this.#stalled = false;
  }

  /** Call onWritable() when the channel has room. */
  get wantsWritable(): boolean {
    return this.#stalled;
  }

  /** The channel has room again. */
  onWritable(): void {
    this.#stalled = false;
    this.#resume();
  }

  // Backend

  activate(features: bigint): void {
    this.#active = true;
    this.#features = features;
    this.#activatePending = true;
    this.#resume();
  }

  reset(): void {
    this.#generation = (this.#generation + 1) >>> 0;
    this.#active = false;
    this.#activatePending = false;
    this.#resetPending = this.#touched;
    this.#configWrites.reset();
    this.#resume();
  }

  configure(write: ConfigWrite): void {
    this.#configWrites.add(write);
    this.#sendConfigures();
  }

  get configSettled(): boolean {
    return this.#configWrites.settled;
  }

  /** Whether the driver has waited too long for an answer to its write of the config space. */
  get configOverdue(): boolean {
    return this.#configWrites.overdue;
  }

  /** Has the device look again at what it was granted, whether a driver is there or not. */
  wake(): void {
    this.#wakePending = true;
    this.#resume();
  }

  kick(queue: Queue): void {
    if (this.#serving) this.#pump(queue);
  }

  // Outgoing

  /** The process attached is where the driver is. */
  get #abreast(): boolean {
    return this.#ready && !this.#resetPending && !this.#activatePending;
  }

  get #serving(): boolean {
    return this.#abreast && this.#registers.running;
  }

  /** Sends whatever waits, as far as the socket takes it. */
  #resume(): void {
    this.#adoptConfig();
    if (!this.#ready || this.#stalled) return;
    if (this.#resetPending && this.#sendControl(RESET, 0)) {
      this.#resetPending = false;
      this.#touched = false;
    }
    if (this.#activatePending && !this.#resetPending) this.#sendActivate();
    this.#sendConfigures();
    if (this.#wakePending && !this.#stalled) this.#wakePending = !this.#sendControl(WAKE, 0);
    const { queues } = this.#registers;
    const inPieces = queues.findIndex(({ chains }) => chains.inPieces);
    this.#first = inPieces >= 0 ? inPieces : (this.#first + 1) % queues.length;
    for (let i = 0; i < queues.length; i += 1) {
      const queue = queues[(this.#first + i) % queues.length]!;
      if (this.#serving && queue.ready) this.#pump(queue);
    }
  }

  #sendActivate(): void {
    const { outgoingControl } = this.#channel!;
    const view = new DataView(outgoingControl.buffer, outgoingControl.byteOffset, ACTIVATE_BYTES);
    view.setBigUint64(0, this.#features, true);
    if (!this.#sendControl(ACTIVATE, ACTIVATE_BYTES)) return;
    this.#activatePending = false;
    this.#touched = true;
  }

  /** After ACTIVATE, where that waits: so it is at every restart. */
  #sendConfigures(): void {
    while (this.#abreast && !this.#stalled) {
      if (!this.#configWrites.encode(this.#channel!.outgoingControl)) return;
      if (!this.#sendControl(CONFIGURE, CONFIGURE_BYTES)) return;
      this.#configWrites.noteSent();
      this.#touched = true;
    }
  }

  #sendControl(type: number, bytes: number): boolean {
    this.#channel!.outgoing.set([type, 0, 0, this.#generation]); // of no queue, and no entries
    this.#channel!.gatherControl(bytes);
    return this.#sent(this.#channel!.send());
  }

  /** A process that is gone is noticed by reading; until then nothing is lost. */
  #sent(result: number): boolean {
    if (result === FULL) this.#stalled = true;
    if (result !== SENT) return false;
    this.#sentCount += 1;
    this.#configWrites.noteMessage();
    return true;
  }

  /** Takes every available chain of `queue` and sends it, until the driver is to notify again. */
  #pump(queue: Queue): void {
    for (;;) {
      queue.suppressNotifications();
      let popped = queue.pop();
      while (popped >= 0) popped = queue.pop();
      if (popped === FAULT) {
        this.#registers.driverBug(queue.fault);
        return;
      }
      this.#sendUnsent(queue);
      // BLOCKED: the replies that make room come back here, so there is nothing to notify of.
      if (popped === BLOCKED || this.#options.looksAt?.(queue) || !queue.armNotifications()) return;
    }
  }

  #sendUnsent(queue: Queue): void {
    const { chains } = queue;
    const channel = this.#channel!;
    while (chains.unsent !== NONE && !this.#stalled) {
      if (!packRequests(queue, channel, roomBeside(this.#registers.queues))) {
        this.#starved = true;
        return;
      }
      channel.outgoing[GENERATION] = this.#generation;
      if (!this.#sent(channel.send())) return;
      noteSent(chains, channel.outgoing);
    }
  }

  // Incoming

  /**
   * The channel has something: takes one message, so that a device that talks all the time does not
   * keep others waiting. False when there was nothing, or nobody any more.
   */
  onReadable(): boolean {
    const channel = this.#channel;
    if (channel === undefined) return false;
    const length = channel.peek();
    if (length === NOTHING) return false;
    if (length === 0) {
      this.detach();
      this.#options.closed();
      return false;
    }
    const fault = channel.hasDescriptors ? "a descriptor" : this.#receive(length);
    if (fault !== undefined) this.#break(fault);
    return fault === undefined;
  }

  /** Nothing that this device says counts any more. */
  #break(fault: string): void {
    this.detach();
    this.#registers.fail(`device bug: sent ${fault}`);
    this.#options.broken(`sent ${fault}`);
  }

  /** Takes the message that was peeked, or says what is wrong with it. */
  #receive(length: number): string | undefined {
    if (length < HEADER_BYTES) return `a message of ${length} bytes`;
    const type = this.#channel!.incoming[TYPE]!;
    // A line of text is no sign that the device gets anywhere: an endless loop can write it, too.
    if (type !== LOG) this.#receivedCount += 1;
    switch (type) {
      case REPLIES:
        return this.#receiveReplies(length);
      case READY:
        return this.#receiveReady(length - HEADER_BYTES);
      case LOG:
        return this.#receiveLog(length - HEADER_BYTES);
      case CONFIG:
        return this.#receiveConfig(length - HEADER_BYTES);
      case IDLE:
        this.#channel!.take();
        return length === HEADER_BYTES ? undefined : `IDLE of ${length} bytes`;
      default:
        return `a message of unknown type ${type}`;
    }
  }

  #takeControl(bytes: number): Uint8Array {
    const channel = this.#channel!;
    channel.scatterControl(bytes);
    channel.take();
    return channel.incomingControl.subarray(0, bytes);
  }

  #receiveReady(bytes: number): string | undefined {
    if (this.#greeted) return "READY twice";
    if (this.#registers.config.bytes > 0 && !this.#configPending) return "READY before CONFIG";
    if (bytes > READY_BYTES_MAX) return `READY of ${bytes} bytes`;
    const report = reportIn(this.#takeControl(bytes));
    if (report === undefined) return "READY without a report";
    this.#withheld = report.withheld;
    this.#greeted = true;
    this.#options.ready(report);
    return undefined;
  }

  #receiveLog(bytes: number): string | undefined {
    if (bytes > LOG_BYTES_MAX) return `LOG of ${bytes} bytes`;
    this.#log.line(`${this.#registers.id}: device says: ${printable(this.#takeControl(bytes))}`);
    return undefined;
  }

  #receiveConfig(bytes: number): string | undefined {
    const sizeFault = this.#registers.config.sizeFault(bytes);
    const fault = sizeFault ?? this.#configWrites.noteTaken(this.#channel!.incoming[GENERATION]!);
    if (fault !== undefined) return `CONFIG ${fault}`;
    this.#configPending = this.#takeControl(bytes).slice();
    this.#adoptConfig();
    return undefined;
  }

  /** Nothing of a process that is not approved reaches the driver, nor half an answer. */
  #adoptConfig(): void {
    if (this.#configPending === undefined || !this.#ready || !this.configSettled) return;
    this.#registers.updateConfig(this.#configPending);
    this.#configPending = undefined;
  }

  #receiveReplies(length: number): string | undefined {
    const channel = this.#channel!;
    const header = channel.incoming;
    if (!this.#ready) return "REPLIES before READY";
    const fault = entriesFault(header, length);
    if (fault !== undefined) return `REPLIES with ${fault}`;
    const queue = this.#registers.queues[header[QUEUE]!];
    if (queue === undefined) return `REPLIES of queue ${header[QUEUE]}`;
    const age = (this.#generation - header[GENERATION]!) >>> 0;
    if (age > 0x7fff_ffff) return `REPLIES of generation ${header[GENERATION]}, which is to come`;
    if (age > 0 || !this.#registers.running) {
      channel.take();
      return undefined;
    }
    const wrong = repliesFault(queue.chains, header);
    if (wrong !== undefined) return `REPLIES with ${wrong}`;
    scatterReplies(queue.chains, channel);
    if (channel.take() !== length) return "REPLIES that changed their length";
    this.#answered += 1;
    if (!useReplies(queue, header)) return undefined;
    if (queue.publish()) this.#registers.notifyUsed(queue);
    if (this.#serving) this.#pump(queue);
    if (this.#starved) {
      this.#starved = false;
      this.#resume();
    }
    return undefined;
  }
}
