// A link between a driver and a device that both keep the rules.

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { MockQueue } from "../../host/testing/mock-queue.js";
import { MockRam } from "../../host/testing/mock-ram.js";
import * as reg from "../../host/virtio/registers.js";
import {
  ACTIVATE,
  BATCH_CHAINS_MAX,
  CHAIN_BYTES_MAX,
  IDLE,
  MORE,
  PAYLOAD_BYTES_MAX,
  REQUESTS,
  RESET,
} from "../../host/wire/format.js";
import { UNANSWERED_BYTES_MAX } from "../../host/wire/message.js";
import { bytes, Rig, running } from "./rig.js";

/** Adds `count` small writable chains, and kicks once. */
function addMany(rig: Rig, queue: MockQueue, count: number): void {
  for (let i = 0; i < count; i += 1) queue.add({ writable: [8], indirect: true });
  rig.driver.kick(queue);
}

test("DeviceLink sends the readable bytes of a chain and scatters the reply", () => {
  const { rig, driver, device, queue } = running();
  const head = queue.add({ readable: [bytes(3), bytes(5, 9)], writable: [2, 4] });
  driver.kick(queue);
  const request = device.expect(REQUESTS);
  assert.equal(request.entries, [{ id: 0, bytes: 8, capacity: 6, flags: 0 }]);
  assert.equal(request.payload, Uint8Array.from([...bytes(3), ...bytes(5, 9)]));
  device.reply([{ id: 0, data: bytes(5) }]);
  rig.settle();
  assert.equal(queue.collect(), [{ head, bytes: 5, data: bytes(5) }]);
  assert.is(driver.takeInterrupt(), reg.INT_VRING);
  assert.is(rig.interrupts, 1);
  rig.close();
});

test("DeviceLink sends all chains of a kick in one message, oldest first", () => {
  const { rig, device, queue } = running();
  const sizes = [1, 0, 3, 4];
  for (const size of sizes) queue.add({ readable: [bytes(size)], writable: [1] });
  rig.driver.kick(queue);
  const request = device.expect(REQUESTS);
  assert.equal(
    request.entries.map((entry) => entry.bytes),
    sizes,
  );
  assert.is(device.receive(), undefined);
  rig.close();
});

test("DeviceLink puts at most BATCH_CHAINS_MAX chains into a message", () => {
  const { rig, device, queue } = running({ queueSizesMax: [256] });
  addMany(rig, queue, BATCH_CHAINS_MAX + 3);
  assert.is(device.expect(REQUESTS).count, BATCH_CHAINS_MAX);
  assert.is(device.expect(REQUESTS).count, 3);
  assert.is(device.receive(), undefined);
  rig.close();
});

test("DeviceLink puts at most PAYLOAD_BYTES_MAX into a message", () => {
  const { rig, device, queue } = running();
  const size = PAYLOAD_BYTES_MAX / 2;
  for (const more of [0, 0, 1, 0]) queue.add({ readable: [bytes(size + more)] });
  rig.driver.kick(queue);
  assert.is(device.expect(REQUESTS).count, 2);
  assert.is(device.expect(REQUESTS).count, 1);
  assert.is(device.expect(REQUESTS).count, 1);
  rig.close();
});

test("DeviceLink sends a chain above PAYLOAD_BYTES_MAX in pieces, each alone", () => {
  const { rig, device, queue } = running();
  const content = bytes(CHAIN_BYTES_MAX);
  queue.add({ readable: [bytes(1)], writable: [1] });
  queue.add({ readable: [content.slice(0, 300_000), content.slice(300_000)], writable: [1] });
  queue.add({ readable: [bytes(2)], writable: [1] });
  rig.driver.kick(queue);
  assert.is(device.expect(REQUESTS).entries[0]!.bytes, 1);
  const pieces: Uint8Array[] = [];
  for (let more = true; more; ) {
    rig.link.onWritable();
    const { entries, payload, count } = device.expect(REQUESTS);
    assert.is(count, 1);
    assert.is(entries[0]!.id, 1);
    assert.is(entries[0]!.capacity, 1);
    pieces.push(payload);
    more = entries[0]!.flags === MORE;
  }
  assert.ok(Buffer.concat(pieces).equals(content));
  rig.link.onWritable();
  assert.is(device.expect(REQUESTS).entries[0]!.bytes, 2);
  rig.close();
});

