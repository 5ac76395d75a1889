import { test } from "uvu";
import * as assert from "uvu/assert";
import { clock, type DeviceUnderTest, file, openDevice } from "../../../host/testing/main.js";
import { pattern } from "../../runtime/support.js";
import {
  answerOf,
  ask,
  encode,
  example,
  FLUSH,
  GET_ID,
  IN,
  IOERR,
  OK,
  OUT,
  post,
  SECTOR_BYTES,
  UNSUPP,
} from "./blk.js";

type Options = Record<string, string | number>;

const SECTORS = 8;

function newImage() {
  return file(pattern(SECTORS * SECTOR_BYTES + 100));
}

function open(options: Options = {}, image = newImage()): DeviceUnderTest {
  const device = openDevice(example("flaky"), { image }, options);
  device.negotiate();
  return device;
}

/** The statuses of `count` requests of one type. */
function statuses(device: DeviceUnderTest, type: number, count: number): number[] {
  const request = { type, room: type === IN ? SECTOR_BYTES : 0 };
  const data = type === OUT ? pattern(SECTOR_BYTES) : new Uint8Array();
  return Array.from({ length: count }, () => ask(device, { ...request, data }).status);
}

function failed(found: number[]): number {
  return found.filter((status) => status === IOERR).length;
}

test("flaky is a disk as large as its image, in whole sectors, and can do without a clock", () => {
  const device = open();
  assert.is(new DataView(device.readConfig(0, 8).buffer).getBigUint64(0, true), BigInt(SECTORS));
  const [image, time] = device.manifest.capabilities;
  assert.equal([image?.required, time?.required], [true, false]);
  assert.throws(() => openDevice(example("flaky")), /image is missing/);
});

test("flaky without failures is an honest disk", () => {
  const image = newImage();
  const before = image.bytes.slice();
  const device = open({ rate: 0 }, image);
  const data = pattern(2 * SECTOR_BYTES, 77);
  assert.equal(ask(device, { type: OUT, sector: 6, data }).status, OK);
  assert.equal(ask(device, { type: FLUSH }).status, OK);
  const written = 6 * SECTOR_BYTES;
  before.set(data, written);
  assert.equal(image.bytes, before);
  const read = ask(device, { type: IN, sector: 1, room: 7 * SECTOR_BYTES });
  assert.is(read.status, OK);
  assert.equal(read.data, image.bytes.slice(SECTOR_BYTES, 8 * SECTOR_BYTES));
  assert.is(
    Buffer.from(ask(device, { type: GET_ID, room: 20 }).data).toString("utf8", 0, 6),
    "flaky\0",
  );
});

test("flaky fails as many of a thousand as it is told", () => {
  assert.is(failed(statuses(open({ rate: 0 }), IN, 200)), 0);
  assert.is(failed(statuses(open({ rate: 1000 }), IN, 200)), 200);
  const some = failed(statuses(open({ rate: 250 }), IN, 2000));
  assert.ok(Math.abs(some - 500) < 100, `${some} of 2000`);
});

test("flaky fails the types of requests that it is told, and never the others", () => {
  for (const [errors, expected] of [
    ["read", [20, 0, 0]],
    ["write", [0, 20, 0]],
    ["flush", [0, 0, 20]],
    ["flush+read", [20, 0, 20]],
    [undefined, [20, 20, 20]],
  ] as const) {
    const device = open({ rate: 1000, ...(errors === undefined ? {} : { errors }) });
    const found = [IN, OUT, FLUSH].map((type) => failed(statuses(device, type, 20)));
    assert.equal(found, expected, errors);
    assert.is(ask(device, { type: GET_ID, room: 20 }).status, OK);
    assert.is(ask(device, { type: 32 + IN }).status, UNSUPP);
  }
});

test("flaky fails the same requests for the same seed, and others for another", () => {
  const half = { rate: 500 };
  const device = open({ ...half, seed: 9 });
  const first = statuses(device, IN, 64);
  device.negotiate();
  assert.equal(statuses(device, IN, 64), first, "the next driver");
  assert.equal(statuses(open({ ...half, seed: 9 }), IN, 64), first, "another device");
  assert.not.equal(statuses(open({ ...half, seed: 10 }), IN, 64), first);
  assert.not.equal(statuses(open({ ...half, seed: 0 }), IN, 64), first);
});

