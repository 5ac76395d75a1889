import { test } from "uvu";
import * as assert from "uvu/assert";
import { type DeviceUnderTest, listener, openDevice, socket } from "../../../host/testing/main.js";
import { example } from "./blk.js";

const EVENTQ = 0;
const STATUSQ = 1;
const EVENT_BYTES = 8;

/** Of linux/input-event-codes.h: type, code, value. */
const SYN = [0, 0, 0];
const PRESS = 1;
const RELEASE = 0;
const LEFTSHIFT = 42;
const A = 30;
const B = 48;

function key(code: number, value: number): number[] {
  return [1, code, value];
}

/** What a driver is told of a key without Shift. */
function typed(code: number): number[][] {
  return [key(code, PRESS), SYN, key(code, RELEASE), SYN];
}

function typedWithShift(code: number): number[][] {
  const [press, release] = [PRESS, RELEASE].map((value) => key(LEFTSHIFT, value));
  return [press!, key(code, PRESS), SYN, key(code, RELEASE), release!, SYN];
}

function listening() {
  const typist = listener();
  const device = openDevice(example("keyboard"), { typist });
  device.negotiate();
  return { device, typist };
}

function offer(device: DeviceUnderTest, count: number) {
  return Array.from({ length: count }, () => device.post(EVENTQ, "", EVENT_BYTES));
}

/** The events in those of the buffers that the device used. */
function eventsIn(buffers: ReturnType<typeof offer>): number[][] {
  const used = buffers.filter(({ done }) => done).map(({ reply }) => reply);
  return used.map(({ buffer }) => {
    const view = new DataView(buffer);
    return [view.getUint16(0, true), view.getUint16(2, true), view.getInt32(4, true)];
  });
}

function select(device: DeviceUnderTest, selector: number, subselector = 0): Uint8Array {
  device.writeConfig(0, selector);
  device.writeConfig(1, subselector);
  return device.readConfig(8, device.readConfig(2, 1)[0]);
}

test("keyboard tells what it is, and which keys it has (§5.8.2)", () => {
  const { device } = listening();
  assert.is(device.manifest.virtioId, 18);
  assert.is(Buffer.from(select(device, 1)).toString(), "Bulkhead keyboard");
  assert.equal([...select(device, 3)], [6, 0, 0, 0, 0, 0, 0, 0]);
  const bits = select(device, 0x11, 1);
  const codes = [...Array(bits.length * 8).keys()].filter((c) => (bits[c >> 3]! >> (c & 7)) & 1);
  const range = (from: number, to: number) => [...Array(to - from + 1).keys()].map((i) => from + i);
  assert.equal(codes, [...range(2, 13), ...range(15, 28), ...range(30, 53), 57]);
});

test("keyboard has nothing to say to other selectors, and forgets a selection at a reset", () => {
  const { device } = listening();
  for (const [selector, subselector] of [
    [0, 0],
    [2, 0],
    [0x10, 0],
    [0x11, 0],
    [0x11, 2],
    [0x12, 0],
    [255, 255],
  ] as const) {
    select(device, 1);
    assert.is(select(device, selector, subselector).length, 0);
    assert.equal(device.readConfig(8), new Uint8Array(128));
  }
  select(device, 1);
  device.negotiate();
  assert.equal(device.readConfig(), new Uint8Array(136));
});

test("keyboard lets its driver select and nothing else", () => {
  const { device } = listening();
  select(device, 1);
  const before = device.readConfig();
  for (const [offset, bytes] of [
    [2, 1],
    [1, 2],
    [0, 4],
    [8, 4],
    [135, 1],
  ] as const) {
    device.writeConfig(offset, 0xffff_ffff, bytes);
    assert.equal(device.readConfig(), before, `${bytes} at ${offset}`);
  }
  device.writeConfig(0, 3, 2);
  assert.is(device.readConfig(2, 1)[0], 8, "both selectors at once");
});

test("keyboard tells each byte as a key that is pressed and released", () => {
  const { device, typist } = listening();
  const buffers = offer(device, 10);
  assert.equal(eventsIn(buffers), []);
  const peer = typist.connect();
  assert.equal(eventsIn(buffers), []);
  peer.push("a");
  assert.equal(eventsIn(buffers), typed(A));
  peer.push("B");
  assert.equal(eventsIn(buffers), [...typed(A), ...typedWithShift(B)]);
});

test("keyboard has a key for all that can be typed, and ignores the rest", () => {
  const { device, typist } = listening();
  const all = String.fromCharCode(...Array.from({ length: 95 }, (_, i) => 32 + i));
  const peer = typist.connect();
  peer.push(`\0\x7f\xff${all}\n\t`);
  const pressed = new Set<string>();
  let shift = 0;
  for (let events = eventsIn(offer(device, 1)); events.length > 0; ) {
    const [type, code, value] = events[0]!;
    if (type === 1 && code === LEFTSHIFT) shift = value!;
    else if (type === 1 && value === PRESS) pressed.add(`${shift} ${code}`);
    events = eventsIn(offer(device, 1));
  }
  assert.is(pressed.size, all.length + 2, "two bytes are one key, or one is none");
});

test("keyboard reads no further than its driver listens", () => {
  const { device, typist } = listening();
  const peer = typist.connect();
  peer.push("ab");
  assert.equal(eventsIn(offer(device, 5)), [...typed(A), key(B, PRESS)]);
  assert.equal(eventsIn(offer(device, 4)), typed(B).slice(1));
});

test("keyboard serves one after the other who connect, and all of what each typed", () => {
  const { device, typist } = listening();
  const buffers = offer(device, 16);
  const [first, second] = [typist.connect(), typist.connect()];
  second.push("b");
  first.push("a");
  assert.equal(eventsIn(buffers), typed(A));
  first.end();
  assert.ok(first.closed);
  assert.equal(eventsIn(buffers), [...typed(A), ...typed(B)]);
  second.end();
  typist.connect().push("a");
  assert.equal(eventsIn(buffers), [...typed(A), ...typed(B), ...typed(A)]);
});

test("keyboard that was connected by the user goes silent when its peer is gone", () => {
  const typist = socket();
  const device = openDevice(example("keyboard"), { typist });
  device.negotiate();
  const buffers = offer(device, 6);
  typist.push("a");
  typist.end();
  assert.equal(eventsIn(buffers), typed(A));
  assert.equal(eventsIn(offer(device, 1)), []);
});

test("keyboard does not tell a driver of what another one was told half of", () => {
  const { device, typist } = listening();
  const peer = typist.connect();
  peer.push("AA");
  assert.equal(eventsIn(offer(device, 2)), typedWithShift(A).slice(0, 2));
  device.negotiate();
  const buffers = offer(device, 4);
  assert.equal(eventsIn(buffers), []);
  peer.push("b");
  assert.equal(eventsIn(buffers), typed(B));
});

test("keyboard takes what the driver says of LEDs, and answers odd requests with nothing", () => {
  const { device, typist } = listening();
  typist.connect().push("a");
  assert.is(device.request(STATUSQ, Uint8Array.of(0x11, 0, 1, 0, 1, 0, 0, 0)).length, 0);
  assert.is(device.request(STATUSQ, "", EVENT_BYTES).length, 0);
  assert.is(device.request(EVENTQ, "", EVENT_BYTES - 1).length, 0);
  assert.is(device.request(EVENTQ, "an event of the driver's").length, 0);
  const [long] = [device.post(EVENTQ, "", 100)];
  assert.is(long.reply.length, EVENT_BYTES);
  assert.equal(eventsIn([long]), [key(A, PRESS)]);
});

test.run();