test("DeviceLink takes a reply above PAYLOAD_BYTES_MAX in pieces", () => {
  const { rig, device, queue } = running();
  const content = bytes(PAYLOAD_BYTES_MAX + 1000);
  queue.add({ writable: [1000, PAYLOAD_BYTES_MAX, 500] });
  rig.driver.kick(queue);
  device.expect(REQUESTS);
  device.reply([{ id: 0, data: content.slice(0, PAYLOAD_BYTES_MAX), flags: MORE }]);
  rig.settle();
  assert.is(queue.deviceUsedIndex, 0);
  assert.is(rig.interrupts, 0);
  device.reply([{ id: 0, data: content.slice(PAYLOAD_BYTES_MAX) }]);
  rig.settle();
  const [completion] = queue.collect();
  assert.is(completion!.bytes, content.length);
  assert.equal(completion!.data, content);
  rig.close();
});

test("DeviceLink takes replies in any order, and raises one interrupt for a message", () => {
  const { rig, device, queue } = running({ queueSizesMax: [8] });
  for (let i = 0; i < 4; i += 1) queue.add({ writable: [4] });
  rig.driver.kick(queue);
  device.expect(REQUESTS);
  device.reply([{ id: 2, data: bytes(1, 2) }, { id: 0, data: bytes(4, 0) }, { id: 3 }]);
  rig.settle();
  assert.is(rig.interrupts, 1);
  assert.equal(
    queue.collect().map((completion) => completion.data),
    [bytes(1, 2), bytes(4, 0), bytes(0)],
  );
  rig.close();
});

test("DeviceLink raises no interrupt that the driver does not want", () => {
  const { rig, device, queue } = running();
  queue.writeUsedEvent(1);
  for (let i = 0; i < 2; i += 1) queue.add({ writable: [1] });
  rig.driver.kick(queue);
  device.expect(REQUESTS);
  device.reply([{ id: 0 }]);
  rig.settle();
  assert.is(rig.interrupts, 0);
  device.reply([{ id: 1 }]);
  rig.settle();
  assert.is(rig.interrupts, 1);
  rig.close();
});

test("DeviceLink.onReadable() takes one message at a time", () => {
  const { rig, device, queue } = running();
  for (let i = 0; i < 2; i += 1) queue.add({ writable: [1] });
  rig.driver.kick(queue);
  device.expect(REQUESTS);
  device.reply([{ id: 0 }]);
  device.reply([{ id: 1 }]);
  assert.is(rig.link.onReadable(), true);
  assert.is(queue.deviceUsedIndex, 1);
  assert.is(rig.link.onReadable(), true);
  assert.is(rig.link.onReadable(), false);
  assert.is(queue.deviceUsedIndex, 2);
  rig.close();
});

test("DeviceLink shows the device CHAIN_BYTES_MAX of a larger request", () => {
  const { rig, device, queue } = running({ ram: new MockRam(8 * 1024 * 1024) });
  queue.add({ writable: [CHAIN_BYTES_MAX + 4096] });
  rig.driver.kick(queue);
  assert.is(device.expect(REQUESTS).entries[0]!.capacity, CHAIN_BYTES_MAX);
  rig.close();
});

test("DeviceLink keeps queues apart", () => {
  const rig = new Rig({ queueSizesMax: [8, 8] });
  rig.device.ready();
  rig.settle();
  rig.driver.start({ queues: [{}, {}] });
  rig.device.expect(ACTIVATE);
  const [first, second] = rig.driver.queues as [MockQueue, MockQueue];
  second.add({ writable: [3] });
  rig.driver.kick(second);
  assert.is(rig.device.expect(REQUESTS).queue, 1);
  first.add({ writable: [3] });
  rig.driver.kick(first);
  assert.is(rig.device.expect(REQUESTS).queue, 0);
  rig.device.reply([{ id: 0, data: bytes(3) }], { queue: 1 });
  rig.settle();
  assert.is(second.collect().length, 1);
  assert.is(first.collect().length, 0);
  rig.close();
});

