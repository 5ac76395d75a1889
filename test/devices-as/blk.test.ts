import { test } from "uvu";
import * as assert from "uvu/assert";
import { wasiErrno } from "../../host/runtime/errno.js";
import {
  type DeviceTrap,
  type DeviceUnderTest,
  file,
  MemoryFile,
  openDevice,
} from "../../host/testing/main.js";
import { pattern } from "../runtime/support.js";
import {
  ask,
  encode,
  FLUSH,
  GET_ID,
  IN,
  IOERR,
  OK,
  OUT,
  SECTOR_BYTES,
  UNSUPP,
} from "./examples/blk.js";

const MODULE = new URL("../../devices/blk.debug.wasm", import.meta.url);
const REQUESTQ = 0;
const DISCARD = 11;
const WRITE_ZEROES = 13;
const SECTORS = 8;
const SIZE = SECTORS * SECTOR_BYTES;

const RO = 1n << 5n;
const FLUSH_FEATURE = 1n << 9n;
const CONFIG_WCE = 1n << 11n;
const MQ = 1n << 12n;
const ON_WRITABLE = (1n << 13n) | (1n << 14n);
const ALL = 0x7e66n;
const WRITEBACK = 32;

type Options = Record<string, string | number | true>;

/** A device whose image is `image`, with a driver that took all features. */
function open(image: MemoryFile, options: Options = {}): DeviceUnderTest {
  const device = openDevice(MODULE, { image }, options);
  device.negotiate();
  return device;
}

/** The segments of a discard, or of zeros to write. */
function segments(...all: { sector: number | bigint; sectors: number; flags?: number }[]) {
  const bytes = Buffer.alloc(16 * all.length);
  for (const [i, { sector, sectors, flags = 0 }] of all.entries()) {
    bytes.writeBigUInt64LE(BigInt(sector), 16 * i);
    bytes.writeUInt32LE(sectors, 16 * i + 8);
    bytes.writeUInt32LE(flags, 16 * i + 12);
  }
  return bytes;
}

/** A file whose disk fails: what is not undefined is the errno of the call. */
class Failing extends MemoryFile {
  writes: string | undefined;
  syncing: string | undefined;

  override put(from: Uint8Array, offset: number): number {
    if (this.writes === undefined || from.length === 0) return super.put(from, offset);
    return -wasiErrno(this.writes);
  }

  override sync(): number {
    return this.syncing === undefined ? super.sync() : -wasiErrno(this.syncing);
  }
}

test("blk offers what its image allows (§5.2.3)", () => {
  const features = (image: MemoryFile, options: Options = {}) =>
    openDevice(MODULE, { image }, options).negotiate();
  assert.is(features(file(SIZE)), ALL & ~(RO | MQ));
  assert.is(features(file(SIZE), { queues: 2 }), ALL & ~RO);
  assert.is(features(file(SIZE, "ro")), ALL & ~(MQ | ON_WRITABLE));
});

test("blk describes its disk in the config space (§5.2.4)", () => {
  const options = { queues: 4, block: 1024, physical: 4096 };
  const config = Buffer.from(open(file(SIZE), options).readConfig());
  assert.is(config.length, 60);
  assert.is(config.readBigUInt64LE(0), 8n, "capacity, in sectors of 512 bytes");
  const sizes = config.readUInt32LE(8) * config.readUInt32LE(12);
  assert.ok(16 + sizes + 1 <= 1024 * 1024, "the largest request is not cut");
  assert.is(config.readUInt32LE(20), 1024, "blk_size");
  assert.equal([config[24], config[25], config.readUInt16LE(26)], [2, 0, 4], "topology");
  assert.is(config[WRITEBACK], 1);
  assert.is(config.readUInt16LE(34), 4, "num_queues");
  assert.equal([config.readUInt32LE(36), config.readUInt32LE(48)], [32768, 32768]);
  assert.equal([config.readUInt32LE(40), config.readUInt32LE(52), config[56]], [16, 1, 1]);
});

test("blk serves each of its queues", () => {
  const device = open(file(pattern(SIZE)), { queues: 8 });
  for (let queue = 0; queue < 8; queue++) {
    const reply = device.request(queue, encode({ type: IN, sector: queue }), SECTOR_BYTES + 1);
    const sector = pattern(SIZE).subarray(queue * SECTOR_BYTES, (queue + 1) * SECTOR_BYTES);
    assert.equal(reply, Uint8Array.from([...sector, OK]));
  }
});

