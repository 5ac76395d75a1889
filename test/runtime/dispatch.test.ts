import { test } from "uvu";
import * as assert from "uvu/assert";
import { EAGER_BYTES, EAGER_CHAINS } from "../../host/runtime/assembly/shared.js";
import { CLOSED, FULL, SENT } from "../../host/wire/channel.js";
import { CHAIN_BYTES_MAX, LOG, MORE, PAYLOAD_BYTES_MAX } from "../../host/wire/format.js";
import { Conversation, manifest, moduleWith, pattern } from "./support.js";

/** A device that fills the whole writable window with the low byte of the readable one's length. */
const FILL = `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
  (memory.fill (local.get 3) (local.get 2) (local.get 4))
  (local.get 4))`;

function echo(): Conversation {
  return Conversation.started(moduleWith({}, manifest({ queues: [64, 64] })));
}

function filler(): Conversation {
  return Conversation.started(moduleWith({ serve: FILL }));
}

/** Asserts that the device ended itself with such a line in the log. */
function ended(conversation: Conversation, line: RegExp): void {
  assert.match(conversation.lastWords(), line);
  assert.ok(conversation.closed);
  assert.is(conversation.send([{ id: 1 }]), CLOSED);
}

test("Dispatcher answers every request of a batch, in order, in one message", () => {
  const conversation = echo();
  const requests = [3, 200, 1].map((bytes, index) => {
    return { id: 40 + index, readable: pattern(bytes, index), capacity: 4096 };
  });
  conversation.send(requests, { queue: 1, generation: 7 });
  const messages = conversation.receive();
  assert.is(messages.length, 1);
  assert.is(messages[0]?.queue, 1);
  assert.is(messages[0]?.generation, 7);
  assert.equal(
    messages[0]?.replies,
    requests.map(({ id, readable }) => ({ id, bytes: readable, flags: 0 })),
  );
});

test("Dispatcher answers a request without writable bytes", () => {
  const replies = echo().ask({ id: 5, readable: pattern(10), capacity: 0 });
  assert.equal(replies, [{ id: 5, bytes: new Uint8Array(), flags: 0 }]);
});

test("Dispatcher serves a chain that comes in pieces as one", () => {
  const conversation = echo();
  const whole = pattern(PAYLOAD_BYTES_MAX * 2 + 500);
  const piece = (from: number, to: number, flags: number) =>
    conversation.ask({ id: 9, readable: whole.subarray(from, to), capacity: 1000, flags });
  assert.equal(piece(0, PAYLOAD_BYTES_MAX, MORE), []);
  assert.equal(piece(PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX * 2, MORE), []);
  const replies = piece(PAYLOAD_BYTES_MAX * 2, whole.length, 0);
  assert.equal(replies, [{ id: 9, bytes: whole.slice(0, 1000), flags: 0 }]);
});

test("Dispatcher serves the longest chain and sends its reply in pieces, each alone", () => {
  const conversation = echo();
  const whole = pattern(CHAIN_BYTES_MAX);
  const replies = [];
  for (let at = 0; at < whole.length; at += PAYLOAD_BYTES_MAX) {
    const readable = whole.subarray(at, at + PAYLOAD_BYTES_MAX);
    const flags = at + PAYLOAD_BYTES_MAX < whole.length ? MORE : 0;
    replies.push(...conversation.ask({ id: 2, readable, capacity: CHAIN_BYTES_MAX, flags }));
  }
  const flags = replies.map((reply) => reply.flags);
  assert.equal(flags, [MORE, MORE, MORE, MORE, MORE, 0]);
  assert.ok(Buffer.concat(replies.map((reply) => reply.bytes)).equals(whole), "other bytes");
});

test("Dispatcher splits the replies of a batch into messages of at most PAYLOAD_BYTES_MAX", () => {
  const conversation = filler();
  const capacities = [100_000, 90_000, 50_000, 400_000, 0, 7];
  conversation.send(capacities.map((capacity, id) => ({ id, capacity })));
  const messages = conversation.receive();
  const shape = messages.map(({ replies }) => replies.map(({ id, bytes }) => [id, bytes.length]));
  assert.equal(shape, [
    [[0, 100_000]],
    [[1, 90_000]],
    [[2, 50_000]],
    [[3, PAYLOAD_BYTES_MAX]],
    [[3, PAYLOAD_BYTES_MAX]],
    [[3, 400_000 - 2 * PAYLOAD_BYTES_MAX]],
    [
      [4, 0],
      [5, 7],
    ],
  ]);
});

test("Dispatcher sends EAGER_CHAINS replies, or EAGER_BYTES, before it serves the rest", () => {
  const conversation = filler();
  const countsOf = (capacities: number[]) => {
    conversation.send(capacities.map((capacity, id) => ({ id, capacity })));
    return conversation.receive().map(({ replies }) => replies.length);
  };
  assert.equal(countsOf(Array(2 * EAGER_CHAINS + 1).fill(7)), [EAGER_CHAINS, EAGER_CHAINS, 1]);
  const quarter = EAGER_BYTES / 4;
  assert.equal(countsOf([quarter, quarter, quarter, quarter - 1, 1, 1]), [5, 1]);
});

test("Dispatcher repeats the generation of the requests in each of their replies", () => {
  const conversation = filler();
  conversation.send([{ id: 1, capacity: PAYLOAD_BYTES_MAX + 1 }], { generation: 0xfffffffe });
  const generations = conversation.receive().map((message) => message.generation);
  assert.equal(generations, [0xfffffffe, 0xfffffffe]);
});

