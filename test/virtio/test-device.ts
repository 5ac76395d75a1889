// The device's end of a link, played by a test: what it received, and any message, right or wrong.

import { strict as assert } from "node:assert";
import { close, socketpair, write } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";
import { FULL, NOTHING, SENT, SocketChannel } from "../../host/wire/channel.js";
import * as format from "../../host/wire/format.js";
import * as wire from "../../host/wire/message.js";

const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;

/** Two connected sockets that carry messages: [ours, theirs]. */
export function seqpacketPair(): [number, number] {
  const memory = Mapping.anonymous(8);
  const type = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC;
  assert.equal(socketpair(AF_UNIX, type, 0, memory.address), 0);
  const pair: [number, number] = [memory.view.getInt32(0, true), memory.view.getInt32(4, true)];
  memory.close();
  return pair;
}

export interface Entry {
  id: number;
  bytes: number;
  capacity: number;
  flags: number;
}

export interface Message {
  type: number;
  queue: number;
  count: number;
  generation: number;
  entries: Entry[];
  payload: Uint8Array;
}

/** A reply, as a device that keeps the rules would build it; every field can be made wrong. */
export interface Reply {
  id: number;
  data?: Uint8Array;
  /** What the entry claims; the length of `data` when left out. */
  bytes?: number;
  flags?: number;
}

export interface ReplyOptions {
  queue?: number;
  generation?: number;
  count?: number;
  /** Bytes behind the payload. */
  trailing?: number;
}

export class TestDevice {
  readonly fd: number;
  readonly channel: SocketChannel;
  readonly #inbox = Mapping.anonymous(format.PAYLOAD_BYTES_MAX);
  readonly #outbox = Mapping.anonymous(2 * format.PAYLOAD_BYTES_MAX);
  /** Of the last REQUESTS or RESET. */
  generation = 0;

  constructor(fd: number) {
    this.fd = fd;
    this.channel = new SocketChannel(fd);
  }

  /** The next message, or undefined when there is none; the length must be what the header says. */
  receive(): Message | undefined {
    this.channel.scatter(this.#inbox.address, format.PAYLOAD_BYTES_MAX);
    const length = this.channel.receive();
    if (length === NOTHING || length === 0) return undefined;
    const header = this.channel.incoming;
    const type = header[format.TYPE]!;
    if (type === format.REQUESTS) assert.equal(wire.entriesFault(header, length), undefined);
    const count = header[format.COUNT]!;
    const entries = Array.from({ length: count }, (_, i) => {
      const at = wire.entryAt(i);
      const [id, bytes, capacity, flags] = header.subarray(at, at + format.ENTRY_WORDS);
      return { id: id!, bytes: bytes!, capacity: capacity!, flags: flags! };
    });
    this.generation = header[format.GENERATION]!;
    const payload = new Uint8Array(
      this.#inbox.view.buffer,
      0,
      length - format.HEADER_BYTES,
    ).slice();
    return {
      type,
      queue: header[format.QUEUE]!,
      count,
      generation: this.generation,
      entries,
      payload,
    };
  }

  /** The next message, which must be there and of this type. */
  expect(type: number): Message {
    const message = this.receive();
    assert.ok(message !== undefined, `no message where one of type ${type} was expected`);
    assert.equal(message.type, type);
    return message;
  }

  /** Any message: `words` from word 0 of the header, then the payload. */
  send(words: readonly number[], payload: Uint8Array = new Uint8Array(0)): number {
    this.channel.outgoing.fill(0);
    this.channel.outgoing.set(words);
    new Uint8Array(this.#outbox.view.buffer).set(payload);
    this.channel.gather(this.#outbox.address, payload.length);
    return this.channel.send();
  }

  /** The first `bytes` of the outgoing header only, which no Channel would send. */
  sendShort(bytes: number): number {
    const copy = Uint8Array.from(new Uint8Array(this.channel.outgoing.buffer, 0, bytes));
    new Uint8Array(this.#outbox.view.buffer).set(copy);
    return write(this.fd, this.#outbox.address, bytes) === bytes ? SENT : FULL;
  }

  ready(report: string | Uint8Array = "{}"): void {
    const payload = typeof report === "string" ? new TextEncoder().encode(report) : report;
    assert.equal(this.send([format.READY], payload), SENT);
  }

  /** CONFIG of a device that has taken `taken` CONFIGUREs. */
  config(space: Uint8Array, taken = 0): void {
    assert.equal(this.send([format.CONFIG, 0, 0, taken], space), SENT);
  }

  log(text: string): void {
    assert.equal(this.send([format.LOG], new TextEncoder().encode(text)), SENT);
  }

  /** REPLIES, right unless told otherwise. */
  reply(replies: readonly Reply[], options: ReplyOptions = {}): void {
    const {
      queue = 0,
      generation = this.generation,
      count = replies.length,
      trailing = 0,
    } = options;
    const words = [format.REPLIES, queue, count, generation];
    for (const { id, data, bytes = data?.length ?? 0, flags = 0 } of replies) {
      words.push(id, bytes, 0, flags);
    }
    const data = replies.map((reply) => reply.data ?? new Uint8Array(0));
    const payload = Uint8Array.from(Buffer.concat([...data, new Uint8Array(trailing)]));
    assert.equal(this.send(words, payload), SENT);
  }

  close(): void {
    close(this.fd);
    this.channel.close();
    this.#inbox.close();
    this.#outbox.close();
  }
}
