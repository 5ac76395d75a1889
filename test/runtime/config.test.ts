// The config space of a module: told at its start, after each write of the driver, and when the
// module changes it.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { CONFIG, LOG, MORE, READY, REPLIES, TYPE, WAKE } from "../../host/wire/format.js";
import { Conversation, type Message, manifest, moduleWith, pattern } from "./support.js";

/** Eight bytes of config space at 96; what the driver writes goes there, and byte 103 counts it. */
const PARTS = {
  initialize: `(func (export "_initialize")
    (i32.store (i32.const 80) (i32.const 96))
    (i32.store (i32.const 96) (i32.const 0x04030201)))`,
  // At 64: deadline, interest, config generation (76), address of the config (80).
  attention: '(func (export "attention") (result i32) i32.const 64)',
  configure: `(func (export "configure") (param i32 i32 i32)
    (i32.store8 (i32.add (i32.const 96) (local.get 0)) (local.get 2))
    (i32.store8 (i32.const 103) (i32.add (i32.load8_u (i32.const 103)) (i32.const 1))))`,
  // Each of these changes the config space: byte 102 says what did. serve() needs bytes for that.
  activate: '(func (export "activate") (param i64) (call $change (i32.const 1)))',
  reset: '(func (export "reset") (call $change (i32.const 2)))',
  wake: '(func (export "wake") (call $change (i32.const 3)))',
  serve: `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    (if (local.get 2) (then (call $change (local.get 2)))) (local.get 4))`,
  more: `(func $change (param i32)
    (i32.store8 (i32.const 102) (local.get 0))
    (i32.store (i32.const 76) (i32.add (i32.load (i32.const 76)) (i32.const 1))))`,
};

function device(parts: Partial<typeof PARTS> = {}): Conversation {
  return new Conversation(moduleWith({ ...PARTS, ...parts }, manifest({ config: 8 })));
}

/** What a message is, in short: its type, and of a CONFIG the count and bytes 102 and 103. */
function shape({ type, generation, config }: Message): number[] {
  return type === CONFIG ? [type, generation, ...config.slice(6)] : [type];
}

test("Dispatcher tells the config space of a fresh device before READY", () => {
  const messages = device().receive();
  assert.equal(messages.map(shape), [[CONFIG, 0, 0, 0], [READY]]);
  assert.equal(messages[0]?.config, [1, 2, 3, 4, 0, 0, 0, 0]);
});

test("Dispatcher says nothing of a config space that is not there", () => {
  const conversation = new Conversation(moduleWith(PARTS));
  assert.equal(conversation.receive().map(shape), [[READY]]);
  conversation.activate(0n);
  assert.equal(conversation.receive(), []);
});

test("Dispatcher answers each CONFIGURE with the config space and a count", () => {
  const conversation = device();
  conversation.receive();
  assert.equal(conversation.configure(1, 0xaa, 1)[0]?.config, [1, 0xaa, 3, 4, 0, 0, 0, 1]);
  const [second, ...rest] = conversation.configure(0, 0xbb);
  assert.equal(rest, []);
  assert.is(second?.generation, 2);
  assert.equal(second?.config, [0xbb, 0xaa, 3, 4, 0, 0, 0, 2]);
});

test("Dispatcher tells the config space when the device changed it, and not otherwise", () => {
  const conversation = device();
  conversation.receive();
  conversation.activate(0n);
  assert.equal(conversation.receive().map(shape), [[CONFIG, 0, 1, 0]]);
  assert.equal(conversation.receive(), []);
  conversation.send([{ id: 1 }, { id: 2, readable: pattern(5) }, { id: 3, readable: pattern(7) }]);
  assert.equal(conversation.receive().map(shape), [[REPLIES], [CONFIG, 0, 7, 0]]);
  conversation.send([{ id: 4 }]);
  assert.equal(conversation.receive().map(shape), [[REPLIES]]);
  conversation.reset(1);
  assert.equal(conversation.receive().map(shape), [[CONFIG, 0, 2, 0]]);
});

test("Dispatcher tells the config space after a reply in pieces", () => {
  const conversation = device();
  conversation.receive();
  conversation.activate(0n);
  conversation.receive();
  conversation.send([{ id: 1, readable: pattern(9), capacity: 500_000 }]);
  const types = conversation.receive().map(shape);
  assert.equal(types, [[REPLIES], [REPLIES], [REPLIES], [CONFIG, 0, 9, 0]]);
});

