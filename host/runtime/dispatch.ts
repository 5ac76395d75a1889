// From messages to calls of the device, and from its answers to messages. The same for a device in
// its own process and for one inside the VMM: receive a payload at `receiveAddress`, begin(), then
// step() until there is no more to send.
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
  entriesFault,
  entryAt,
  FLAGS,
  GENERATION,
  HEADER_BYTES,
  ID,
  MORE,
  PAYLOAD_BYTES_MAX,
  QUEUE,
  REPLIES,
  REQUESTS,
  RESET,
  TYPE,
} from "../wire/message.js";
import type { ConfigWrite, DeviceInstance, Placement } from "./instance.js";

/** The VMM sent what it must not send; whatever it is now, the device must not go on with it. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

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

  /** Replies that are packed in the outbox and not yet part of a message. */
  #pendingCount = 0;
  #pendingBytes = 0;

  /** The reply that did not fit behind them, from `#splitAt` in the outbox. */
  #splitId = 0;
  #splitAt = 0;
  #splitBytes = 0;

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
    return this.#next < this.#count || this.#splitBytes > 0 || this.#configDue;
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
    else throw new ProtocolError(`a message of type ${type}`);
  }

  /**
   * Goes on until the next message to send is complete: its header is in `replies`, its payload at
   * `payloadAddress`. False when the batch is over and everything was sent.
   *
   * @throws DeviceFault
   */
  step(): boolean {
    if (this.#splitBytes > 0) return this.#piece();
    this.#pendingCount = 0;
    this.#pendingBytes = 0;
    while (this.#next < this.#count) {
      const entry = entryAt(this.#next);
      const bytes = this.#serve(entry);
      this.#next += 1;
      if (this.#pendingBytes + bytes > PAYLOAD_BYTES_MAX) {
        this.#splitId = this.#requests[entry + ID]!;
        this.#splitAt = this.#pendingBytes;
        this.#splitBytes = bytes;
        return this.#pendingCount > 0 ? this.#message(0, this.#pendingBytes) : this.#piece();
      }
      this.#append(this.#requests[entry + ID]!, bytes);
      this.#pendingBytes += bytes;
    }
    if (this.#pendingCount > 0) return this.#message(0, this.#pendingBytes);
    return this.#configDue && this.#config();
  }

  #activate(length: number): void {
    if (this.#held > 0) throw new ProtocolError("ACTIVATE inside a chain");
    if (length !== HEADER_BYTES + FEATURES_BYTES) throw new ProtocolError("ACTIVATE of odd size");
    this.#active = true;
    this.#device.activate(0);
    this.#lookAtConfig();
  }

  #reset(length: number): void {
    if (length !== HEADER_BYTES) throw new ProtocolError("RESET of odd size");
    this.#active = false;
    this.#held = 0;
    this.#device.reset();
    this.#lookAtConfig();
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

  /** Looks whether the device changed its config space; after each call of it. */
  #lookAtConfig(): void {
    if (this.#configBytes === 0) return;
    if (this.#device.configGeneration !== this.#configGeneration) this.#configDue = true;
  }

  #beginRequests(length: number): void {
    const fault = this.#requestsFault(length);
    if (fault !== undefined) throw new ProtocolError(`REQUESTS with ${fault}`);
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
    this.#held = 0;
  }

  #requestsFault(length: number): string | undefined {
    const fault = entriesFault(this.#requests, length);
    if (fault !== undefined) return fault;
    if (!this.#active) return "no ACTIVATE before them";
    const queue = this.#requests[QUEUE]!;
    const queues = this.#device.facts.manifest.queues.length;
    if (queue >= queues) return `queue ${queue} of ${queues}`;
    const count = this.#requests[COUNT]!;
    for (let i = 0; i < count; i++) {
      const capacity = this.#requests[entryAt(i) + CAPACITY]!;
      if (capacity > CHAIN_BYTES_MAX) return `a capacity of ${capacity}`;
    }
    if (this.#held === 0) return undefined;
    const first = entryAt(0);
    const same = queue === this.#heldQueue && this.#requests[first + ID]! === this.#heldId;
    if (!same || count !== 1) return "another request inside a chain";
    const total = this.#held + this.#requests[first + BYTES]!;
    return total > CHAIN_BYTES_MAX ? `a chain of ${total} bytes` : undefined;
  }

  /** Serves the request of the entry at word `entry`; its reply lies behind the pending ones. */
  #serve(entry: number): number {
    const place = this.#place;
    if (this.#next > 0) {
      place.readable += place.bytes;
      place.bytes = this.#requests[entry + BYTES]!;
    }
    place.writable = this.#pendingBytes;
    place.capacity = this.#requests[entry + CAPACITY]!;
    const bytes = this.#device.serve(this.#requests[QUEUE]!, place);
    this.#lookAtConfig();
    return bytes;
  }

  /** Adds an entry to the message that is being made. */
  #append(id: number, bytes: number, flags = 0): void {
    const entry = entryAt(this.#pendingCount);
    this.#replies[entry + ID] = id;
    this.#replies[entry + BYTES] = bytes;
    this.#replies[entry + CAPACITY] = 0;
    this.#replies[entry + FLAGS] = flags;
    this.#pendingCount += 1;
  }

  /** The next piece of a reply that has a message, or several, of its own. */
  #piece(): true {
    const at = this.#splitAt;
    const bytes = Math.min(this.#splitBytes, PAYLOAD_BYTES_MAX);
    this.#splitAt += bytes;
    this.#splitBytes -= bytes;
    this.#pendingCount = 0;
    this.#append(this.#splitId, bytes, this.#splitBytes > 0 ? MORE : 0);
    return this.#message(at, bytes);
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

  /** Completes a message whose payload is `bytes` bytes from `at` in the outbox. */
  #message(at: number, bytes: number): true {
    this.#replies[TYPE] = REPLIES;
    this.#replies[QUEUE] = this.#requests[QUEUE]!;
    this.#replies[COUNT] = this.#pendingCount;
    this.#replies[GENERATION] = this.#requests[GENERATION]!;
    this.payloadAddress = this.#device.outboxAddress + at;
    this.payloadBytes = bytes;
    return true;
  }
}

/** Text of READY or LOG and the scratch memory that it is sent from. */
export interface ControlText {
  type: number;
  text: string;
  scratch: Uint8Array;
  bytesMax: number;
}

/** Makes a message of text, cut at `bytesMax`; returns the bytes of its payload. */
export function encodeControl(header: Uint32Array, control: ControlText): number {
  const { type, text, scratch, bytesMax } = control;
  header.fill(0);
  header[TYPE] = type;
  return new TextEncoder().encodeInto(text, scratch.subarray(0, bytesMax)).written;
}
