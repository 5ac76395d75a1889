// From messages to calls of the device, and from its answers to messages. The same for a device in
// its own process and for one inside the VMM: receive a payload at `receiveAddress`, begin(), then
// step() until there is no more to send.
//
// A request that waits is kept (waiting.ts), and so is what comes behind it in its queue. After
// each message and each wake() the oldest of each queue is offered again, until all of them wait.
//
//   inbox   │ pieces of a chain that is still arriving (held) │ payload of the next message │
//   outbox  │ replies of the batch, packed (pending) │ window of the request being served │
//
// The VMM is more trusted than the device, but its messages are checked all the same: what is not
// exactly as host/wire/message.ts says ends the device.

import { assert } from "../errors.js";
import type { OptionValue } from "../sandbox/options.js";
import {
  ACTIVATE,
  BYTES,
  CAPACITY,
  CHAIN_BYTES_MAX,
  CONFIG,
  CONFIGURE,
  CONFIGURE_BYTES,
  COUNT,
  ENTRY_WORDS,
  FLAGS,
  GENERATION,
  HEADER_BYTES,
  ID,
  MORE,
  QUEUE,
  REQUESTS,
  RESET,
  TYPE,
  WAKE,
} from "../wire/format.js";
import { entriesFault, entryAt } from "../wire/message.js";
import { ODD } from "./assembly/shared.js";
import {
  type ConfigWrite,
  claims,
  type DeviceInstance,
  type Placement,
  WAITS,
} from "./instance.js";
import { Outbox } from "./outbox.js";
import { Waiting } from "./waiting.js";

/** The VMM sent what it must not send; whatever it is now, the device must not go on with it. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

/** No queue has this index. */
const NO_QUEUE = -1;

/** Payload of ACTIVATE: the accepted features. */
const FEATURES_BYTES = 8;

/** The headers that a dispatcher reads and writes: words that its channel owns. */
export interface Headers {
  /** Of the message that was received, before begin(). */
  readonly requests: Uint32Array;
  /** Of the message to send, after step(). */
  readonly replies: Uint32Array;
}

export class Dispatcher {
  /** Payload of the message that step() made. */
  payloadAddress = 0;
  payloadBytes = 0;

  readonly #device: DeviceInstance;
  readonly #requests: Uint32Array;
  readonly #replies: Uint32Array;
  #active = false;
  /** Bytes of the chain that is still arriving, and whose it is. */
  #held = 0;
  #heldQueue = 0;
  #heldId = 0;

  /** Entries of the batch that are served, and how many there are. */
  #next = 0;
  #count = 0;
  readonly #place: Placement = { readable: 0, bytes: 0, writable: 0, capacity: 0 };

  /** Requests that wait, the queue whose turn it is to be offered them, or one beyond the last. */
  readonly #waiting: Waiting;
  readonly #queueCount: number;
  #turn: number;
  /** A request that waited was answered in this round, so all are offered once more. */
  #progressed = false;
  /** A queue whose oldest request has just been offered: nothing has happened since. */
  #asked = NO_QUEUE;

  /** Replies that are not sent yet. */
  readonly #outbox: Outbox;

  readonly #configBytes: number;
  /** The VMM is to be told the config space, which it last was at this generation. */
  #configDue = false;
  #configGeneration = 0;
  /** CONFIGURE messages taken so far. */
  #configureCount = 0;

  constructor(device: DeviceInstance, headers: Headers) {
    this.#device = device;
    this.#configBytes = device.facts.manifest.config;
    this.#requests = headers.requests;
    this.#replies = headers.replies;
    this.#outbox = new Outbox(headers.replies);
    const { queues } = device.facts.manifest;
    this.#waiting = new Waiting(queues);
    this.#queueCount = queues.length;
    this.#turn = queues.length;
  }

  /** Runs the module's own initialization; step() then tells of its config space. */
  start(options: readonly OptionValue[]): void {
    this.#device.start(options);
    this.#configDue = this.#configBytes > 0;
  }

  /** Where the payload of the next message goes: native address with room for PAYLOAD_BYTES_MAX. */
  get receiveAddress(): number {
    return this.#device.inboxAddress + this.#held;
  }