test("Dispatcher takes CONFIGURE between the pieces of a request", () => {
  const serve = `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    (memory.copy (local.get 3) (local.get 1) (local.get 4)) (local.get 4))`;
  const conversation = device({ serve });
  conversation.receive();
  conversation.activate(0n);
  conversation.receive();
  const whole = pattern(300);
  conversation.send([{ id: 1, readable: whole.subarray(0, 200), capacity: 300, flags: MORE }]);
  assert.equal(conversation.configure(0, 5).map(shape), [[CONFIG, 1, 1, 1]]);
  const [reply] = conversation.ask({ id: 1, readable: whole.subarray(200), capacity: 300 });
  assert.equal(reply?.bytes, whole);
});

test("Dispatcher has a device look again at any time: before a driver, inside a chain", () => {
  const serve = `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    (memory.copy (local.get 3) (local.get 1) (local.get 4)) (local.get 4))`;
  const conversation = device({ serve });
  conversation.receive();
  const look = (bytes = 0) => {
    conversation.channel.outgoing.fill(0);
    conversation.channel.outgoing[TYPE] = WAKE;
    if (bytes > 0) conversation.channel.gatherControl(bytes);
    conversation.channel.send();
    return conversation.receive();
  };
  assert.equal(look().map(shape), [[CONFIG, 0, 3, 0]]);
  conversation.activate(0n);
  conversation.receive();
  const whole = pattern(300);
  conversation.send([{ id: 1, readable: whole.subarray(0, 200), capacity: 300, flags: MORE }]);
  for (let i = 0; i < 100; i++) assert.equal(look().map(shape), [[CONFIG, 0, 3, 0]]);
  const [reply] = conversation.ask({ id: 1, readable: whole.subarray(200), capacity: 300 });
  assert.equal(reply?.bytes, whole);
  assert.match(look(4)[0]?.text ?? "", /^WAKE of odd size$/);
});

for (const [what, write] of [
  ["beyond the config space", [8, 1]],
  ["across its end", [5, 4]],
  ["far beyond it", [0xffff_ffff, 4]],
  ["of an odd width", [0, 3]],
  ["of no width", [0, 0]],
] as const) {
  test(`Dispatcher refuses a CONFIGURE ${what}`, () => {
    const conversation = device();
    conversation.receive();
    const [last] = conversation.configure(write[0], 0, write[1]);
    assert.match(last?.text ?? "", /^CONFIGURE of \d bytes at \d+ in 8 of config space$/);
    assert.ok(conversation.closed);
  });
}

test("Dispatcher refuses CONFIGURE where there is no config space, and one of odd size", () => {
  const without = new Conversation(moduleWith(PARTS));
  without.receive();
  assert.match(without.configure(0, 0, 1)[0]?.text ?? "", /CONFIGURE of 1 bytes at 0 in 0 of/);
  const { channel } = without;
  const conversation = device();
  conversation.receive();
  conversation.channel.outgoing.set(channel.outgoing);
  conversation.channel.gatherControl(8);
  conversation.channel.send();
  assert.match(conversation.lastWords(), /^CONFIGURE of odd size$/);
});

for (const [what, parts, message] of [
  [
    "whose config space is not in its memory",
    { initialize: '(func (export "_initialize") (i32.store (i32.const 80) (i32.const 0x3ffff9)))' },
    /^attention: 8 bytes of config space at 4194297 are not in its memory$/,
  ],
  [
    "whose config space is far away",
    { initialize: '(func (export "_initialize") (i32.store (i32.const 80) (i32.const -1)))' },
    /^attention: 8 bytes of config space at 4294967295 are not in its memory$/,
  ],
  [
    "whose attention() is not in its memory",
    { attention: '(func (export "attention") (result i32) i32.const -8)' },
    /^attention: 24 bytes at 4294967288 are not in its memory$/,
  ],
  [
    "whose attention() traps",
    { attention: '(func (export "attention") (result i32) unreachable)' },
    /^attention: unreachable$/,
  ],
] as const) {
  test(`DeviceInstance ends a device ${what}`, () => {
    const [first] = device(parts).receive();
    assert.is(first?.type, LOG);
    assert.match(first?.text ?? "", message);
  });
}

test("DeviceInstance ends a device that traps in configure()", () => {
  const configure = '(func (export "configure") (param i32 i32 i32) unreachable)';
  const conversation = device({ configure });
  conversation.receive();
  assert.match(conversation.configure(0, 0)[0]?.text ?? "", /^configure: unreachable$/);
});

test.run();