test("blk reads what is in its image, and writes to it", () => {
  const image = file(pattern(SIZE));
  const device = open(image);
  const data = pattern(2 * SECTOR_BYTES, 7);
  assert.is(ask(device, { type: OUT, sector: 6, data }).status, OK);
  assert.equal(image.bytes.subarray(6 * SECTOR_BYTES), data);
  const { status, data: all } = ask(device, { type: IN, room: SIZE });
  assert.is(status, OK);
  const expected = [...pattern(SIZE).subarray(0, 6 * SECTOR_BYTES), ...data];
  assert.equal(all, Uint8Array.from(expected));
  assert.is(image.bytes.length, SIZE);
});

test("blk makes what is zeroed zero, and leaves alone what is discarded", () => {
  const image = file(pattern(SIZE));
  const device = open(image);
  const zeroed = segments({ sector: 2, sectors: 3, flags: 1 });
  assert.is(ask(device, { type: WRITE_ZEROES, data: zeroed }).status, OK);
  const discarded = segments({ sector: 0, sectors: 1 }, { sector: 6, sectors: 2 });
  assert.is(ask(device, { type: DISCARD, data: discarded }).status, OK);
  const expected = pattern(SIZE);
  expected.fill(0, 2 * SECTOR_BYTES, 5 * SECTOR_BYTES);
  assert.equal(image.bytes, expected);
});

test("blk makes more zero than it has zeros", () => {
  const size = 2 * 1024 * 1024;
  const image = file(pattern(size));
  const data = segments({ sector: 1, sectors: size / SECTOR_BYTES - 2 });
  assert.is(ask(open(image), { type: WRITE_ZEROES, data }).status, OK);
  assert.is(image.bytes.indexOf(0), pattern(SECTOR_BYTES).indexOf(0));
  assert.ok(image.bytes.subarray(SECTOR_BYTES, -SECTOR_BYTES).every((byte) => byte === 0));
  assert.equal(image.bytes.slice(-SECTOR_BYTES), pattern(size).slice(-SECTOR_BYTES));
});

for (const [what, data, status] of [
  ["a discard that unmaps", segments({ sector: 0, sectors: 1, flags: 1 }), UNSUPP],
  ["zeros with flags that nobody knows", segments({ sector: 0, sectors: 1, flags: 2 }), UNSUPP],
  ["no segment", segments(), IOERR],
  ["half a segment", segments({ sector: 0, sectors: 1 }).subarray(8), IOERR],
  ["too many segments", segments(...new Array(17).fill({ sector: 0, sectors: 1 })), IOERR],
  ["what is beyond the end", segments({ sector: 8, sectors: 1 }), IOERR],
  ["what ends beyond the end", segments({ sector: 7, sectors: 2 }), IOERR],
  ["a sector that wraps around", segments({ sector: 2n ** 64n - 1n, sectors: 2 }), IOERR],
  ["a sector that is one in 32 bits", segments({ sector: 2n ** 55n, sectors: 1 }), IOERR],
  ["all sectors that there could be", segments({ sector: 0, sectors: 0xffff_ffff }), IOERR],
] as const) {
  test(`blk refuses ${what}`, () => {
    const image = file(pattern(SIZE));
    const type = what.startsWith("zeros") ? WRITE_ZEROES : DISCARD;
    assert.is(ask(open(image), { type, data }).status, status);
    if (status === IOERR) assert.is(ask(open(image), { type: WRITE_ZEROES, data }).status, status);
    assert.equal(image.bytes, pattern(SIZE));
  });
}

test("blk answers what is not on it, or no whole sectors, with IOERR, and goes on", () => {
  const image = file(pattern(SIZE));
  const device = open(image);
  // The last three would be sector 0 in 32 bits, or once they were multiplied by 512.
  for (const sector of [8, 2n ** 64n - 1n, 2n ** 32n, 2n ** 55n, 2n ** 23n]) {
    const read = ask(device, { type: IN, sector, room: SECTOR_BYTES });
    assert.equal([read.status, read.data], [IOERR, new Uint8Array(SECTOR_BYTES)], `${sector}`);
    const data = new Uint8Array(SECTOR_BYTES);
    assert.is(ask(device, { type: OUT, sector, data }).status, IOERR);
  }
  assert.is(ask(device, { type: IN, sector: 7, room: 2 * SECTOR_BYTES }).status, IOERR);
  assert.is(ask(device, { type: IN, room: 100 }).status, IOERR);
  assert.is(ask(device, { type: OUT, data: pattern(513) }).status, IOERR);
  assert.equal(image.bytes, pattern(SIZE));
  assert.is(ask(device, { type: IN, room: SIZE }).status, OK);
});

