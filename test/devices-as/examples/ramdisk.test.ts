import { test } from "uvu";
import * as assert from "uvu/assert";
import { type DeviceUnderTest, openDevice } from "../../../host/testing/main.js";
import { pattern } from "../../runtime/support.js";
import {
  ask,
  encode,
  example,
  FLUSH,
  GET_ID,
  IN,
  IOERR,
  OK,
  OUT,
  SECTOR_BYTES,
  UNSUPP,
} from "./blk.js";

const MODULE = example("ramdisk");
const REQUESTQ = 0;
const SIZE = 8 * SECTOR_BYTES;

function open(options: Record<string, string | number> = { size: SIZE }): DeviceUnderTest {
  const device = openDevice(MODULE, {}, options);
  device.negotiate();
  return device;
}

test("ramdisk asks for no capability", () => {
  const { manifest } = open();
  assert.equal([manifest.virtioId, manifest.capabilities], [2, []]);
});

test("ramdisk is as large as the user says, 1 MiB if he does not", () => {
  const capacityOf = (device: DeviceUnderTest) =>
    new DataView(device.readConfig(0, 8).buffer).getBigUint64(0, true);
  assert.is(capacityOf(open()), 8n);
  assert.is(capacityOf(open({})), 2048n);
  assert.is(capacityOf(open({ size: "12M" })), 24576n);
});

test("ramdisk refuses a size that it has no memory for, or that is no whole sectors", () => {
  for (const size of [12 * 1024 * 1024 + SECTOR_BYTES, 1000, 2n ** 63n]) {
    assert.throws(() => openDevice(MODULE, {}, { size }), /start: unreachable/);
  }
});

test("ramdisk tells a driver to ask for no more than a chain may have (§5.2.4)", () => {
  const config = new DataView(open().readConfig().buffer);
  const [sizeMax, segMax] = [config.getUint32(8, true), config.getUint32(12, true)];
  assert.ok(16 + sizeMax * segMax + 1 <= 1024 * 1024);
  const device = open({ size: "4M" });
  const data = pattern(sizeMax * segMax);
  assert.is(ask(device, { type: OUT, sector: 1, data }).status, OK);
  const read = ask(device, { type: IN, sector: 1, room: data.length });
  assert.is(read.status, OK);
  assert.equal(Buffer.compare(read.data, data), 0);
});

test("ramdisk reads zeros, then what was written, up to its last sector", () => {
  const device = open();
  assert.equal(ask(device, { type: IN, room: SIZE }).data, new Uint8Array(SIZE));
  const data = pattern(2 * SECTOR_BYTES);
  assert.is(ask(device, { type: OUT, sector: 6, data }).status, OK);
  assert.is(ask(device, { type: FLUSH }).status, OK);
  const { status, data: all } = ask(device, { type: IN, room: SIZE });
  assert.is(status, OK);
  assert.equal(all, Uint8Array.from([...new Uint8Array(6 * SECTOR_BYTES), ...data]));
});

test("ramdisk keeps its contents when the driver resets it", () => {
  const device = open();
  const data = pattern(SECTOR_BYTES);
  ask(device, { type: OUT, data });
  device.negotiate();
  assert.equal(ask(device, { type: IN, room: SECTOR_BYTES }).data, data);
});

test("ramdisk has a name of 20 bytes (§5.2.6)", () => {
  const { status, data } = ask(open(), { type: GET_ID, room: 20 });
  assert.is(status, OK);
  assert.is(Buffer.from(data).toString(), "ramdisk".padEnd(20, "\0"));
  assert.is(ask(open(), { type: GET_ID, room: 19 }).status, IOERR);
});

test("ramdisk answers types that it does not know with UNSUPP (§5.2.6.2)", () => {
  for (const type of [2, 11, 13, 0xffff_ffff]) {
    const { status, data } = ask(open(), { type, room: 30 });
    assert.equal([status, data], [UNSUPP, new Uint8Array(30)]);
  }
});

test("ramdisk answers what is not on it, or no whole sectors, with IOERR, and goes on", () => {
  const device = open();
  const mine = pattern(SECTOR_BYTES);
  ask(device, { type: OUT, data: mine });
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
  assert.equal(ask(device, { type: IN, room: SECTOR_BYTES }).data, mine);
});

test("ramdisk answers a request without a whole header, or room for a status, with nothing", () => {
  const device = open();
  assert.is(device.request(REQUESTQ, encode({ type: IN }).subarray(0, 15), 513).length, 0);
  assert.is(device.request(REQUESTQ, encode({ type: OUT, data: pattern(512) })).length, 0);
  assert.is(device.request(REQUESTQ).length, 0);
  assert.equal(ask(device, { type: IN, room: 512 }).data, new Uint8Array(512));
});

test("ramdisk answers a read without room for data with its status", () => {
  assert.equal(ask(open(), { type: IN }), { status: OK, data: new Uint8Array() });
});

test.run();
