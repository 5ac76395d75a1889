// A driver that writes whatever it likes into registers, rings and descriptors, with a device
// behind it that does its best. Whatever happens: nothing throws, nothing outside RAM is touched,
// the device gets well-formed requests only, and after a reset a driver that keeps the rules is
// served.

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { MockQueue } from "../../host/testing/mock-queue.js";
import * as mmio from "../../host/virtio/mmio.js";
import * as reg from "../../host/virtio/registers.js";
import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT } from "../../host/virtio/virtqueue.js";
import * as wire from "../../host/wire/format.js";
import { Random, repeat, SEED } from "./random.js";
import { Rig } from "./rig.js";

const random = new Random(SEED);
const rig = new Rig({ queueSizesMax: [16, 256], features: 1n });
const { ram, driver, log } = rig;
const table = ram.alloc(16 * 300).gpa;

const REGISTERS = Array.from({ length: 0x120 / 4 }, (_, i) => i * 4);
const VALUES = [0, 1, 2, 3, 7, 8, 15, 16, 17, 64, 128, 255, 256, 0xffff, 0x10_0000, 0xffff_ffff];
const LENGTHS = [0, 1, 2, 15, 16, 32, 4096, 0x1_0000, 0xf_ffff, 0x10_0000, 0x3f_0000, 0xffff_ffff];

const seen = { faults: 0, requests: 0, messages: 0, resets: 0 };

/** A device that answers what it was asked, in part, whole or later. */
function serve(): void {
  rig.settle();
  for (let message = rig.device.receive(); message !== undefined; message = rig.device.receive()) {
    seen.messages += 1;
    if (rig.link.wantsWritable) rig.link.onWritable();
    if (message.type !== wire.REQUESTS) continue;
    seen.requests += message.count;
    const replies = message.entries
      .filter((entry) => entry.flags !== wire.MORE)
      .map(({ id, capacity }) => ({ id, data: random.bytes(Math.min(capacity, 600)) }));
    if (replies.length > 0) rig.device.reply(replies, { queue: message.queue });
    rig.settle();
  }
  assert.equal(rig.broken, [], "a device that keeps the rules was taken for a liar");
}

/** An address that is right, nearly right, or anything. */
function address(): number | bigint {
  switch (random.below(6)) {
    case 0:
      return random.pick([ram.gpa - 1, ram.end - 1, ram.end - 16, ram.end, 0xd000_0100, 0]);
    case 1:
      return random.pick([2n ** 64n - 1n, 2n ** 64n - 16n, 2n ** 53n, 2n ** 63n]);
    case 2:
      return table;
    default:
      return ram.gpa + 0x20_0000 + random.below(0x1f_0000);
  }
}

function scribbleDescs(queue: MockQueue): void {
  const target = random.oneIn(3) ? table : undefined;
  const size = target === undefined ? queue.size : 300;
  const forward = !random.oneIn(4);
  for (let i = 0; i < 8; i += 1) {
    const index = random.below(size);
    const flags = random.below(4) | (random.oneIn(6) ? VIRTQ_DESC_F_INDIRECT : 0);
    const next = forward ? index + 1 : random.below(size + 1);
    const len = random.oneIn(2) ? random.below(5000) : random.pick(LENGTHS);
    queue.writeDesc(index, { addr: address(), len, flags, next }, target);
  }
}

/** A chain without an end that anyone wrote: writable descriptors up to the end of the table. */
function longChain(queue: MockQueue): void {
  const start = random.below(queue.size);
  for (let i = start; i < queue.size; i += 1) {
    const last = i === queue.size - 1 && !random.oneIn(3);
    const flags = 2 | (last ? 0 : VIRTQ_DESC_F_NEXT);
    queue.writeDesc(i, { addr: ram.gpa + 0x20_0000 + 64 * i, len: 32, flags, next: i + 1 });
  }
  queue.offer(start);
}

function rawRegister(): void {
  const offset = random.oneIn(10) ? random.below(0x1000) : random.pick(REGISTERS);
  const width = random.oneIn(8) ? random.pick([1, 2, 3, 8]) : 4;
  const value = random.oneIn(3) ? random.u32() : random.pick(VALUES);
  driver.transport.write(offset, width, value);
  driver.transport.read(offset, width);
}

function restart(): void {
  seen.resets += 1;
  driver.start({
    features: driver.readFeatures() & (random.oneIn(2) ? ~0n : ~(1n << 29n)),
    queues: [{}, { size: random.pick([1, 2, 64, 256]) }],
  });
}

/** What a driver does, right or wrong. */
const DEEDS: ((queue: MockQueue) => void)[] = [
  () => rawRegister(),
  (queue) => queue.writeAvailIndex(queue.availIndex + random.pick([0, 1, 2, 16, 17, 0xffff])),
  (queue) => queue.offer(random.below(queue.size + 1)),
  (queue) => queue.writeAvailFlags(random.below(4)),
  (queue) => queue.writeUsedEvent(random.u32()),
  (queue) => longChain(queue),
  () => driver.notify(random.pick([0, 1, 1, 2, 0xffff])),
  ...Array.from({ length: 2 }, () => (queue: MockQueue) => {
    scribbleDescs(queue);
    queue.offer(random.below(queue.size));
  }),
  ...Array.from({ length: 3 }, () => (queue: MockQueue) => {
    scribbleDescs(queue);
    queue.offer(random.below(queue.size));
    driver.notify(queue.index);
  }),
];

test("RegisterFile and DeviceLink survive a driver that does what it likes", () => {
  rig.device.ready();
  rig.settle();
  restart();
  repeat((operation) => {
    if (driver.needsReset || !rig.registers.running) {
      seen.faults += 1;
      restart();
      assert.is(driver.status, 15, log.at(-1));
    }
    random.pick(DEEDS)(random.pick(driver.queues));
    if (random.oneIn(3)) serve();
    if (operation % 64 === 0) ram.checkFences();
  });
  ram.checkFences();
  assert.ok(seen.faults > 100, `${seen.faults} faults`);
  assert.ok(seen.requests > 100, `${seen.requests} requests`);
});

test("RegisterFile and DeviceLink serve a driver that keeps the rules afterwards", () => {
  serve();
  const [queue] = driver.start();
  serve();
  for (let i = 0; i < 1000; i += 1) {
    queue!.add({ readable: [random.bytes(random.below(100))], writable: [random.below(600)] });
    driver.kick(queue!);
    serve();
    assert.is(queue!.collect().length, 1);
  }
  assert.is(driver.status & reg.DEVICE_NEEDS_RESET, 0);
  assert.is(driver.read(mmio.VIRTIO_MMIO_STATUS), 15);
  rig.close();
});

test.run();
