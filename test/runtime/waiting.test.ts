// Requests that wait: what is offered again, when, in which order, and what is kept of it.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { EAGER_CHAINS } from "../../host/runtime/assembly/shared.js";
import { SENT } from "../../host/wire/channel.js";
import { CHAIN_BYTES_MAX, MORE, PAYLOAD_BYTES_MAX } from "../../host/wire/format.js";
import { Conversation, manifest, moduleWith, pattern, type Request } from "./support.js";

const QUEUES = { queues: [64, 64, 64] };

/**
 * A request of queue 2 with one readable byte n opens a gate for n requests of queue 0 or 1; each
 * is echoed, and without the gate it waits. wake() opens the gate for one. Address 32 counts calls
 * of serve().
 */
const GATE = `(global $open (mut i32) (i32.const 0))
  (func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    (i32.store (i32.const 32) (i32.add (i32.load (i32.const 32)) (i32.const 1)))
    (if (i32.eq (local.get 0) (i32.const 2)) (then
      (global.set $open (i32.add (global.get $open) (i32.load8_u (local.get 1))))
      (i32.store (local.get 3) (i32.load (i32.const 32)))
      (return (i32.const 4))))
    (if (i32.eqz (global.get $open)) (then
      (memory.fill (local.get 3) (i32.const 0xee) (local.get 4))
      (return (i32.const -1))))
    (global.set $open (i32.sub (global.get $open) (i32.const 1)))
    (memory.copy (local.get 3) (local.get 1) (local.get 2))
    (local.get 2))`;
const WAKE = `(func (export "wake")
    (global.set $open (i32.add (global.get $open) (i32.const 1))))`;

function gated(): Conversation {
  return Conversation.started(moduleWith({ serve: GATE, wake: WAKE }, manifest(QUEUES)));
}

function asks(id: number, bytes = 8): Request {
  return { id, readable: pattern(bytes, id), capacity: bytes };
}

/** Sends requests, all of which wait. */
function leave(conversation: Conversation, requests: Request[], more = {}): void {
  assert.is(conversation.send(requests, more), SENT);
  assert.equal(conversation.receive(), []);
}

/** Sends a request that opens the gate; returns queue and ids of each message of replies. */
function openAndHear(conversation: Conversation, count: number): [queue: number, ids: number[]][] {
  conversation.send([{ id: 63, readable: Uint8Array.of(count), capacity: 4 }], { queue: 2 });
  return conversation.receive().map(({ queue, replies }) => [queue, replies.map(({ id }) => id)]);
}

test("a request that waits is answered later, with its own bytes, and once", () => {
  const conversation = gated();
  leave(conversation, [asks(5), asks(6)]);
  conversation.send([{ id: 63, readable: Uint8Array.of(1), capacity: 4 }], { queue: 2 });
  const [opened, answered] = conversation.receive();
  assert.is(opened?.queue, 2);
  assert.is(answered?.queue, 0);
  assert.equal(answered?.replies, [{ id: 5, bytes: pattern(8, 5), flags: 0 }]);
  assert.equal(openAndHear(conversation, 9), [
    [2, [63]],
    [0, [6]],
  ]);
  assert.equal(openAndHear(conversation, 1), [[2, [63]]]);
});

test("requests of one queue are answered in order, also those that came later", () => {
  const conversation = gated();
  leave(conversation, [asks(5), asks(9)]);
  leave(conversation, [asks(1)]);
  leave(conversation, [asks(7)]);
  const [, [, ids] = [0, []]] = openAndHear(conversation, 4);
  assert.equal(ids, [5, 9, 1, 7]);
});

test("behind a request that waits, those of its queue are not even offered", () => {
  const conversation = gated();
  leave(conversation, [asks(1), asks(2), asks(3)]);
  leave(conversation, [asks(4), asks(5)]);
  // Offered: 1 when it came, and again after the second message; nothing else.
  conversation.send([{ id: 63, readable: Uint8Array.of(0), capacity: 4 }], { queue: 2 });
  const [reply] = conversation.receive().flatMap(({ replies }) => replies);
  assert.is(new DataView(reply!.bytes.buffer).getUint32(0, true), 3);
});

test("replies of one queue share messages, and each message is of one queue", () => {
  const conversation = gated();
  leave(conversation, [asks(1), asks(2)]);
  leave(conversation, [asks(3), asks(4)], { queue: 1 });
  assert.equal(openAndHear(conversation, 4), [
    [2, [63]],
    [0, [1, 2]],
    [1, [3, 4]],
  ]);
});

