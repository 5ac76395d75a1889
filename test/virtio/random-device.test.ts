// A device that sends what it likes to a driver that keeps the rules: OPERATIONS replies, right and
// wrong ones, cut short, too long, twice, in any order, and held back across other replies, resets,
// deaths and queues of other sizes. A model of what a device may say predicts for each message
// whether it is taken; the driver checks every byte that arrives, and those around its buffers.

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { MockQueue } from "../../host/testing/mock-queue.js";
import { MockRam } from "../../host/testing/mock-ram.js";
import * as wire from "../../host/wire/format.js";
import { OPERATIONS, Random, repeat, SEED } from "./random.js";
import { Rig } from "./rig.js";
import type { Reply, ReplyOptions } from "./test-device.js";

const random = new Random(SEED ^ 0x5eed);
/** So many resets before their count wraps around, which is early in the run. */
const RESETS_TO_WRAP = 40;
const rig = new Rig({
  queueSizesMax: [8, 64],
  ram: new MockRam(32 * 1024 * 1024),
  generation: 2 ** 32 - RESETS_TO_WRAP,
});
const { driver } = rig;

/** What the device knows of a request, and what it has said to it. */
interface Pending {
  capacity: number;
  said: Uint8Array[];
  /** It has an answer in the drawer, which is for later. */
  held: boolean;
}

const pending = [new Map<number, Pending>(), new Map<number, Pending>()];
/** Content that a head is due, once it was answered as a whole. */
const due = [new Map<number, Uint8Array>(), new Map<number, Uint8Array>()];
const seen = { replies: 0, taken: 0, lies: 0, deaths: 0, restarts: 0, completions: 0 };
/** What became of messages that were held back. */
const late = { taken: 0, void: 0, lie: 0 };

/** A message that is ready to be sent. */
interface Letter {
  replies: Reply[];
  options: Required<ReplyOptions>;
}

/** Messages held back: across other replies, resets, other queue sizes and the wrap-around. */
const drawer: Letter[] = [];
const DRAWER_MAX = 100;
const CHAINS_AT_ONCE = 6;
/** The run ends with OPERATIONS replies; if that takes more operations, nobody replies. */
const OPERATIONS_A_REPLY_MAX = 10;

/** Reads what the link sent; REQUESTS become pending when they are complete. */
function listen(): void {
  for (let message = rig.device.receive(); message !== undefined; message = rig.device.receive()) {
    if (rig.link.wantsWritable) rig.link.onWritable();
    if (message.type === wire.RESET) for (const map of pending) map.clear();
    if (message.type !== wire.REQUESTS) continue;
    for (const { id, capacity, flags } of message.entries) {
      if (flags === 0) pending[message.queue]!.set(id, { capacity, said: [], held: false });
    }
  }
}

function addChains(): void {
  const queue = random.pick(driver.queues);
  const parts = (max: number) => Array.from({ length: random.below(max) }, () => random.below(700));
  const chain = {
    readable: parts(3).map((bytes) => random.bytes(bytes)),
    writable: parts(4),
    indirect: random.oneIn(2),
  };
  if (random.oneIn(50)) chain.writable.push(300_000);
  if (random.oneIn(50)) chain.readable.push(random.bytes(400_000));
  if (chain.readable.length + chain.writable.length === 0) chain.writable.push(8);
  if (queue.descsFor(chain) > queue.freeDescs || queue.inFlight > 40) return;
  queue.add(chain);
  driver.kick(queue);
}

function roomOf({ capacity, said }: Pending): number {
  return capacity - said.reduce((sum, part) => sum + part.length, 0);
}

