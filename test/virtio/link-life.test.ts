// Starts, resets, full sockets and deaths: the life of a link whose ends keep the rules.

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { MockQueue } from "../../host/testing/mock-queue.js";
import { MockRam } from "../../host/testing/mock-ram.js";
import * as reg from "../../host/virtio/registers.js";
import { ACTIVATE, MORE, PAYLOAD_BYTES_MAX, REQUESTS, RESET } from "../../host/wire/format.js";
import { bytes, Rig, running } from "./rig.js";

const VERSION_1 = 1n << reg.VIRTIO_F_VERSION_1;

// Start, reset, features

test("DeviceLink passes READY on, and says nothing to the device before DRIVER_OK", () => {
  const rig = new Rig();
  rig.device.ready('{"seccomp":2}');
  rig.settle();
  assert.equal(rig.reports, [{ seccomp: 2, withheld: 0 }]);
  assert.is(rig.device.receive(), undefined);
  rig.close();
});

test("DeviceLink sends nothing before approve(), and everything once after it", () => {
  const rig = new Rig();
  rig.approves = false;
  rig.link.approve();
  const [queue] = rig.driver.start();
  queue!.add({ writable: [1] });
  rig.driver.kick(queue!);
  rig.device.ready();
  rig.settle();
  assert.is(rig.reports.length, 1);
  assert.is(rig.device.receive(), undefined);
  rig.link.approve();
  rig.link.approve();
  rig.device.expect(ACTIVATE);
  rig.device.expect(REQUESTS);
  assert.is(rig.device.receive(), undefined);
  rig.close();
});

test("DeviceLink.answered counts what the device attached last has answered", () => {
  const { rig, driver, device, queue } = running();
  for (let i = 0; i < 2; i += 1) queue.add({ writable: [1] });
  driver.kick(queue);
  device.expect(REQUESTS);
  assert.is(rig.link.answered, 0);
  device.reply([{ id: 1 }]);
  rig.settle();
  assert.is(rig.link.answered, 1);
  rig.device.close();
  rig.settle();
  assert.is(rig.link.answered, 1, "it is asked for when the device is gone");
  rig.plug();
  assert.is(rig.link.answered, 0);
  rig.close();
});

test("DeviceLink sends nothing before READY, and ACTIVATE and what waits after it", () => {
  const rig = new Rig();
  const [queue] = rig.driver.start();
  queue!.add({ writable: [1] });
  rig.driver.kick(queue!);
  assert.is(rig.device.receive(), undefined);
  rig.device.ready();
  rig.settle();
  rig.device.expect(ACTIVATE);
  assert.is(rig.device.expect(REQUESTS).count, 1);
  rig.close();
});

test("DeviceLink tells the device its own features of those that were accepted", () => {
  const rig = new Rig({ features: (1n << 52n) | 0b11n });
  rig.device.ready();
  rig.settle();
  rig.driver.start({ features: VERSION_1 | (1n << 52n) | 1n });
  const { payload } = rig.device.expect(ACTIVATE);
  assert.is(payload.length, 8);
  assert.is(new DataView(payload.buffer).getBigUint64(0, true), (1n << 52n) | 1n);
  rig.close();
});

test("DeviceLink takes chains that were made available before DRIVER_OK", () => {
  const rig = new Rig();
  rig.device.ready();
  rig.settle();
  rig.driver.reset();
  rig.driver.negotiate();
  const queue = rig.driver.setupQueue(0, { eventIdx: true });
  queue.add({ writable: [1] });
  assert.is(rig.device.receive(), undefined);
  rig.driver.progress(reg.DRIVER_OK);
  rig.device.expect(ACTIVATE);
  assert.is(rig.device.expect(REQUESTS).count, 1);
  rig.close();
});

test("DeviceLink tells the device of a reset, and drops answers to what was before it", () => {
  const { rig, driver, device, queue } = running();
  queue.add({ writable: [8] });
  driver.kick(queue);
  const { generation } = device.expect(REQUESTS);
  const [fresh] = driver.start();
  assert.is(device.expect(RESET).generation, generation + 1);
  device.expect(ACTIVATE);
  fresh!.add({ writable: [8] });
  driver.kick(fresh!);
  device.expect(REQUESTS);

  device.reply([{ id: 0, data: bytes(8, 1) }], { generation });
  rig.settle();
  assert.equal(rig.broken, []);
  assert.is(fresh!.deviceUsedIndex, 0, "an answer to a request of before the reset");
  device.reply([{ id: 0, data: bytes(8, 2) }], { generation: generation + 1 });
  rig.settle();
  assert.equal(fresh!.collect()[0]!.data, bytes(8, 2));
  rig.close();
});

test("DeviceLink sends no RESET to a device that was not active", () => {
  const rig = new Rig();
  rig.device.ready();
  rig.settle();
  rig.driver.reset();
  rig.driver.reset();
  assert.is(rig.device.receive(), undefined);
  rig.close();
});