test("flaky leaves the image alone, and the driver without data, when it fails", () => {
  const image = newImage();
  const before = image.bytes.slice();
  const device = open({ rate: 1000 }, image);
  ask(device, { type: OUT, data: new Uint8Array(SECTOR_BYTES) });
  assert.equal(image.bytes, before);
  assert.equal(ask(device, { type: IN, room: SECTOR_BYTES }).data, new Uint8Array(SECTOR_BYTES));
});

const MS = 1_000_000;

function slow(options: Options = {}) {
  const time = clock(5n);
  const grants = { image: newImage(), time };
  const device = openDevice(example("flaky"), grants, { latency: 20, rate: 0, ...options });
  device.negotiate();
  return { device, time };
}

test("flaky answers when it is time, one request after the other", () => {
  const { device, time } = slow();
  const first = post(device, { type: IN, sector: 2, room: SECTOR_BYTES });
  time.advance(15 * MS);
  const second = post(device, { type: FLUSH });
  time.advance(5 * MS - 1);
  assert.not.ok(first.done);
  time.advance(1);
  assert.ok(first.done);
  const { status, data } = answerOf(first);
  assert.equal([status, data], [OK, pattern(3 * SECTOR_BYTES).slice(2 * SECTOR_BYTES)]);
  time.advance(20 * MS - 1);
  assert.not.ok(second.done);
  time.advance(1);
  assert.ok(second.done);
});

test("flaky does not count a request again that it lets wait", () => {
  const quick = statuses(open({ rate: 500 }), IN, 20);
  const { device, time } = slow({ rate: 500 });
  const found = quick.map(() => {
    const posted = post(device, { type: IN, room: SECTOR_BYTES });
    for (let i = 0; i < 4; i++) time.advance(5 * MS);
    return answerOf(posted).status;
  });
  assert.equal(found, quick);
});

test("flaky starts a request's time anew for the next driver", () => {
  const { device, time } = slow();
  post(device, { type: FLUSH });
  time.advance(19 * MS);
  device.negotiate();
  const posted = post(device, { type: FLUSH });
  time.advance(19 * MS);
  assert.not.ok(posted.done);
  time.advance(MS);
  assert.ok(posted.done);
});

test("flaky says what is wrong with its options, and does not start", () => {
  for (const options of [
    { rate: 1001 },
    { errors: "reads" },
    { errors: "read+" },
    { latency: 20 },
  ]) {
    assert.throws(() => open(options), /^start: unreachable/, JSON.stringify(options));
  }
  assert.throws(() => slow({ latency: 3_600_001 }), /^start: unreachable/);
  slow({ latency: 3_600_000 });
});

test("flaky answers what is not on its disk with IOERR, and the image does not grow", () => {
  const image = newImage();
  const device = open({ rate: 0 }, image);
  const before = image.bytes.slice();
  for (const sector of [8, 2n ** 64n - 1n, 2n ** 55n]) {
    assert.is(ask(device, { type: IN, sector, room: SECTOR_BYTES }).status, IOERR);
    assert.is(ask(device, { type: OUT, sector, data: pattern(SECTOR_BYTES, 5) }).status, IOERR);
  }
  assert.is(ask(device, { type: OUT, data: pattern(100) }).status, IOERR);
  assert.equal(image.bytes, before);
});

test("flaky says IOERR when the image is shorter than it was", () => {
  const image = newImage();
  const device = open({ rate: 0 }, image);
  image.resize(SECTOR_BYTES);
  const { status, data } = ask(device, { type: IN, room: 2 * SECTOR_BYTES });
  assert.is(status, IOERR);
  assert.equal(data.slice(SECTOR_BYTES), new Uint8Array(SECTOR_BYTES));
});

test("flaky answers a request without a whole header, or room for a status, with nothing", () => {
  const { device } = slow();
  assert.is(device.request(0, encode({ type: IN }).subarray(0, 15), 513).length, 0);
  assert.is(device.request(0, encode({ type: OUT, data: pattern(512) })).length, 0);
});

test.run();
