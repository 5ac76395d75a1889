// Every kind of lie that a device can tell over its socket. A lie costs the device its channel;
// guest memory, rings and the rest of the machine stay as they were.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Mapping } from "../../host/ffi/memory.js";
import { sendDescriptor } from "../../host/ffi/scm.js";
import * as reg from "../../host/virtio/registers.js";
import { SENT } from "../../host/wire/channel.js";
import * as format from "../../host/wire/format.js";
import * as wire from "../../host/wire/message.js";
import { Rig } from "./rig.js";

/** A device that was asked for 8 bytes as id 0 and for 16 as id 1, and a queue that says so. */
function asked() {
  const rig = new Rig({ queueSizesMax: [8] }).start();
  const [queue] = rig.driver.queues;
  queue!.add({ writable: [3, 5] });
  queue!.add({ readable: [new Uint8Array(4)], writable: [16] });
  rig.driver.kick(queue!);
  rig.device.expect(format.REQUESTS);
  return { rig, device: rig.device, queue: queue! };
}

/** The device was found out by `why`, nothing was used, and nothing was written anywhere. */
function expectBroken({ rig, queue }: ReturnType<typeof asked>, why: RegExp): void {
  rig.expectBroken(why);
  assert.is(queue.deviceUsedIndex, 0);
  queue.checkGuards();
  assert.is(rig.driver.takeInterrupt(), reg.INT_CONFIG);
  rig.close();
}

const DATA = new Uint8Array(8).fill(0xdd);

test("DeviceLink breaks with a device that answers an id that was never given", () => {
  for (const id of [2, 7, 8, 0xffff, 0xffff_ffff]) {
    const all = asked();
    all.device.reply([{ id, data: DATA }]);
    expectBroken(all, /sent REPLIES with id \d+, which is not in flight/);
  }
});

test("DeviceLink breaks with a device that answers twice", () => {
  const { rig, device, queue } = asked();
  device.reply([{ id: 0, data: DATA }]);
  device.reply([{ id: 0, data: DATA }]);
  rig.expectBroken(/id 0, which is not in flight/);
  assert.is(queue.deviceUsedIndex, 1);
  rig.close();
});

test("DeviceLink breaks with a device that answers twice in one message", () => {
  const all = asked();
  all.device.reply([
    { id: 1, data: DATA },
    { id: 0, data: DATA },
    { id: 1, data: DATA },
  ]);
  expectBroken(all, /id 1 twice/);
});

test("DeviceLink breaks with a device that sends more bytes than the chain takes", () => {
  for (const bytes of [9, 4096, format.PAYLOAD_BYTES_MAX]) {
    const all = asked();
    all.device.reply([{ id: 0, data: new Uint8Array(bytes).fill(0xdd) }]);
    expectBroken(all, /bytes for id 0, which has room for 8/);
  }
});

test("DeviceLink breaks with a device whose pieces add up to more than the chain takes", () => {
  const all = asked();
  all.device.reply([{ id: 0, data: DATA.subarray(0, 5), flags: format.MORE }]);
  all.device.reply([{ id: 0, data: DATA.subarray(0, 4) }]);
  expectBroken(all, /4 bytes for id 0, which has room for 3/);
});

test("DeviceLink breaks with a device that sends a descriptor, whatever comes with it", () => {
  const bare = asked();
  sendDescriptor(bare.device.fd, 0);
  expectBroken(bare, /sent a descriptor/);
  const line = asked();
  const page = Mapping.anonymous(1);
  const { view, address } = page;
  view.setUint32(0, format.LOG, true);
  sendDescriptor(line.device.fd, 0, { address, bytes: format.HEADER_BYTES + 5 });
  expectBroken(line, /sent a descriptor/);
  page.close();
});

test("DeviceLink writes nothing of a message that is wrong in its last entry", () => {
  const all = asked();
  all.device.reply([
    { id: 1, data: DATA },
    { id: 0, data: new Uint8Array(9).fill(0xdd) },
  ]);
  expectBroken(all, /9 bytes for id 0/);
});

test("DeviceLink breaks with a device that claims more than it sends", () => {
  const all = asked();
  all.device.reply([{ id: 0, data: DATA.subarray(0, 4), bytes: 8 }]);
  expectBroken(all, /REPLIES with 4 bytes of payload where its entries say 8/);
});

