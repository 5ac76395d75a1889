// The WebAssembly that receives, serves and sends: what it does by itself, and where it stops.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { close } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";
import {
  DONE,
  EAGER_CHAINS,
  FULL,
  MESSAGE,
  ODD,
  OVER,
} from "../../host/runtime/assembly/shared.js";
import { DeviceInstance } from "../../host/runtime/instance.js";
import { Pump } from "../../host/runtime/pump.js";
import { SocketChannel } from "../../host/wire/channel.js";
import {
  BATCH_CHAINS_MAX,
  BYTES,
  CAPACITY,
  CHAIN_BYTES_MAX,
  COUNT,
  FLAGS,
  HEADER_BYTES,
  MORE,
  PAYLOAD_BYTES_MAX,
  QUEUE,
  RESET,
  TYPE,
} from "../../host/wire/format.js";
import { entryAt } from "../../host/wire/message.js";
import { seqpacketPair } from "../virtio/test-device.js";
import {
  encodeRequests,
  type Message,
  manifest,
  messageOf,
  moduleWith,
  NOTHING_GRANTED,
  pattern,
  type Request,
} from "./support.js";

/** A device of one queue whose socket's other end is here. */
class Rig {
  readonly device: DeviceInstance;
  readonly pump: Pump;
  readonly channel: SocketChannel;
  readonly #fds: [number, number];
  readonly #payload = Mapping.anonymous(2 * PAYLOAD_BYTES_MAX);

