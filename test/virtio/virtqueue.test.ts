import { test } from "uvu";
import * as assert from "uvu/assert";
import { SEGMENTS_IN_FLIGHT_MAX } from "../../host/virtio/chains.js";
import { VIRTIO_F_VERSION_1 } from "../../host/virtio/registers.js";
import {
  BLOCKED,
  EMPTY,
  FAULT,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../../host/virtio/virtqueue.js";
import { pair, popRaw } from "./queue-bench.js";

const NEXT = VIRTQ_DESC_F_NEXT;
const WRITE = VIRTQ_DESC_F_WRITE;
const VERSION_1_ONLY = 1n << VIRTIO_F_VERSION_1;

const RAM = 0x10_0000;
const RAM_BYTES = 4 * 1024 * 1024;

test("Queue.pop() says EMPTY when nothing is available", () => {
  const { queue, bench } = pair();
  assert.is(queue.pop(), EMPTY);
  bench.close();
});

test("Queue.pop() gives readable and writable segments of a chain in order", () => {
  const { queue, segments, slot, bench } = popRaw([
    { addr: RAM, len: 16, flags: NEXT, next: 3 },
    { addr: 0, len: 0 },
    { addr: RAM + 0x3000, len: 1, flags: WRITE },
    { addr: RAM + 0x1000, len: 512, flags: NEXT | WRITE, next: 2 },
  ]);
  assert.equal(segments(slot, "readable"), [{ gpa: RAM, bytes: 16 }]);
  assert.equal(segments(slot, "writable"), [
    { gpa: RAM + 0x1000, bytes: 512 },
    { gpa: RAM + 0x3000, bytes: 1 },
  ]);
  assert.is(queue.chains.readableBytes[slot], 16);
  assert.is(queue.chains.writableBytes[slot], 513);
  assert.is(queue.pop(), EMPTY);
  bench.close();
});

test("Queue.pop() follows indices over the end of the rings, 2^16 included", () => {
  const { queue, driver, bench } = pair({ size: 4 });
  for (let i = 0; i < 2 ** 16 + 10; i += 1) {
    const head = driver.add({ writable: [8] });
    const slot = queue.pop();
    assert.is(queue.chains.head[slot], head);
    assert.is(queue.pop(), EMPTY);
    queue.chains.markSent();
    queue.push(slot, 0);
    queue.publish();
    assert.is(driver.collect().length, 1);
  }
  bench.close();
});

test("Queue.pop() takes a chain over two windows of memory", () => {
  const middle = RAM + RAM_BYTES / 2;
  const { segments, slot, bench } = popRaw([{ addr: middle - 8, len: 16, flags: WRITE }]);
  assert.equal(segments(slot, "writable"), [{ gpa: middle - 8, bytes: 16 }]);
  bench.close();
});

// The available ring (virtio v1.2 §2.7.6)

test("Queue.pop() refuses an available index more than a queue ahead", () => {
  const { queue, driver, bench } = pair();
  driver.writeAvailIndex(9);
  assert.is(queue.pop(), FAULT);
  assert.match(queue.fault, /available index 9 is 9 ahead of 0, size 8/);
  bench.close();
});

test("Queue.pop() refuses an available index that went back", () => {
  const { queue, driver, bench } = pair();
  driver.add({ writable: [1] });
  assert.ok(queue.pop() >= 0);
  driver.writeAvailIndex(0);
  assert.is(queue.pop(), FAULT);
  assert.match(queue.fault, /65535 ahead/);
  bench.close();
});

test("Queue.pop() refuses a head outside the table", () => {
  const { queue, driver, bench } = pair();
  driver.offer(8);
  assert.is(queue.pop(), FAULT);
  assert.match(queue.fault, /available head 8 in a queue of 8/);
  bench.close();
});

test("Queue.pop() refuses a head that is in flight already", () => {
  const { queue, driver, bench } = pair();
  const head = driver.add({ writable: [1] });
  driver.offer(head);
  assert.ok(queue.pop() >= 0);
  assert.is(queue.pop(), FAULT);
  assert.match(queue.fault, /head 0 is made available again/);
  bench.close();
});

test("Queue.pop() remembers its fault", () => {
  const { queue, driver, bench } = pair();
  driver.offer(8);
  assert.is(queue.pop(), FAULT);
  assert.is(queue.pop(), FAULT);
  bench.close();
});

test("Queue.pop() leaves a chain in the ring until its segments fit, and takes it whole", () => {
  const { queue, driver, bench } = pair({ size: 256 });
  const writable = Array.from({ length: 256 }, () => 1);
  const slots: number[] = [];
  for (let i = 0; i < 4; i += 1) driver.add({ writable, indirect: true });
  for (let slot = queue.pop(); slot >= 0; slot = queue.pop()) slots.push(slot);
  assert.is(slots.length, 3);
  assert.ok(4 * 256 > SEGMENTS_IN_FLIGHT_MAX);
  for (let i = 0; i < 1000; i += 1) assert.is(queue.pop(), BLOCKED);
  assert.is(queue.chains.count, 3);

  queue.chains.markSent();
  queue.push(slots[0]!, 0);
  const slot = queue.pop();
  assert.ok(slot >= 0);
  assert.is(queue.chains.writableBytes[slot], 256);
  assert.is(queue.pop(), EMPTY);
  bench.close();
});

// The used ring and notifications (virtio v1.2 §2.7.7, §2.7.8, §2.7.10)

function answer(queue: ReturnType<typeof pair>["queue"], bytes = 0): boolean {
  const slot = queue.pop();
  queue.chains.markSent();
  queue.push(slot, bytes);
  return queue.publish();
}

test("Queue.push() shows nothing before publish()", () => {
  const { queue, driver, bench } = pair();
  driver.add({ writable: [4] });
  const slot = queue.pop();
  queue.chains.markSent();
  queue.push(slot, 0);
  assert.is(driver.deviceUsedIndex, 0);
  queue.publish();
  assert.is(driver.deviceUsedIndex, 1);
  bench.close();
});

test("Queue.publish() interrupts unless VIRTQ_AVAIL_F_NO_INTERRUPT is set (§2.7.7.2)", () => {
  const { queue, driver, bench } = pair({ features: VERSION_1_ONLY });
  driver.add({ writable: [1] });
  assert.is(answer(queue), true);
  driver.writeAvailFlags(VIRTQ_AVAIL_F_NO_INTERRUPT);
  driver.add({ writable: [1] });
  assert.is(answer(queue), false);
  bench.close();
});

test("Queue.publish() interrupts when the used index passes used_event (§2.7.7.2)", () => {
  const { queue, driver, bench } = pair();
  driver.writeUsedEvent(1);
  driver.add({ writable: [1] });
  assert.is(answer(queue), false, "entry 0");
  driver.add({ writable: [1] });
  assert.is(answer(queue), true, "entry 1 is the one asked for");
  driver.add({ writable: [1] });
  assert.is(answer(queue), false, "entry 2 was not asked for");
  bench.close();
});

test("Queue.publish() ignores VIRTQ_AVAIL_F_NO_INTERRUPT with event index (§2.7.7.2)", () => {
  const { queue, driver, bench } = pair();
  driver.writeAvailFlags(VIRTQ_AVAIL_F_NO_INTERRUPT);
  driver.add({ writable: [1] });
  assert.is(answer(queue), true);
  bench.close();
});

test("Queue.publish() interrupts once for a batch that passes used_event", () => {
  const { queue, driver, bench } = pair();
  driver.writeUsedEvent(0xffff);
  for (let i = 0; i < 3; i += 1) driver.add({ writable: [1] });
  for (let i = 0; i < 3; i += 1) {
    const slot = queue.pop();
    queue.chains.markSent();
    queue.push(slot, 0);
  }
  driver.writeUsedEvent(1);
  assert.is(queue.publish(), true);
  assert.is(queue.publish(), false, "nothing new");
  bench.close();
});

test("Queue.armNotifications() sees a chain that came before the driver could see it armed", () => {
  for (const features of [undefined, VERSION_1_ONLY]) {
    const { queue, driver, bench } = pair(features === undefined ? {} : { features });
    queue.suppressNotifications();
    assert.is(queue.pop(), EMPTY);
    driver.add({ writable: [1] });
    assert.is(queue.armNotifications(), true);
    assert.ok(queue.pop() >= 0);
    assert.is(queue.armNotifications(), false);
    bench.close();
  }
});

test("Queue.suppressNotifications() sets VIRTQ_USED_F_NO_NOTIFY (§2.7.10)", () => {
  const { queue, driver, bench } = pair({ features: VERSION_1_ONLY });
  queue.suppressNotifications();
  assert.is(driver.usedFlags, VIRTQ_USED_F_NO_NOTIFY);
  assert.is(driver.wantsKick(), false);
  queue.armNotifications();
  assert.is(driver.usedFlags, 0);
  assert.is(driver.wantsKick(), true);
  bench.close();
});

test("Queue.armNotifications() asks for the next chain by avail_event (§2.7.10)", () => {
  const { queue, driver, bench } = pair();
  driver.add({ writable: [1] });
  assert.ok(queue.pop() >= 0);
  driver.wantsKick();
  queue.suppressNotifications();
  assert.is(driver.usedFlags, 0, "flags stay 0 with event index");
  driver.add({ writable: [1] });
  assert.is(driver.wantsKick(), false, "avail_event is still 0: it passed that");
  assert.ok(queue.pop() >= 0);
  queue.armNotifications();
  assert.is(driver.availEvent, 2);
  assert.is(driver.usedFlags, 0, "flags stay 0 with event index");
  driver.add({ writable: [1] });
  assert.is(driver.wantsKick(), true);
  bench.close();
});

test.run();