test("DeviceLink drops replies after the driver broke a rule, until the reset", () => {
  const { rig, driver, device, queue } = running();
  queue.add({ writable: [8] });
  driver.kick(queue);
  device.expect(REQUESTS);
  queue.offer(999);
  driver.notify(0);
  rig.expectFault(/driver bug: queue 0: available head 999/);
  device.reply([{ id: 0, data: bytes(8) }]);
  rig.settle();
  assert.equal(rig.broken, []);
  assert.is(queue.deviceUsedIndex, 0);
  assert.is(driver.takeInterrupt(), reg.INT_CONFIG);

  const [fresh] = driver.start();
  device.expect(RESET);
  device.expect(ACTIVATE);
  fresh!.add({ writable: [1] });
  driver.kick(fresh!);
  device.expect(REQUESTS);
  rig.close();
});

test("DeviceLink passes log lines on, on one line, printable", () => {
  const rig = new Rig();
  rig.device.log("hello\n\x1b[31mtest0: driver bug: forged");
  rig.settle();
  assert.equal(rig.log, ["test0: device says: hello\ufffd\ufffd[31mtest0: driver bug: forged"]);
  rig.close();
});

test("DeviceLink limits the log lines of a device", () => {
  const rig = new Rig();
  for (let i = 0; i < 1000; i += 1) {
    rig.device.log("spam");
    rig.settle();
  }
  assert.ok(rig.log.length < 100, `${rig.log.length} lines`);
  rig.close();
});

// A socket that is full

/** Fills the device's socket with requests: how many chains were added. */
function flood(rig: Rig, queue: MockQueue): number {
  let added = 0;
  while (!rig.link.wantsWritable) {
    queue.add({ readable: [bytes(100_000, added)], writable: [4] });
    rig.driver.kick(queue);
    added += 1;
    assert.ok(added < 60, "the socket is never full");
  }
  return added;
}

test("DeviceLink waits when the socket is full, and loses and repeats nothing", () => {
  const { rig, device, queue } = running({ ram: new MockRam(16 * 1024 * 1024) });
  const added = flood(rig, queue);
  const seen: number[] = [];
  for (let message = device.receive(); message !== undefined; message = device.receive()) {
    if (rig.link.wantsWritable) rig.link.onWritable();
    let at = 0;
    for (const entry of message.entries) {
      assert.is(message.payload[at], bytes(1, seen.length)[0]);
      at += entry.bytes;
      seen.push(entry.id);
    }
  }
  assert.is(rig.link.wantsWritable, false);
  assert.equal(seen, [...Array(added).keys()]);
  rig.close();
});

test("DeviceLink sends nothing of another queue between the pieces of a request", () => {
  const ram = new MockRam(16 * 1024 * 1024);
  const rig = new Rig({ queueSizesMax: [8, 8, 8], ram }).start({ queues: [{}, {}, {}] });
  const [before, queue, after] = rig.driver.queues;
  for (let i = 0; i < 3; i += 1) queue!.add({ readable: [new Uint8Array(1024 * 1024)] });
  rig.driver.kick(queue!);
  assert.ok(rig.link.wantsWritable);
  for (const other of [before!, after!]) {
    other.add({ readable: [bytes(1)] });
    rig.driver.kick(other);
  }
  const order: number[] = [];
  let within: number | undefined;
  for (let message = rig.device.receive(); message !== undefined; message = rig.device.receive()) {
    if (rig.link.wantsWritable) rig.link.onWritable();
    if (within !== undefined) assert.is(message.queue, within);
    within = message.entries[0]?.flags === MORE ? message.queue : undefined;
    if (within === undefined) order.push(message.queue);
  }
  assert.equal(order.sort(), [0, 1, 1, 1, 2]);
  rig.close();
});

test("DeviceLink does not lose ACTIVATE and RESET when the socket is full", () => {
  const { rig, driver, device, queue } = running({ ram: new MockRam(16 * 1024 * 1024) });
  flood(rig, queue);
  const [fresh] = driver.start();
  fresh!.add({ writable: [4] });
  driver.kick(fresh!);
  driver.start()[0]!.add({ writable: [5] });
  driver.notify(0);
  const types: number[] = [];
  let capacity = 0;
  for (let message = device.receive(); message !== undefined; message = device.receive()) {
    if (rig.link.wantsWritable) rig.link.onWritable();
    types.push(message.type);
    capacity = message.entries[0]?.capacity ?? 0;
  }
  assert.equal(types.slice(-3), [RESET, ACTIVATE, REQUESTS]);
  assert.is(types.filter((type) => type === RESET).length, 1, "one RESET covers both");
  assert.is(capacity, 5);
  rig.close();
});