test("Dispatcher forgets a chain that was still arriving when the driver resets", () => {
  const conversation = echo();
  conversation.send([{ id: 1, readable: pattern(100), flags: MORE }]);
  conversation.reset(1);
  conversation.activate(0n);
  const replies = conversation.ask({ id: 2, readable: pattern(5), capacity: 50 });
  assert.equal(replies, [{ id: 2, bytes: pattern(5), flags: 0 }]);
});

test("Dispatcher tells the device of features and resets", () => {
  const conversation = Conversation.started(
    moduleWith({
      activate: `(global $features (mut i64) (i64.const 0))
        (func (export "activate") (param i64) (global.set $features (local.get 0)))`,
      reset: '(func (export "reset") (global.set $features (i64.const -1)))',
      serve: `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
        (i64.store (local.get 3) (global.get $features)) (i32.const 8))`,
    }),
  );
  const features = () => conversation.ask({ id: 1, capacity: 8 })[0]?.bytes;
  conversation.activate(0x1234_5678_9abc_def0n);
  assert.equal(features(), Uint8Array.of(0xf0, 0xde, 0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12));
  conversation.reset(1);
  conversation.activate(5n);
  assert.equal(features(), Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0));
});

test("Dispatcher refuses requests before ACTIVATE, and after RESET", () => {
  const conversation = echo();
  conversation.reset(1);
  conversation.send([{ id: 1, capacity: 1 }]);
  ended(conversation, /no ACTIVATE before them/);
});

test("Dispatcher refuses a queue that the device does not have", () => {
  const conversation = echo();
  conversation.send([{ id: 1, capacity: 1 }], { queue: 2 });
  ended(conversation, /queue 2 of 2/);
});

test("Dispatcher refuses a capacity that its outbox may not hold", () => {
  const conversation = echo();
  conversation.send([{ id: 1, capacity: CHAIN_BYTES_MAX + 1 }]);
  ended(conversation, /capacity of 1048577/);
});

test("Dispatcher refuses a chain that its inbox may not hold", () => {
  const conversation = echo();
  for (let i = 0; i < 6; i++) {
    conversation.send([{ id: 1, readable: pattern(PAYLOAD_BYTES_MAX), flags: MORE }]);
  }
  ended(conversation, /a chain of 1179648 bytes/);
});

test("Dispatcher refuses another request inside a chain", () => {
  for (const [second, queue] of [
    [{ id: 2, readable: pattern(1) }, 0],
    [{ id: 1, readable: pattern(1) }, 1],
  ] as const) {
    const conversation = echo();
    conversation.send([{ id: 1, readable: pattern(9), flags: MORE }]);
    conversation.receive();
    conversation.send([second], { queue });
    ended(conversation, /another request inside a chain/);
  }
});

test("Dispatcher refuses ACTIVATE inside a chain", () => {
  const conversation = echo();
  conversation.send([{ id: 1, readable: pattern(9), flags: MORE }]);
  conversation.receive();
  conversation.activate(0n);
  ended(conversation, /ACTIVATE inside a chain/);
});

test("Dispatcher refuses a message of another type", () => {
  const conversation = echo();
  conversation.channel.outgoing.fill(0);
  conversation.channel.outgoing[0] = LOG;
  conversation.channel.send();
  ended(conversation, /a message of type 18/);
});

test("Dispatcher refuses bytes that no entry speaks of", () => {
  const conversation = echo();
  const { outgoing } = conversation.channel;
  conversation.send([{ id: 1, capacity: 1 }]);
  conversation.receive();
  outgoing[5] = 4; // the entry's bytes; none are gathered
  conversation.channel.send();
  ended(conversation, /0 bytes of payload where its entries say 4/);
});

test("Dispatcher ends a device that claims more than its capacity", () => {
  const serve = '(func (export "serve") (param i32 i32 i32 i32 i32) (result i32) i32.const 65)';
  const conversation = Conversation.started(moduleWith({ serve }));
  conversation.send([{ id: 1, capacity: 64 }]);
  ended(conversation, /claims 65 bytes of a capacity of 64/);
});

test("Dispatcher ends a device that traps", () => {
  const serve = '(func (export "serve") (param i32 i32 i32 i32 i32) (result i32) unreachable)';
  const conversation = Conversation.started(moduleWith({ serve }));
  conversation.send([{ id: 1, capacity: 64 }]);
  ended(conversation, /^serve: unreachable$/);
});

test("InlineChannel.send() is full until the replies of the last batch are taken", () => {
  const conversation = echo();
  const { channel } = conversation;
  assert.is(conversation.send([{ id: 1, readable: pattern(4), capacity: 4 }]), SENT);
  assert.is(conversation.send([{ id: 2, readable: pattern(4, 99), capacity: 4 }]), FULL);
  assert.ok(channel.ready);
  assert.equal(
    conversation.receive().flatMap(({ replies }) => replies),
    [{ id: 1, bytes: pattern(4), flags: 0 }],
  );
  assert.not(channel.ready);
});

test("InlineChannel hands over a device that fails at its start as a log line and a close", () => {
  const reserve = '(func (export "reserve") (param i32) (result i32) unreachable)';
  const conversation = new Conversation(moduleWith({ reserve }));
  assert.match(conversation.lastWords(), /^reserve: unreachable$/);
  assert.ok(conversation.closed);
});

test.run();