test("DeviceLink breaks with a device that sends more than it claims", () => {
  for (const trailing of [1, 4096]) {
    const all = asked();
    all.device.reply([{ id: 0, data: DATA }], { trailing });
    expectBroken(all, /bytes of payload where its entries say 8/);
  }
});

test("DeviceLink breaks with a device whose sizes overflow 32 bits", () => {
  const all = asked();
  all.device.reply([
    { id: 0, bytes: 0xffff_ffff },
    { id: 1, data: DATA, bytes: 9 },
  ]);
  expectBroken(all, /a payload of 4294967304 bytes/);
});

test("DeviceLink breaks with a device that counts no, or too many entries", () => {
  for (const count of [0, format.BATCH_CHAINS_MAX + 1, 0x8000_0000, 0xffff_ffff]) {
    const all = asked();
    all.device.reply([{ id: 0 }], { count });
    expectBroken(all, new RegExp(`a count of ${count}`));
  }
});

test("DeviceLink breaks with a device that answers a queue that is not there", () => {
  for (const queue of [1, 0xffff_ffff]) {
    const all = asked();
    all.device.reply([{ id: 0, data: DATA }], { queue });
    expectBroken(all, /REPLIES of queue/);
  }
});

test("DeviceLink breaks with a device that answers on another queue than asked", () => {
  const rig = new Rig({ queueSizesMax: [8, 8] });
  rig.device.ready();
  rig.settle();
  const [first] = rig.driver.start({ queues: [{}, {}] });
  rig.device.expect(format.ACTIVATE);
  first!.add({ writable: [8] });
  rig.driver.kick(first!);
  rig.device.expect(format.REQUESTS);
  rig.device.reply([{ id: 0, data: DATA }], { queue: 1 });
  rig.expectBroken(/id 0, which is not in flight/);
  rig.close();
});

test("DeviceLink breaks with a device that answers a generation to come", () => {
  for (const ahead of [1, 1000]) {
    const all = asked();
    all.device.reply([{ id: 0, data: DATA }], { generation: all.device.generation + ahead });
    expectBroken(all, /generation \d+, which is to come/);
  }
});

test("DeviceLink checks the form of stale replies, and drops them unread", () => {
  const all = asked();
  const generation = all.device.generation;
  all.rig.driver.start();
  all.device.expect(format.RESET);
  all.device.reply([{ id: 0, data: DATA }], { generation });
  all.rig.settle();
  assert.equal(all.rig.broken, []);
  all.device.reply([{ id: 0, data: DATA }], { generation, trailing: 1 });
  all.rig.settle();
  assert.match(all.rig.broken.join(), /payload/);
  all.rig.close();
});

test("DeviceLink breaks with a device that uses unknown flags", () => {
  const all = asked();
  all.device.reply([{ id: 0, data: DATA, flags: 0x80 }]);
  expectBroken(all, /flags 0x80/);
});

test("DeviceLink breaks with a device whose piece is empty, or not alone", () => {
  const empty = asked();
  empty.device.reply([{ id: 0, flags: format.MORE }]);
  expectBroken(empty, /an empty piece/);
  const crowded = asked();
  crowded.device.reply([
    { id: 0, data: DATA.subarray(0, 1), flags: format.MORE },
    { id: 1, data: DATA },
  ]);
  expectBroken(crowded, /not alone/);
});

test("DeviceLink breaks with a device that answers before it was sent everything", () => {
  const rig = new Rig({ queueSizesMax: [8] }).start();
  const [queue] = rig.driver.queues;
  queue!.add({ readable: [new Uint8Array(format.CHAIN_BYTES_MAX)], writable: [8] });
  rig.driver.kick(queue!);
  assert.ok(rig.link.wantsWritable, "the socket takes all of it");
  assert.is(rig.device.expect(format.REQUESTS).entries[0]!.flags, format.MORE);
  rig.device.reply([{ id: 0, data: DATA }]);
  rig.expectBroken(/id 0, which is not in flight/);
  rig.close();
});

test("DeviceLink breaks with a new device that answers what only the last one was asked", () => {
  const { rig, queue } = asked();
  rig.device.close();
  rig.settle();
  rig.plug();
  rig.device.reply([{ id: 0, data: DATA }]);
  rig.expectBroken(/REPLIES before READY/);
  assert.is(queue.deviceUsedIndex, 0);
  rig.close();
});