test("blk answers requests in the wrong direction with IOERR", () => {
  const image = file(pattern(SIZE));
  const device = open(image);
  const data = new Uint8Array(SECTOR_BYTES);
  assert.is(ask(device, { type: IN, data, room: SECTOR_BYTES }).status, IOERR);
  assert.is(ask(device, { type: OUT, data, room: SECTOR_BYTES }).status, IOERR);
  const zeroes = segments({ sector: 0, sectors: 1 });
  assert.is(ask(device, { type: WRITE_ZEROES, data: zeroes, room: 1 }).status, IOERR);
  assert.equal(image.bytes, pattern(SIZE));
});

test("blk takes whole blocks only, where they are larger than a sector", () => {
  const device = open(file(pattern(4 * 4096)), { block: 4096 });
  assert.is(ask(device, { type: IN, sector: 8, room: 4096 }).status, OK);
  assert.is(ask(device, { type: IN, sector: 8, room: 512 }).status, IOERR);
  assert.is(ask(device, { type: IN, sector: 1, room: 4096 }).status, IOERR);
});

test("blk answers a short header with IOERR, and nothing where there is room for nothing", () => {
  const device = open(file(SIZE));
  const short = device.request(REQUESTQ, encode({ type: IN }).subarray(0, 15), 513);
  assert.equal([short.length, short.at(-1)], [513, IOERR]);
  assert.is(device.request(REQUESTQ, encode({ type: OUT, data: pattern(512) })).length, 0);
  assert.is(ask(device, { type: IN, room: 512 }).status, OK);
});

test("blk has the serial number that the user gives it (§5.2.6)", () => {
  const named = open(file(SIZE), { serial: "disk-0123456789-abcd" });
  const id = ask(named, { type: GET_ID, room: 20 });
  assert.equal([id.status, Buffer.from(id.data).toString()], [OK, "disk-0123456789-abcd"]);
  assert.is(ask(named, { type: GET_ID, room: 19 }).status, IOERR);
  assert.equal(ask(open(file(SIZE)), { type: GET_ID, room: 20 }).data, new Uint8Array(20));
});

test("blk answers types that it does not know, or did not offer, with UNSUPP", () => {
  const device = open(file(SIZE));
  for (const type of [2, 10, 14, 0xffff_ffff]) {
    assert.is(ask(device, { type, room: 30 }).status, UNSUPP);
  }
  device.negotiate(0n);
  const data = segments({ sector: 0, sectors: 1 });
  assert.is(ask(device, { type: DISCARD, data }).status, UNSUPP);
  assert.is(ask(device, { type: WRITE_ZEROES, data }).status, UNSUPP);
  assert.is(ask(device, { type: FLUSH }).status, UNSUPP);
});

test("blk does not write to an image that is granted for reading", () => {
  const image = file(pattern(SIZE), "ro");
  const device = open(image);
  assert.is(ask(device, { type: OUT, data: new Uint8Array(512) }).status, IOERR);
  const data = segments({ sector: 0, sectors: 1 });
  assert.is(ask(device, { type: WRITE_ZEROES, data }).status, UNSUPP);
  assert.is(ask(device, { type: FLUSH }).status, OK);
  assert.equal(ask(device, { type: IN, room: SIZE }).data, pattern(SIZE));
  assert.equal(image.bytes, pattern(SIZE));
});

test("blk waits for the disk with a flush, and with each write when told so (§5.2.6.2)", () => {
  const image = file(SIZE);
  const device = open(image);
  const write = () => ask(device, { type: OUT, data: new Uint8Array(512) }).status;
  assert.equal([write(), image.syncs], [OK, 0]);
  assert.equal([ask(device, { type: FLUSH }).status, image.syncs], [OK, 1]);
  device.writeConfig(WRITEBACK, 0);
  assert.equal([device.readConfig(WRITEBACK, 1)[0], image.syncs], [0, 2], "what was before, too");
  assert.equal([write(), image.syncs], [OK, 3]);
  device.writeConfig(WRITEBACK, 1);
  assert.equal([write(), image.syncs], [OK, 3]);
  device.writeConfig(WRITEBACK, 2);
  device.writeConfig(WRITEBACK - 1, 1);
  assert.equal([...device.readConfig(WRITEBACK - 1, 2)], [0, 1]);
});