test("what an answer makes possible in another queue is not forgotten until the next event", () => {
  // Queue 0 waits for queue 1, of which two requests do not fit at once: one byte between them.
  const serve = `(global $full (mut i32) (i32.const 0))
    (func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
      (if (i32.ne (local.get 0) (global.get $full)) (then (return (i32.const -1))))
      (global.set $full (i32.xor (global.get $full) (i32.const 1)))
      (i32.const 0))
    (func $start (global.set $full (i32.const 1)))`;
  const initialize = '(func (export "_initialize") (call $start))';
  const module = moduleWith({ serve, initialize }, manifest(QUEUES));
  const conversation = Conversation.started(module);
  leave(conversation, [{ id: 1 }, { id: 2 }, { id: 3 }]);
  conversation.send([{ id: 4 }, { id: 5 }, { id: 6 }], { queue: 1 });
  const ids = conversation.receive().flatMap(({ replies }) => replies.map(({ id }) => id));
  assert.equal(ids, [4, 1, 5, 2, 6, 3]);
});

test("more replies than one message may have make several", () => {
  const conversation = gated();
  for (const queue of [0, 1]) {
    const requests = Array.from({ length: 64 }, (_, id) => asks(id));
    leave(conversation, requests, { queue });
  }
  const messages = openAndHear(conversation, 128);
  const all = (queue: number) => Array(64 / EAGER_CHAINS).fill([queue, EAGER_CHAINS]);
  assert.equal(
    messages.map(([queue, ids]) => [queue, ids.length]),
    [[2, 1], ...all(0), ...all(1)],
  );
});

test("a reply that a request had written before it waits is not seen again", () => {
  const conversation = gated();
  leave(conversation, [{ id: 1, readable: pattern(3), capacity: 100 }]);
  conversation.send([{ id: 63, readable: Uint8Array.of(1), capacity: 4 }], { queue: 2 });
  const [, answered] = conversation.receive();
  assert.equal(answered?.replies, [{ id: 1, bytes: pattern(3), flags: 0 }]);
});

test("wake() is followed by replies, of the generation that their requests had", () => {
  const conversation = gated();
  leave(conversation, [asks(1), asks(2)], { generation: 7 });
  conversation.channel.wake(0, false);
  const [message] = conversation.receive();
  assert.is(message?.generation, 7);
  assert.equal(
    message?.replies.map(({ id }) => id),
    [1],
  );
});

test("RESET drops what waits", () => {
  const conversation = gated();
  leave(conversation, [asks(1), asks(2, 5000)]);
  conversation.reset(1);
  conversation.activate(0n);
  leave(conversation, [asks(3)], { generation: 1 });
  assert.equal(openAndHear(conversation, 9), [
    [2, [63]],
    [0, [3]],
  ]);
});

test("a chain in pieces waits as a whole, and nothing is offered while its pieces arrive", () => {
  const conversation = gated();
  leave(conversation, [asks(1, 100)]);
  const readable = pattern(CHAIN_BYTES_MAX, 2);
  for (let at = 0; at < CHAIN_BYTES_MAX; at += PAYLOAD_BYTES_MAX) {
    const piece = readable.slice(at, at + PAYLOAD_BYTES_MAX);
    const flags = at + piece.length < CHAIN_BYTES_MAX ? MORE : 0;
    const capacity = CHAIN_BYTES_MAX;
    conversation.send([{ id: 2, readable: piece, capacity, flags }], { queue: 1 });
    if (flags === MORE) conversation.channel.wake(0, false);
    assert.is(conversation.receive().length, flags === MORE ? 0 : 7);
  }
});

test("bytes are kept up to their limit, in any order of coming and going", () => {
  const conversation = gated();
  const bytes = 190 * 1024;
  const heard: boolean[] = [];
  for (let id = 0; id < 60; id++) {
    const queue = id % 2;
    leave(conversation, [asks(id, bytes)], { queue });
    if (id < 20) continue;
    conversation.channel.wake(0, false);
    for (const { replies } of conversation.receive()) {
      for (const reply of replies) {
        heard.push(Buffer.from(reply.bytes).equals(pattern(bytes, reply.id)));
      }
    }
  }
  assert.equal(heard, new Array(40).fill(true));
});

test("more bytes than may be unanswered end the device: the VMM does not send them", () => {
  const conversation = gated();
  for (let id = 0; id < 21; id++) leave(conversation, [asks(id, 190 * 1024)]);
  conversation.send([asks(21, 190 * 1024)]);
  assert.match(conversation.lastWords(), /more requests of queue 0 than may be unanswered/);
});

test("more requests than a queue has entries end the device", () => {
  const conversation = gated();
  const all = Array.from({ length: 64 }, (_, id) => ({ id }));
  leave(conversation, all);
  conversation.send([{ id: 64 }]);
  assert.match(conversation.lastWords(), /more requests of queue 0 than may be unanswered/);
});

test("a device that traps in wake() ends", () => {
  const wake = '(func (export "wake") unreachable)';
  const conversation = Conversation.started(moduleWith({ wake }));
  conversation.channel.wake(0, false);
  assert.is(conversation.lastWords(), "wake: unreachable");
  assert.ok(conversation.closed);
});

test.run();