function shuffled<T>(list: T[]): T[] {
  for (let i = list.length - 1; i > 0; i -= 1) {
    const j = random.below(i + 1);
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
  return list;
}

/** Replies that are right, in any order. */
function honest(queue: number): Reply[] {
  const replies: Reply[] = [];
  let payload = 0;
  for (const [id, request] of shuffled([...pending[queue]!])) {
    if (request.held) continue;
    if (random.oneIn(8) || replies.length === wire.BATCH_CHAINS_MAX) break;
    const room = roomOf(request);
    const bytes = Math.min(room, random.oneIn(2) ? room : random.below(room + 1));
    payload += bytes;
    if (payload > wire.PAYLOAD_BYTES_MAX) break;
    replies.push({ id, data: random.bytes(bytes) });
  }
  const [first] = replies;
  if (replies.length === 1 && first!.data!.length > 0 && random.oneIn(4)) first!.flags = wire.MORE;
  return replies;
}

/** Makes one thing of a message wrong, or at least different. */
function mutate(replies: Reply[], options: ReplyOptions): void {
  const reply = replies.length > 0 ? random.pick(replies) : { id: 0 };
  if (replies.length === 0) replies.push(reply);
  switch (random.below(9)) {
    case 0:
      reply.id = random.oneIn(2) ? random.below(70) : random.u32();
      return;
    case 1:
      reply.data = random.bytes(random.below(3000));
      return;
    case 2:
      reply.bytes = random.oneIn(2) ? random.u32() : random.below(3000);
      return;
    case 3:
      reply.flags = random.pick([wire.MORE, 2, 3, 0xffff_ffff]);
      return;
    case 4:
      options.queue = random.pick([0, 1, 2, 0xffff_ffff]);
      return;
    case 5:
      options.generation = (rig.device.generation + random.pick([-1, 1, 2 ** 31])) >>> 0;
      return;
    case 6:
      options.count = random.pick([0, 1, 2, 64, 65, 0xffff_ffff]);
      return;
    case 7:
      options.trailing = random.below(3);
      return;
    default:
      replies.push({ ...reply });
  }
}

/** A message as it goes over the wire: entries as many as its count says, and the payload. */
interface Sent {
  queue: number;
  generation: number;
  count: number;
  entries: { id: number; bytes: number; flags: number }[];
  payload: Uint8Array;
}

function asSent(replies: Reply[], options: Required<ReplyOptions>): Sent {
  const { queue, generation, count, trailing } = options;
  const data = replies.map((reply) => reply.data ?? new Uint8Array(0));
  const payload = Uint8Array.from(Buffer.concat([...data, new Uint8Array(trailing)]));
  const entries = Array.from({ length: Math.min(count, 1000) }, (_, i) => {
    const { id = 0, bytes = data[i]?.length ?? 0, flags = 0 } = replies[i] ?? {};
    return { id, bytes, flags };
  });
  return { queue, generation, count, entries, payload };
}

type Verdict = "taken" | "void" | "lie";

/** What a link must make of a message, in other words than the link's own. */
function judge({ queue, generation, count, entries, payload }: Sent): Verdict {
  const pieces = entries.filter(({ flags }) => flags !== 0);
  const ages = (rig.device.generation - generation) >>> 0;
  const rules = [
    count >= 1 && count <= 64,
    queue < 2,
    entries.reduce((sum, { bytes }) => sum + bytes, 0) === payload.length,
    pieces.every(({ flags, bytes }) => flags === wire.MORE && bytes > 0),
    pieces.length === 0 || count === 1,
    ages < 2 ** 31,
  ];
  if (rules.includes(false)) return "lie";
  if (ages > 0) return "void";
  if (new Set(entries.map(({ id }) => id)).size !== count) return "lie";
  const fits = entries.every(({ id, bytes }) => {
    const request = pending[queue]!.get(id);
    return request !== undefined && bytes <= roomOf(request);
  });
  return fits ? "taken" : "lie";
}

/** Notes what the driver must see of a message that is taken. */
function note({ queue, entries, payload }: Sent): void {
  const { head } = rig.registers.queues[queue]!.chains;
  let at = 0;
  for (const { id, bytes, flags } of entries) {
    const request = pending[queue]!.get(id)!;
    request.said.push(payload.slice(at, at + bytes));
    at += bytes;
    if (flags === wire.MORE) continue;
    due[queue]!.set(head[id]!, Uint8Array.from(Buffer.concat(request.said)));
    pending[queue]!.delete(id);
  }
}

/** A fresh device process, with or without a reset by the driver. */
function replace(reset: boolean): void {
  for (const map of pending) map.clear();
  rig.device.close();
  rig.settle();
  rig.plug();
  if (reset) start();
  else for (const queue of driver.queues) queue.expectRewrites();
  rig.device.ready();
  rig.settle();
}

function start(): void {
  for (const map of due) map.clear();
  driver.start({ queues: [{}, { size: random.pick([8, 16, 64]) }] });
}

function collect(queue: MockQueue): void {
  for (const { head, data } of queue.collect()) {
    const expected = due[queue.index]!.get(head);
    assert.ok(expected !== undefined, `head ${head} was used and not answered`);
    assert.ok(Buffer.compare(data, expected) === 0, `head ${head} got other bytes`);
    due[queue.index]!.delete(head);
    seen.completions += 1;
  }
  assert.is(due[queue.index]!.size, 0, "answered, but not used");
}

/** Puts a message away; so that it is right later, nothing else may answer its requests. */
function holdBack(letter: Letter, promise: boolean): void {
  if (drawer.length === DRAWER_MAX) drawer.splice(random.below(DRAWER_MAX), 1);
  drawer.push(letter);
  if (!promise) return;
  for (const { id } of letter.replies) pending[letter.options.queue]!.get(id)!.held = true;
}

/** A message that was held back, and what must come of it now. */
function speakLate(): void {
  const [letter] = drawer.splice(random.below(drawer.length), 1);
  const verdict = send(letter!);
  late[verdict] += 1;
}

/** Less than a header. */
function speakShort(): void {
  rig.device.sendShort(1 + random.below(wire.HEADER_BYTES - 1));
  rig.settle();
  suffer();
}

/** One message that is not late, and what must come of it. */
function speak(): void {
  const queue = random.below(2);
  const replies = honest(queue);
  if (replies.length === 0 && !random.oneIn(12)) return;
  const options = { queue, generation: rig.device.generation, trailing: 0 };
  const wrong: ReplyOptions = { ...options };
  if (replies.length === 0 || random.oneIn(12)) mutate(replies, wrong);
  const all = { ...options, count: replies.length, ...wrong };
  if (replies.length > wire.BATCH_CHAINS_MAX) return;
  const letter = { replies, options: all };
  const verdict = judge(asSent(replies, all));
  if (verdict === "taken" && random.oneIn(8)) holdBack(letter, !random.oneIn(8));
  else send(letter);
  if (random.oneIn(100)) holdBack(letter, false);
}

function send({ replies, options }: Letter): Verdict {
  const sent = asSent(replies, options);
  const verdict = judge(sent);
  if (sent.payload.length > wire.PAYLOAD_BYTES_MAX) return verdict;
  seen.replies += replies.length;
  rig.device.reply(replies, options);
  if (verdict === "taken") note(sent);
  rig.settle();
  assert.is(rig.broken.length, verdict === "lie" ? 1 : 0, `${verdict}: ${rig.broken}`);
  seen.taken += verdict === "taken" ? 1 : 0;
  for (const each of driver.queues) collect(each);
  if (verdict === "lie") suffer();
  return verdict;
}

/** The device lied and must have been found out. */
function suffer(): void {
  seen.lies += 1;
  assert.is(rig.broken.length, 1);
  rig.broken.length = 0;
  assert.ok(driver.needsReset);
  replace(true);
}

/** The driver resets the device, which goes on, and comes back with queues of other sizes. */
function restart(): void {
  seen.restarts += 1;
  start();
  listen();
}

test("DeviceLink takes what is right and breaks with what is wrong, at random", () => {
  rig.device.ready();
  rig.settle();
  start();
  repeat((operation) => {
    if (seen.replies >= OPERATIONS) return;
    listen();
    if (random.oneIn(1000)) restart();
    if (random.oneIn(2000)) speakShort();
    else if (random.oneIn(20) && drawer.length > 0) speakLate();
    else if (random.oneIn(3)) speak();
    else for (let i = 0; i < CHAINS_AT_ONCE; i += 1) addChains();
    if (random.oneIn(2000)) {
      seen.deaths += 1;
      replace(random.oneIn(2));
    }
    if (operation % 64 !== 0) return;
    for (const queue of driver.queues) queue.checkGuards();
    rig.ram.checkFences();
  }, OPERATIONS * OPERATIONS_A_REPLY_MAX);
  assert.ok(seen.replies >= OPERATIONS, JSON.stringify(seen));
  assert.ok(seen.taken > 1000, JSON.stringify(seen));
  assert.ok(seen.completions > 1000, JSON.stringify(seen));
  assert.ok(seen.lies > 100, JSON.stringify(seen));
  assert.ok(seen.restarts > RESETS_TO_WRAP, JSON.stringify(seen));
  for (const count of Object.values(late)) assert.ok(count > 50, JSON.stringify(late));
  console.log(`NOTE ${JSON.stringify({ seen, late })}`);
  rig.close();
});

test.run();
