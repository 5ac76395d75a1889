// Replies on their way out: packed into messages as they are written, or cut into pieces.

import {
  BYTES,
  CAPACITY,
  COUNT,
  FLAGS,
  GENERATION,
  ID,
  MORE,
  PAYLOAD_BYTES_MAX,
  QUEUE,
  REPLIES,
  TYPE,
} from "../wire/format.js";
import { entryAt } from "../wire/message.js";
import { EAGER_BYTES, EAGER_CHAINS } from "./assembly/shared.js";
import type { Batch } from "./batch.js";

/**
 * The replies in the outbox that are not sent yet. A method that returns true has completed a
 * message: its header is in `header`, its payload is `payloadBytes` bytes from `payloadAt`.
 */
export class Outbox {
  /** Offset in the window that replies are sent from. */
  payloadAt = 0;
  payloadBytes = 0;
  /** Whose replies these are. */
  queue = 0;
  generation = 0;

  readonly #header: Uint32Array;
  /** Replies that are packed, from the front of the outbox, and not yet part of a message. */
  #count = 0;
  #bytes = 0;

  /** The reply that did not fit behind them, from `#splitAt` in the outbox. */
  #splitId = 0;
  #splitAt = 0;
  #splitBytes = 0;

  constructor(header: Uint32Array) {
    this.#header = header;
  }

  /** Where the next reply goes. */
  get end(): number {
    return this.#bytes;
  }

  /** Whether a reply is being sent in pieces: before anything else, piece() must send the rest. */
  get isSplit(): boolean {
    return this.#splitBytes > 0;
  }

  /** The last message was sent: the outbox is free. */
  clear(): void {
    this.#count = 0;
    this.#bytes = 0;
  }

  /** Takes over the replies of a batch that are packed already; there is nothing else here. */
  adopt({ replies, count, packed }: Batch): void {
    if (count > 0) this.#header.set(replies);
    this.#count = count;
    this.#bytes = packed;
  }

  /** Adds a reply of `bytes` bytes that was written at the end. */
  pack(id: number, bytes: number): boolean {
    if (this.#bytes + bytes > PAYLOAD_BYTES_MAX) {
      this.#splitId = id;
      this.#splitAt = this.#bytes;
      this.#splitBytes = bytes;
      return this.flush() || this.piece();
    }
    const entry = entryAt(this.#count);
    const header = this.#header;
    header[entry + ID] = id;
    header[entry + BYTES] = bytes;
    header[entry + CAPACITY] = 0;
    header[entry + FLAGS] = 0;
    this.#count += 1;
    this.#bytes += bytes;
    return (this.#count >= EAGER_CHAINS || this.#bytes >= EAGER_BYTES) && this.flush();
  }

  /** Makes a message of what is packed, if anything is. */
  flush(): boolean {
    return this.#count > 0 && this.#message(0, this.#bytes);
  }

  /** The next piece of a reply that has a message, or several, of its own. */
  piece(): true {
    const at = this.#splitAt;
    const bytes = Math.min(this.#splitBytes, PAYLOAD_BYTES_MAX);
    this.#splitAt += bytes;
    this.#splitBytes -= bytes;
    this.#count = 0;
    this.#append(this.#splitId, bytes, this.#splitBytes > 0 ? MORE : 0);
    return this.#message(at, bytes);
  }

  /** Adds an entry to the message that is being made. */
  #append(id: number, bytes: number, flags = 0): void {
    const entry = entryAt(this.#count);
    this.#header[entry + ID] = id;
    this.#header[entry + BYTES] = bytes;
    this.#header[entry + CAPACITY] = 0;
    this.#header[entry + FLAGS] = flags;
    this.#count += 1;
  }

  #message(at: number, bytes: number): true {
    this.#header[TYPE] = REPLIES;
    this.#header[QUEUE] = this.queue;
    this.#header[COUNT] = this.#count;
    this.#header[GENERATION] = this.generation;
    this.payloadAt = at;
    this.payloadBytes = bytes;
    return true;
  }
}