  constructor(parts: Parameters<typeof moduleWith>[0] = {}) {
    let pump: Pump | undefined;
    const module = moduleWith(parts, manifest());
    this.device = DeviceInstance.create(
      module,
      () => NOTHING_GRANTED,
      (exports) => (pump = new Pump(exports)),
    );
    this.pump = pump!;
    this.device.start();
    this.#fds = seqpacketPair();
    this.channel = new SocketChannel(this.#fds[0]);
  }

  /** Sends requests, with some words of the header changed. */
  send(requests: Request[], words: [word: number, value: number][] = []): void {
    encodeRequests(this.channel, requests, { generation: 5 });
    for (const [word, value] of words) this.channel.outgoing[word] = value;
    const payload = new Uint8Array(this.#payload.view.buffer);
    let bytes = 0;
    for (const { readable = [] } of requests) {
      payload.set(readable, bytes);
      bytes += readable.length;
    }
    this.channel.gather(this.#payload.address, bytes);
    this.channel.send();
  }

  /** Runs the pump; it finds at most what was sent, because its socket does not block. */
  run(turns = 1): number {
    return this.pump.run({ device: this.device, socketFd: this.#fds[1] }, turns);
  }

  /** The messages that the device has sent. */
  receive(): Message[] {
    const messages: Message[] = [];
    for (let length = this.channel.peek(); length > 0; length = this.channel.peek()) {
      this.channel.scatter(this.#payload.address, length - HEADER_BYTES);
      this.channel.take();
      const payload = new Uint8Array(this.#payload.view.buffer).slice(0, length - HEADER_BYTES);
      messages.push(messageOf(this.channel.incoming, payload));
    }
    return messages;
  }

  hangUp(): void {
    close(this.#fds[0]);
  }
}

const TRAPS = '(func (export "serve") (param i32 i32 i32 i32 i32) (result i32) unreachable)';

/** serve() that does `before`, and then answers with one byte; the request is at local 1. */
function serveAfter(before: string): string {
  return `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32) ${before}
    (i32.const 1))`;
}

test("Pump serves messages in turn, and answers each with its queue and generation", () => {
  const rig = new Rig();
  const requests = [1, 2, 3].map((id) => ({ id, readable: pattern(100 * id, id), capacity: 4096 }));
  rig.send(requests);
  rig.send([{ id: 9, readable: pattern(7), capacity: 5 }]);
  assert.is(rig.run(2), DONE);
  const [first, second, ...more] = rig.receive();
  assert.equal(more, []);
  assert.equal(
    first?.replies,
    requests.map(({ id, readable }) => ({ id, bytes: readable, flags: 0 })),
  );
  assert.equal([first?.queue, first?.generation], [0, 5]);
  assert.equal(second?.replies, [{ id: 9, bytes: pattern(7).slice(0, 5), flags: 0 }]);
});

test("Pump sends what is there when a message is full, and goes on", () => {
  const rig = new Rig();
  rig.send(Array.from({ length: BATCH_CHAINS_MAX }, (_, id) => ({ id, capacity: 8 })));
  assert.is(rig.run(), DONE);
  const counts = rig.receive().map(({ replies }) => replies.length);
  assert.equal(counts, Array(BATCH_CHAINS_MAX / EAGER_CHAINS).fill(EAGER_CHAINS));
});

const first = entryAt(0);
const second = entryAt(1);
/** Words of the header of two requests of four bytes each, and what they are set to. */
const ODD_MESSAGES: Record<string, [word: number, value: number][]> = {
  "another type": [[TYPE, RESET]],
  "no entries": [[COUNT, 0]],
  "more entries than there are": [[COUNT, BATCH_CHAINS_MAX + 1]],
  "a queue that the device has not": [[QUEUE, 1]],
  "a piece of a chain": [[first + FLAGS, MORE]],
  "a flag that does not exist": [[second + FLAGS, 2]],
  "a capacity beyond a chain": [[second + CAPACITY, CHAIN_BYTES_MAX + 1]],
  "more bytes than came": [[first + BYTES, 5]],
  "fewer bytes than came": [[second + BYTES, 3]],
  "bytes that are right only modulo 2^32": [
    [first + BYTES, 0xffff_ffff],
    [second + BYTES, 9],
  ],
};

for (const [name, words] of Object.entries(ODD_MESSAGES)) {
  test(`Pump leaves a message with ${name} to the dispatcher, unserved`, () => {
    const rig = new Rig({ serve: TRAPS });
    const two = [1, 2].map((id) => ({ id, readable: pattern(4), capacity: 4 }));
    rig.send(two, words);
    assert.is(rig.run(2), MESSAGE);
    assert.is(rig.pump.length, HEADER_BYTES + 8);
    assert.equal(rig.pump.requests, rig.channel.outgoing);
    assert.equal(rig.receive(), []);
  });
}

test("Pump leaves a message of no requests to the dispatcher", () => {
  const rig = new Rig({ serve: TRAPS });
  rig.send([]);
  assert.is(rig.run(2), MESSAGE);
  assert.is(rig.pump.length, HEADER_BYTES);
});

test("Pump leaves a message that is longer than there is room for to the dispatcher", () => {
  const rig = new Rig({ serve: TRAPS });
  const two = [PAYLOAD_BYTES_MAX, 1].map((bytes, id) => ({ id, readable: new Uint8Array(bytes) }));
  rig.send(two);
  assert.is(rig.run(2), MESSAGE);
  assert.is(rig.pump.length, HEADER_BYTES + PAYLOAD_BYTES_MAX + 1);
});

test("Pump leaves it to the dispatcher that nobody is left to say anything", () => {
  const rig = new Rig();
  rig.hangUp();
  assert.is(rig.run(), MESSAGE);
  assert.is(rig.pump.length, 0);
});

test("Pump tells of a receive that failed", () => {
  const rig = new Rig();
  assert.is(rig.run(), MESSAGE);
  assert.is(rig.pump.length, -1);
});

test("Pump stops at a request that waits, with the replies before it unsent", () => {
  const waits = `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    (select (i32.const -1) (i32.const 2) (i32.eq (i32.load8_u (local.get 1)) (i32.const 7))))`;
  const rig = new Rig({ serve: waits });
  const readables = [[1], [2, 2], [7, 7, 7], [4]];
  rig.send(readables.map((each, id) => ({ id, readable: Uint8Array.from(each), capacity: 8 })));
  assert.is(rig.run(), ODD);
  const { next, readable, bytes, count, packed, written } = rig.pump;
  assert.equal(
    { next, readable, bytes, count, packed, written },
    {
      ...{ next: 2, readable: 3, bytes: 3 },
      ...{ count: 2, packed: 4, written: 0xffff_ffff },
    },
  );
  assert.equal(rig.receive(), []);
});

test("Pump stops at a reply that does not fit into the message", () => {
  const rig = new Rig({
    serve: '(func (export "serve") (param i32 i32 i32 i32 i32) (result i32) local.get 4)',
  });
  rig.send([
    { id: 1, capacity: 1000 },
    { id: 2, capacity: PAYLOAD_BYTES_MAX },
  ]);
  assert.is(rig.run(), ODD);
  assert.equal([rig.pump.next, rig.pump.count, rig.pump.written], [1, 1, PAYLOAD_BYTES_MAX]);
});

test("Pump sends nothing from memory that grew, which may be elsewhere", () => {
  const rig = new Rig({ serve: serveAfter("(drop (memory.grow (i32.const 1)))") });
  rig.send([{ id: 3, capacity: 8 }]);
  rig.send([{ id: 4, capacity: 8 }]);
  assert.is(rig.run(2), OVER);
  assert.is(rig.pump.count, 1);
  rig.send(Array.from({ length: EAGER_CHAINS }, (_, id) => ({ id, capacity: 8 })));
  assert.is(rig.run(1), OVER, "that of before");
  assert.is(rig.run(1), FULL);
  assert.equal(rig.receive(), []);
});

test("Pump stops when the device has changed its config space", () => {
  // The generation is a word of what attention() points at.
  const changes = "(i32.store (i32.const 12) (i32.add (i32.load (i32.const 12)) (i32.const 1)))";
  const rig = new Rig({ serve: serveAfter(changes) });
  rig.send([{ id: 3, capacity: 8 }]);
  rig.send([{ id: 4, capacity: 8 }]);
  assert.is(rig.run(2), DONE);
  assert.equal(
    rig.receive().map(({ replies }) => replies.map(({ id }) => id)),
    [[3]],
  );
});

test("Pump keeps replies that nobody takes", () => {
  const rig = new Rig();
  rig.send([{ id: 3, capacity: 8 }]);
  rig.hangUp();
  assert.is(rig.run(), OVER);
  assert.is(rig.pump.count, 1);
});

test("Pump can be run more often than V8 lets one instance be called", () => {
  const rig = new Rig();
  for (let i = 0; i < 2500; i++) {
    rig.send([{ id: i & 63, readable: Uint8Array.of(i & 0xff), capacity: 1 }]);
    assert.is(rig.run(), DONE);
    assert.is(rig.receive()[0]?.replies[0]?.bytes[0], i & 0xff);
  }
});

test.run();