test("DeviceLink leaves chains in the ring when segments are short, and takes them later", () => {
  const { rig, driver, device, queue } = running({ queueSizesMax: [256] });
  const writable = Array.from({ length: 250 }, () => 2);
  for (let i = 0; i < 5; i += 1) queue.add({ writable, indirect: true });
  driver.kick(queue);
  assert.is(device.expect(REQUESTS).count, 4);
  assert.is(device.receive(), undefined);
  device.reply([{ id: 1, data: bytes(500) }]);
  rig.settle();
  assert.is(device.expect(REQUESTS).count, 1, "without another kick");
  device.reply([0, 2, 3, 1].map((id) => ({ id, data: bytes(500, id) })));
  rig.settle();
  const completions = queue.collect();
  assert.is(completions.length, 5);
  assert.equal(completions.at(-1)!.data, bytes(500, 1));
  rig.close();
});

test("DeviceLink finds a chain that comes while it answers, without a kick", () => {
  const { rig, driver, device, queue } = running();
  queue.add({ writable: [4] });
  driver.kick(queue);
  device.expect(REQUESTS);
  queue.add({ writable: [4] });
  device.reply([{ id: 0 }]);
  rig.settle();
  assert.is(device.expect(REQUESTS).count, 1);
  rig.close();
});

// Death

test("DeviceLink says that the device is gone, and keeps what it owes for the next one", () => {
  const { rig, driver, queue } = running();
  const contents = [1, 2, 3, 4].map((seed) => bytes(10, seed));
  for (const content of contents) queue.add({ readable: [content], writable: [4] });
  driver.kick(queue);
  rig.device.expect(REQUESTS);
  rig.device.reply([{ id: 1, data: bytes(4, 1) }]);
  rig.device.reply([{ id: 2, data: bytes(2, 2), flags: MORE }]);
  rig.device.close();
  rig.settle();
  assert.is(rig.closed, 1);
  assert.not(driver.needsReset);

  rig.plug();
  assert.is(rig.device.receive(), undefined, "nothing before READY");
  rig.device.ready();
  rig.settle();
  rig.device.expect(ACTIVATE);
  const again = rig.device.expect(REQUESTS);
  assert.equal(
    again.entries.map((entry) => entry.id),
    [0, 2, 3],
  );
  const payload = [contents[0]!, contents[2]!, contents[3]!].flatMap((content) => [...content]);
  assert.equal([...again.payload], payload);
  rig.device.reply([0, 2, 3].map((id) => ({ id, data: bytes(4, id + 10) })));
  rig.settle();
  const completions = queue.collect();
  assert.is(completions.length, 4);
  assert.equal(completions[2]!.data, bytes(4, 12), "a part of the first device's reply is gone");
  rig.close();
});

test("DeviceLink takes what the driver asked while there was no device", () => {
  const { rig, driver, queue } = running();
  rig.device.close();
  rig.settle();
  queue.add({ writable: [4] });
  driver.kick(queue);
  rig.plug();
  rig.device.ready();
  rig.settle();
  rig.device.expect(ACTIVATE);
  assert.is(rig.device.expect(REQUESTS).count, 1);
  rig.close();
});

test("DeviceLink begins a chain in pieces from its start for the next device", () => {
  const { rig, driver, queue } = running();
  queue.add({ readable: [bytes(3 * PAYLOAD_BYTES_MAX)], writable: [1] });
  driver.kick(queue);
  assert.is(rig.device.expect(REQUESTS).entries[0]!.flags, MORE);
  rig.device.close();
  rig.settle();
  rig.plug();
  rig.device.ready();
  rig.settle();
  rig.device.expect(ACTIVATE);
  const pieces: Uint8Array[] = [];
  for (let i = 0; i < 3; i += 1) {
    const { payload } = rig.device.expect(REQUESTS);
    rig.link.onWritable();
    pieces.push(payload);
  }
  assert.ok(Buffer.concat(pieces).equals(bytes(3 * PAYLOAD_BYTES_MAX)));
  rig.close();
});

test("DeviceLink lets a driver reset while there is no device", () => {
  const { rig, driver, queue } = running();
  queue.add({ writable: [4] });
  driver.kick(queue);
  rig.device.close();
  rig.settle();
  driver.start();
  rig.plug();
  rig.device.ready();
  rig.settle();
  rig.device.expect(ACTIVATE);
  assert.is(rig.device.receive(), undefined, "what was before the reset is void");
  rig.close();
});

test("DeviceLink survives a device that dies between a kick and its end being read", () => {
  const { rig, driver, queue } = running();
  rig.device.close();
  for (let i = 0; i < 3; i += 1) {
    queue.add({ writable: [4] });
    driver.notify(0);
  }
  rig.settle();
  assert.is(rig.closed, 1);
  rig.plug();
  rig.device.ready();
  rig.settle();
  rig.device.expect(ACTIVATE);
  assert.is(rig.device.expect(REQUESTS).count, 3);
  rig.close();
});

test.run();