test("DeviceLink breaks with a device that answers before READY", () => {
  const rig = new Rig();
  rig.device.reply([{ id: 0 }]);
  rig.expectBroken(/REPLIES before READY/);
  rig.close();
});

test("DeviceLink breaks with a device that answers, or is ready again, before approve()", () => {
  const lies = [(rig: Rig) => rig.device.reply([{ id: 0 }]), (rig: Rig) => rig.device.ready()];
  for (const lie of lies) {
    const rig = new Rig();
    rig.approves = false;
    rig.device.ready();
    rig.settle();
    lie(rig);
    rig.expectBroken(/REPLIES before READY|READY twice/);
    rig.close();
  }
});

test("DeviceLink breaks with a device that is ready twice", () => {
  const all = asked();
  all.device.ready();
  expectBroken(all, /READY twice/);
});

test("DeviceLink breaks with a device whose report is too long, or no JSON object", () => {
  const long = JSON.stringify({ a: "x".repeat(wire.READY_BYTES_MAX) });
  const binary = Uint8Array.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]);
  const features = ['{"withheld":-1}', '{"withheld":4294967296}', '{"withheld":"1"}'];
  for (const report of [long, "", "{", "[]", "null", "1", '"x"', binary, ...features]) {
    const rig = new Rig();
    rig.device.ready(report);
    rig.expectBroken(report === long ? /READY of \d+ bytes/ : /READY without a report/);
    assert.equal(rig.reports, []);
    rig.close();
  }
});

test("DeviceLink takes a report of READY_BYTES_MAX", () => {
  const rig = new Rig();
  const frame = JSON.stringify({ a: "" });
  rig.device.ready(JSON.stringify({ a: "x".repeat(wire.READY_BYTES_MAX - frame.length) }));
  rig.settle();
  assert.equal(rig.broken, []);
  assert.is(rig.reports.length, 1);
  rig.close();
});

test("DeviceLink breaks with a device that logs a line above LOG_BYTES_MAX", () => {
  const rig = new Rig();
  rig.device.log("x".repeat(wire.LOG_BYTES_MAX));
  rig.settle();
  assert.is(rig.log.length, 1);
  rig.device.log("x".repeat(wire.LOG_BYTES_MAX + 1));
  rig.expectBroken(/LOG of 1025 bytes/);
  rig.close();
});

test("DeviceLink breaks with a device that sends a type that is not its to send", () => {
  for (const type of [
    0,
    format.ACTIVATE,
    format.RESET,
    format.REQUESTS,
    format.CONFIGURE,
    format.WAKE,
    21,
    0xffff_ffff,
  ]) {
    const all = asked();
    all.device.send([type]);
    expectBroken(all, new RegExp(`a message of unknown type ${type}`));
  }
});

test("DeviceLink breaks with a device that sends less than a header", () => {
  const all = asked();
  all.device.channel.outgoing.set([format.REPLIES, 0, 1, all.device.generation]);
  assert.is(all.device.sendShort(100), SENT);
  expectBroken(all, /a message of 100 bytes/);
});

test("DeviceLink hears no more of a device that lied, until a new one is attached", () => {
  const all = asked();
  all.device.send([99]);
  all.rig.settle();
  all.device.log("still here");
  assert.is(all.rig.link.onReadable(), false);
  assert.is(all.rig.log.length, 1);

  const [fresh] = all.rig.driver.start();
  fresh!.add({ writable: [1] });
  all.rig.driver.kick(fresh!);
  all.rig.plug();
  all.rig.device.ready();
  all.rig.settle();
  all.rig.device.expect(format.ACTIVATE);
  all.rig.device.expect(format.REQUESTS);
  all.rig.close();
});

test("DeviceLink takes an empty message for the end of a device", () => {
  const all = asked();
  assert.is(all.device.sendShort(0), SENT);
  all.rig.settle();
  assert.is(all.rig.closed, 1);
  all.rig.close();
});

test("DeviceLink breaks with a device that is idle at length", () => {
  const rig = new Rig().start();
  rig.device.send([format.IDLE], new Uint8Array(1));
  rig.expectBroken(/IDLE of 1041 bytes/);
  rig.close();
});

test.run();