test("blk waits for the disk with each write of a driver that cannot flush", () => {
  const image = file(SIZE);
  const device = open(image);
  device.negotiate(0n);
  ask(device, { type: OUT, data: new Uint8Array(512) });
  assert.is(image.syncs, 1);
  device.negotiate(CONFIG_WCE);
  ask(device, { type: OUT, data: new Uint8Array(512) });
  assert.is(image.syncs, 1, "this one has a cache that it can turn off");
  device.negotiate(FLUSH_FEATURE);
  device.writeConfig(WRITEBACK, 0);
  assert.is(device.readConfig(WRITEBACK, 1)[0], 1, "this one has no such thing");
});

test("blk turns errors of the host's disk into IOERR and a line of the log", () => {
  const image = new Failing(pattern(SIZE));
  const device = open(image);
  for (const [errno, why] of [
    ["NOSPC", /writing at byte 1024 failed: ENOSPC: the host's disk is full/],
    ["IO", /EIO/],
    ["FBIG", /EFBIG/],
  ] as const) {
    image.writes = errno;
    assert.is(ask(device, { type: OUT, sector: 2, data: pattern(512) }).status, IOERR);
    assert.match(device.log.at(-1)!, why);
    const data = segments({ sector: 0, sectors: 1 });
    assert.is(ask(device, { type: WRITE_ZEROES, data }).status, IOERR);
  }
  image.writes = undefined;
  assert.is(ask(device, { type: OUT, data: pattern(512) }).status, OK);
});

test("blk reads no further than an image goes that somebody made shorter", () => {
  const image = file(pattern(SIZE));
  const device = open(image);
  image.resize(700);
  const { status, data } = ask(device, { type: IN, sector: 1, room: 512 });
  assert.is(status, IOERR);
  assert.equal(data.subarray(188), new Uint8Array(324));
  assert.match(device.log.at(-1)!, /reading at byte 700 failed: the file ends before that/);
});

test("blk calls no flush a success after one has failed", () => {
  const image = new Failing(pattern(SIZE));
  const device = open(image);
  image.syncing = "IO";
  assert.is(ask(device, { type: FLUSH }).status, IOERR);
  assert.match(device.log.at(-1)!, /flushing at byte 0 failed: EIO/);
  image.syncing = undefined;
  assert.is(ask(device, { type: FLUSH }).status, IOERR, "what was to be flushed may be lost");
  device.writeConfig(WRITEBACK, 0);
  assert.is(device.readConfig(WRITEBACK, 1)[0], 1);
  device.negotiate(0n);
  assert.is(ask(device, { type: OUT, data: pattern(512) }).status, IOERR);
});

for (const [options, why] of [
  [{ serial: "x".repeat(21) }, "serial: at most 20 characters"],
  [{ serial: "a b" }, "serial: ASCII without spaces only"],
  [{ queues: 0 }, "queues: 1 to 8"],
  [{ queues: 9 }, "queues: 1 to 8"],
  [{ block: 513 }, "block: 512, 1024, 2048 or 4096"],
  [{ block: 8192 }, "block: 512, 1024, 2048 or 4096"],
  [{ block: 4096, physical: 512 }, "physical: not smaller than block"],
  [{ format: "vmdk" }, "format: "],
] as [Options, string][]) {
  test(`blk refuses ${JSON.stringify(options)}`, () => {
    const lines = refusal({ image: file(2 * 4096) }, options);
    assert.ok(lines.includes(why), lines);
  });
}

/** What a device says that does not start. */
function refusal(grants: Record<string, MemoryFile>, options: Options = {}): string {
  try {
    openDevice(MODULE, grants, options);
  } catch (error) {
    return (error as DeviceTrap).log.join("\n");
  }
  throw new Error("it started");
}

test("blk refuses an image that is no whole blocks, and says how it becomes so", () => {
  assert.match(
    refusal({ image: file(1000) }),
    /1000 bytes are not in blocks of 512, truncate -s %512/,
  );
  assert.match(refusal({ image: file(512) }, { block: 4096 }), /512 bytes.*blocks of 4096/);
  assert.match(refusal({ image: file(0) }), /image: it is empty/);
});

test("blk does not take a raw image for what a guest made it look like", () => {
  const image = file(SIZE);
  const header = Uint8Array.from([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3, ...new Uint8Array(504)]);
  ask(open(image), { type: OUT, data: header });
  const { data } = ask(open(image), { type: IN, room: 512 });
  assert.equal(data, header);
});

test.run();