  /** Whether step() has more to do; as long as it has, no message may be received. */
  get busy(): boolean {
    if (this.#next < this.#count || this.#outbox.isSplit || this.#configDue) return true;
    return this.#turn < this.#queueCount && this.#waiting.count > 0;
  }

  /**
   * Takes a message of `length` bytes whose header and payload are in place.
   *
   * @throws ProtocolError, DeviceFault
   */
  begin(length: number): void {
    assert(!this.busy, "a message while a batch is being served");
    this.#next = 0;
    this.#count = 0;
    const type = this.#requests[TYPE]!;
    if (type === REQUESTS) this.#beginRequests(length);
    else if (type === ACTIVATE) this.#activate(length);
    else if (type === RESET) this.#reset(length);
    else if (type === CONFIGURE) this.#configure(length);
    else if (type === WAKE) this.#wake(length);
    else throw new ProtocolError(`a message of type ${type}`);
  }

  /** Whether messages may be served without this: all requests are answered, and it is active. */
  get isPlain(): boolean {
    return this.#active && this.#held === 0 && this.#waiting.count === 0 && !this.busy;
  }

  /**
   * Goes on where somebody else has left a batch, as batch() says. Step() then has the rest.
   *
   * @returns whether a message is complete, as of step()
   */
  resume(how: number): boolean {
    assert(this.isPlain, "two batches at once");
    this.#requests.set(this.#device.batch.requests);
    this.#count = this.#requests[COUNT]!;
    this.#outbox.generation = this.#requests[GENERATION]!;
    this.#offerAll();
    const isComplete = this.#send(this.#adopt(how));
    this.lookAtConfig();
    return isComplete;
  }

  /**
   * Tells the device that something it waited for has come; step() then has the replies.
   *
   * @throws DeviceFault
   */
  wake(): void {
    assert(!this.busy, "a wake while a batch is being served");
    this.#device.wake();
    this.lookAtConfig();
    this.#offerAll();
  }

  /**
   * Goes on until the next message to send is complete: its header is in `replies`, its payload at
   * `payloadAddress`. False when the batch is over and everything was sent.
   *
   * @throws DeviceFault
   */
  step(): boolean {
    if (this.#outbox.isSplit) return this.#send(this.#outbox.piece());
    this.#outbox.clear();
    if (this.#send(this.#serveBatch() || this.#offer())) return true;
    return this.#configDue && this.#config();
  }

  /** Serves what is left of the batch; true when a message is complete. */
  #serveBatch(): boolean {
    if (this.#next === this.#count) return false;
    this.#device.batch.seek(this.#next, this.#place);
    const isComplete = this.#adopt(this.#device.serveBatch());
    this.lookAtConfig();
    return isComplete;
  }

  /** Takes over the batch as it was left; true when a message is complete. */
  #adopt(how: number): boolean {
    const { batch } = this.#device;
    const queue = this.#requests[QUEUE]!;
    this.#outbox.queue = queue;
    this.#outbox.adopt(batch);
    this.#next = batch.next;
    this.#place.readable = batch.readable;
    this.#place.bytes = batch.bytes;
    return how === ODD ? this.#settle(queue, batch.written) : this.#outbox.flush();
  }

  /** The device returned `written` for the request at `#next`, which is not plain. */
  #settle(queue: number, written: number): boolean {
    if (written === WAITS) {
      this.#asked = queue;
      this.#keepRest();
      return this.#outbox.flush();
    }
    const entry = entryAt(this.#next);
    const capacity = this.#requests[entry + CAPACITY]!;
    if (written > capacity) throw claims(written, capacity);
    this.#next += 1;
    return this.#outbox.pack(this.#requests[entry + ID]!, written);
  }

  /** Keeps the request at `#next`, which is in place, and all of the batch behind it. */
  #keepRest(): void {
    const place = this.#place;
    const queue = this.#requests[QUEUE]!;
    for (;;) {
      const entry = entryAt(this.#next);
      const [id, capacity] = [this.#requests[entry + ID]!, this.#requests[entry + CAPACITY]!];
      const from = this.#device.inboxAddress + place.readable;
      if (!this.#waiting.push(queue, { id, capacity, bytes: place.bytes }, from)) {
        throw new ProtocolError(`more requests of queue ${queue} than may be unanswered`);
      }
      this.#next += 1;
      if (this.#next === this.#count) return;
      place.readable += place.bytes;
      place.bytes = this.#requests[entryAt(this.#next) + BYTES]!;
    }
  }

  /** The requests that wait are to be offered; not while the inbox holds half a chain. */
  #offerAll(): void {
    this.#turn = this.#held > 0 ? this.#queueCount : 0;
    this.#progressed = false;
    this.#asked = NO_QUEUE;
  }

  /** Offers requests that wait until all of them do; true when a message is complete. */
  #offer(): boolean {
    if (this.#waiting.count === 0) return false;
    const isComplete = this.#offerRest();
    this.lookAtConfig();
    return isComplete;
  }

  #offerRest(): boolean {
    while (this.#turn < this.#queueCount) {
      const queue = this.#turn;
      const isNews = this.#progressed || queue !== this.#asked;
      if (isNews && this.#offerQueue(queue)) return true;
      this.#turn += 1;
      if (this.#turn === this.#queueCount && this.#progressed) this.#offerAll();
      if (this.#outbox.flush()) return true;
    }
    return false;
  }

  /** The same for one queue, whose replies share messages. */
  #offerQueue(queue: number): boolean {
    this.#outbox.queue = queue;
    while (this.#waiting.countOf(queue) > 0) {
      this.#waiting.restore(queue, this.#device.inboxAddress, this.#place);
      this.#place.writable = this.#outbox.end;
      const bytes = this.#device.serve(queue, this.#place);
      if (bytes === WAITS) return false;
      this.#progressed = true;
      if (this.#outbox.pack(this.#waiting.shift(queue), bytes)) return true;
    }
    return false;
  }

  #activate(length: number): void {
    if (this.#held > 0) throw new ProtocolError("ACTIVATE inside a chain");
    if (length !== HEADER_BYTES + FEATURES_BYTES) throw new ProtocolError("ACTIVATE of odd size");
    this.#active = true;
    this.#device.activate(0);
    this.lookAtConfig();
  }

  #reset(length: number): void {
    if (length !== HEADER_BYTES) throw new ProtocolError("RESET of odd size");
    this.#active = false;
    this.#held = 0;
    this.#waiting.clear();
    this.#device.reset();
    this.lookAtConfig();
  }

  /** May come while a chain is still arriving, which then goes on. */
  #wake(length: number): void {
    if (length !== HEADER_BYTES) throw new ProtocolError("WAKE of odd size");
    this.wake();
  }

  /** May come while a chain is still arriving, and then lies behind what is there of it. */
  #configure(length: number): void {
    if (length !== HEADER_BYTES + CONFIGURE_BYTES) throw new ProtocolError("CONFIGURE of odd size");
    const at = this.#held;
    const [offset, bytes, value] = [0, 4, 8].map((word) => this.#device.word(at + word));
    const write: ConfigWrite = { offset: offset!, bytes: bytes!, value: value! };
    const isWidth = write.bytes === 1 || write.bytes === 2 || write.bytes === 4;
    if (!isWidth || write.offset + write.bytes > this.#configBytes) {
      const where = `${write.bytes} bytes at ${write.offset}`;
      throw new ProtocolError(`CONFIGURE of ${where} in ${this.#configBytes} of config space`);
    }
    this.#device.configure(write);
    this.#configureCount = (this.#configureCount + 1) >>> 0;
    this.#configDue = true;
  }

  /** Looks whether the device changed its config space; after it was called, once or often. */
  lookAtConfig(): void {
    if (this.#configBytes === 0) return;
    if (this.#device.configGeneration !== this.#configGeneration) this.#configDue = true;
  }

  #beginRequests(length: number): void {
    const fault = this.#requestsFault(length);
    if (fault !== undefined) throw new ProtocolError(`REQUESTS with ${fault}`);
    this.#outbox.generation = this.#requests[GENERATION]!;
    const entry = entryAt(0);
    const bytes = this.#requests[entry + BYTES]!;
    if ((this.#requests[entry + FLAGS]! & MORE) !== 0) {
      this.#heldQueue = this.#requests[QUEUE]!;
      this.#heldId = this.#requests[entry + ID]!;
      this.#held += bytes;
      return;
    }
    this.#place.readable = 0;
    this.#place.bytes = this.#held + bytes;
    this.#count = this.#requests[COUNT]!;
    this.#device.batch.requests.set(this.#requests);
    this.#held = 0;
    this.#offerAll();
    if (this.#waiting.countOf(this.#requests[QUEUE]!) > 0) this.#keepRest();
  }

  #requestsFault(length: number): string | undefined {
    const fault = entriesFault(this.#requests, length);
    if (fault !== undefined) return fault;
    if (!this.#active) return "no ACTIVATE before them";
    const queue = this.#requests[QUEUE]!;
    const queues = this.#device.facts.manifest.queues.length;
    if (queue >= queues) return `queue ${queue} of ${queues}`;
    const count = this.#requests[COUNT]!;
    for (let i = 0, entry = entryAt(0); i < count; i++, entry += ENTRY_WORDS) {
      const capacity = this.#requests[entry + CAPACITY]!;
      if (capacity > CHAIN_BYTES_MAX) return `a capacity of ${capacity}`;
    }
    if (this.#held === 0) return undefined;
    const first = entryAt(0);
    const same = queue === this.#heldQueue && this.#requests[first + ID]! === this.#heldId;
    if (!same || count !== 1) return "another request inside a chain";
    const total = this.#held + this.#requests[first + BYTES]!;
    return total > CHAIN_BYTES_MAX ? `a chain of ${total} bytes` : undefined;
  }

  /** Makes the message that tells the config space, straight from the module's memory. */
  #config(): true {
    this.#configDue = false;
    this.#configGeneration = this.#device.configGeneration;
    this.#replies[TYPE] = CONFIG;
    this.#replies[QUEUE] = 0;
    this.#replies[COUNT] = 0;
    this.#replies[GENERATION] = this.#configureCount;
    this.payloadAddress = this.#device.configAddress;
    this.payloadBytes = this.#configBytes;
    return true;
  }

  /** Points at the payload of a message of replies that is complete, if there is one. */
  #send(isComplete: boolean): boolean {
    if (!isComplete) return false;
    this.payloadAddress = this.#device.outboxAddress + this.#outbox.payloadAt;
    this.payloadBytes = this.#outbox.payloadBytes;
    return true;
  }
}
