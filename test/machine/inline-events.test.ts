// What an inline device waits for, in the epoll of the thread that it runs in.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Epoll } from "../../host/machine/epoll.js";
import { EventFd } from "../../host/machine/eventfd.js";
import { InlineEvents } from "../../host/machine/inline-events.js";
import { readableBit, writableBit } from "../../host/runtime/attention.js";
import { CLOCK_MONOTONIC, nanosecondsOf } from "../../host/runtime/clock.js";
import { Conversation, manifest, moduleWith } from "../runtime/support.js";

const MS = 1_000_000n;
const BOTH = readableBit(0) | writableBit(0);

/**
 * A device with a deadline at 0 and interest at 8 that the test writes by requests: the bytes of a
 * request go to address 0. wake() counts at 32, which each request is answered with; one of queue 1
 * waits for it.
 */
const WAKE = `(func (export "wake")
  (i32.store (i32.const 32) (i32.add (i32.load (i32.const 32)) (i32.const 1))))`;
const SERVE = `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
  (memory.copy (i32.const 0) (local.get 1) (local.get 2))
  (if (i32.and (local.get 0) (i32.eqz (i32.load (i32.const 32)))) (then (return (i32.const -1))))
  (i32.store (local.get 3) (i32.load (i32.const 32)))
  (i32.const 4))`;

function bench({ hasClock = true, wake = WAKE } = {}) {
  const module = moduleWith({ wake, serve: SERVE }, manifest({ queues: [64, 64] }));
  const conversation = Conversation.started(module);
  const { channel } = conversation;
  const [event, epoll] = [EventFd.create(), new Epoll()];
  const awaited = { fd: event.fd, readable: readableBit(0), writable: writableBit(0) };
  const options = { epoll, woken: () => events.update() };
  const events = new InlineEvents(channel, { descriptors: [awaited], hasClock }, options);
  /** Makes the device wait for this; returns how often it was woken. */
  const wants = ({ interest = 0, deadline = 0n }): number => {
    const readable = new Uint8Array(12);
    const view = new DataView(readable.buffer);
    view.setBigUint64(0, deadline, true);
    view.setUint32(8, interest, true);
    const [reply] = conversation.ask({ id: 1, readable, capacity: 4 });
    events.update();
    return new DataView(reply!.bytes.buffer).getUint32(0, true);
  };
  const end = () => {
    events.close();
    epoll.close();
    event.close();
  };
  return { conversation, channel, event, epoll, events, wants, end };
}

test("InlineEvents wakes a device when what it awaits is ready, once", () => {
  const { event, epoll, wants, channel, end } = bench();
  wants({ interest: readableBit(0) });
  epoll.serve(0);
  assert.is(channel.attention?.interest, readableBit(0));
  event.signal();
  for (let i = 0; i < 3; i++) epoll.serve(0);
  assert.is(channel.attention?.interest, 0);
  assert.is(wants({}), 1);
  end();
});

test("InlineEvents wakes a device that awaits the same again", () => {
  const { event, epoll, wants, end } = bench();
  event.signal();
  for (let woken = 0; woken < 3; woken++) {
    assert.is(wants({ interest: BOTH }), woken);
    epoll.serve(0);
  }
  end();
});

test("InlineEvents wakes a device again that awaits the same in wake()", () => {
  const wake = WAKE.replace('"wake")', '"wake") (i32.store8 (i32.const 8) (i32.const 1))');
  const { event, epoll, wants, end } = bench({ wake });
  wants({ interest: readableBit(0) });
  event.signal();
  for (let i = 0; i < 3; i++) epoll.serve(0);
  assert.is(wants({}), 3);
  end();
});

test("InlineEvents forgets what a device awaits no more", () => {
  const { event, epoll, wants, end } = bench();
  wants({ interest: readableBit(0) });
  wants({});
  event.signal();
  epoll.serve(0);
  assert.is(wants({ interest: 0xffff_fefe }), 0); // all that it was not granted
  epoll.serve(0);
  assert.is(wants({}), 0);
  end();
});

test("InlineEvents has requests that wait answered when their device was woken", () => {
  const { conversation, event, epoll, events, end } = bench();
  const readable = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0);
  conversation.send([{ id: 9, readable, capacity: 4 }], { queue: 1 });
  assert.equal(conversation.receive(), []);
  events.update();
  event.signal();
  epoll.serve(0);
  const [message] = conversation.receive();
  assert.equal(message?.replies, [{ id: 9, bytes: Uint8Array.of(1, 0, 0, 0), flags: 0 }]);
  end();
});

test("InlineEvents.tick() wakes a device when its deadline has passed, once", () => {
  const { events, wants, end } = bench();
  const now = nanosecondsOf(CLOCK_MONOTONIC);
  wants({ deadline: now });
  events.tick(now - 1n);
  assert.is(events.restMs(now - 3n * MS), 3);
  events.tick(now);
  events.tick(now + MS);
  assert.is(events.restMs(now), Number.POSITIVE_INFINITY);
  assert.is(wants({}), 1);
  end();
});

test("InlineEvents.restMs() lets no device keep the thread busy with the past", () => {
  const { events, wants, end } = bench();
  wants({ deadline: 1n });
  assert.is(events.restMs(nanosecondsOf(CLOCK_MONOTONIC)), 1);
  wants({ deadline: 2n ** 64n - 1n });
  assert.ok(events.restMs(1n) > 1e12);
  end();
});

test("InlineEvents ignores a deadline without a clock", () => {
  const { events, wants, end } = bench({ hasClock: false });
  wants({ deadline: 1n });
  assert.is(events.restMs(2n), Number.POSITIVE_INFINITY);
  events.tick(2n);
  assert.is(wants({}), 0);
  end();
});

test("InlineEvents watches nothing of a device that has trapped", () => {
  const wake = '(func (export "wake") unreachable)';
  const { conversation, event, epoll, events, wants, end } = bench({ wake });
  wants({ interest: readableBit(0), deadline: 1n });
  event.signal();
  epoll.serve(0);
  assert.is(conversation.lastWords(), "wake: unreachable");
  assert.is(events.restMs(2n), Number.POSITIVE_INFINITY);
  for (let i = 0; i < 3; i++) epoll.serve(0);
  events.tick(2n);
  end();
});

test.run();