test("DeviceLink sends no more readable bytes than may be unanswered, and then goes on", () => {
  const { rig, device, queue } = running({ ram: new MockRam(16 * 1024 * 1024) });
  const size = CHAIN_BYTES_MAX / 2;
  for (let i = 0; i < 12; i += 1) queue.add({ readable: [bytes(size, i)], writable: [4] });
  rig.driver.kick(queue);
  /** Ids of the requests that arrive until nothing does. */
  const arrived = () => {
    const ids = new Set<number>();
    for (;;) {
      if (rig.link.wantsWritable) rig.link.onWritable();
      const message = device.receive();
      if (message === undefined) return [...ids];
      for (const { id } of message.entries) ids.add(id);
    }
  };
  assert.equal(arrived(), [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.is(UNANSWERED_BYTES_MAX, 8 * size);
  device.reply([{ id: 3 }, { id: 0 }]);
  rig.settle();
  const later = arrived();
  assert.is(later.length, 2);
  device.reply(later.map((id) => ({ id })));
  rig.settle();
  assert.is(arrived().length, 2);
  rig.close();
});

test("DeviceLink.reset() gets through to a device that has no room for more requests", () => {
  const { rig, driver, device, queue } = running({ ram: new MockRam(16 * 1024 * 1024) });
  for (let i = 0; i < 8; i += 1) queue.add({ readable: [bytes(CHAIN_BYTES_MAX)] });
  driver.kick(queue);
  const drain = () => {
    const types: number[] = [];
    for (;;) {
      if (rig.link.wantsWritable) rig.link.onWritable();
      const message = device.receive();
      if (message === undefined) return types;
      types.push(message.type);
    }
  };
  assert.equal([...new Set(drain())], [REQUESTS]);
  driver.reset();
  assert.equal(drain(), [RESET]);
  driver.start();
  const [fresh] = driver.queues;
  fresh!.add({ readable: [bytes(CHAIN_BYTES_MAX)] });
  driver.kick(fresh!);
  assert.equal([...new Set(drain())], [ACTIVATE, REQUESTS]);
  rig.close();
});

test("DeviceLink owes a fresh device everything: nothing is unanswered that it never saw", () => {
  const { rig, driver, queue } = running({ ram: new MockRam(16 * 1024 * 1024) });
  for (let i = 0; i < 4; i += 1) queue.add({ readable: [bytes(CHAIN_BYTES_MAX)] });
  driver.kick(queue);
  let sent = 0;
  const drain = () => {
    for (;;) {
      if (rig.link.wantsWritable) rig.link.onWritable();
      const message = rig.device.receive();
      if (message === undefined) return;
      for (const { flags } of message.entries) if (flags !== MORE) sent += 1;
    }
  };
  drain();
  rig.plug();
  rig.device.ready();
  rig.settle();
  drain();
  assert.is(sent, 8);
  rig.close();
});

test("DeviceLink counts a device that says it is idle among the living, but not its lines", () => {
  const { rig, device } = running();
  const before = rig.link.receivedCount;
  device.log("still looping");
  rig.settle();
  assert.is(rig.link.receivedCount, before);
  device.send([IDLE]);
  rig.settle();
  assert.is(rig.link.receivedCount, before + 1);
  rig.close();
});

test("DeviceLink sends what had no room when another queue is answered", () => {
  const ram = new MockRam(16 * 1024 * 1024);
  const rig = new Rig({ queueSizesMax: [64, 64], ram }).start({ queues: [{}, {}] });
  const { driver, device } = rig;
  const [first, second] = driver.queues;
  for (let i = 0; i < 4; i += 1) first!.add({ readable: [bytes(CHAIN_BYTES_MAX)] });
  driver.kick(first!);
  second!.add({ readable: [bytes(1)] });
  driver.kick(second!);
  const queues = () => {
    const seen = new Set<number>();
    for (;;) {
      if (rig.link.wantsWritable) rig.link.onWritable();
      const message = device.receive();
      if (message === undefined) return [...seen];
      seen.add(message.queue);
    }
  };
  assert.equal(queues(), [0]);
  device.reply([{ id: 0 }]);
  rig.settle();
  assert.equal(queues(), [1]);
  rig.close();
});

test.run();
