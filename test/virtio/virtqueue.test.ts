import { test } from "uvu";
import * as assert from "uvu/assert";
import { SEGMENTS_IN_FLIGHT_MAX } from "../../host/virtio/chains.js";
import { VIRTIO_F_VERSION_1 } from "../../host/virtio/registers.js";
import {
  BLOCKED,
  EMPTY,
  FAULT,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../../host/virtio/virtqueue.js";
import { CHAIN_BYTES_MAX } from "../../host/wire/message.js";
import type { Desc } from "./mock-driver.js";
import { MockRam } from "./mock-ram.js";
import { Bench, type BenchOptions } from "./rig.js";

const NEXT = VIRTQ_DESC_F_NEXT;
const WRITE = VIRTQ_DESC_F_WRITE;
const INDIRECT = VIRTQ_DESC_F_INDIRECT;
const VERSION_1_ONLY = 1n << VIRTIO_F_VERSION_1;

interface Options extends BenchOptions {
  size?: number;
  features?: bigint;
}

/** A queue that is enabled, from both sides; `features` as the driver accepts them. */
function pair({ size = 8, features, ...options }: Options = {}) {
  const bench = new Bench({ queueSizesMax: [size], ...options });
  const [driver] = bench.driver.start(features === undefined ? {} : { features });
  const queue = bench.registers.queues[0]!;
  assert.ok(queue.ready);
  const segments = (slot: number, part: "readable" | "writable") => {
    const list: { gpa: number; bytes: number }[] = [];
    const { chains } = queue;
    let left = part === "readable" ? chains.readableBytes[slot]! : chains.writableBytes[slot]!;
    if (left > 0 && part === "readable") chains.seekReadable(slot, 0);
    else if (left > 0) chains.seekWritable(slot, 0);
    while (left > 0) {
      const bytes = chains.next(left);
      list.push({ gpa: chains.pieceHva - bench.ram.hva(bench.ram.gpa) + bench.ram.gpa, bytes });
      left -= bytes;
    }
    return list;
  };
  return { bench, ram: bench.ram, driver: driver!, queue, segments };
}

/** Offers the chain that begins at descriptor 0 of `descs`, and pops it. */
function popRaw(descs: Desc[], options: Options = {}) {
  const all = pair(options);
  for (const [index, desc] of descs.entries()) all.driver.writeDesc(index, desc);
  all.driver.offer(0);
  return { ...all, slot: all.queue.pop() };
}

function expectFault(descs: Desc[], why: RegExp, options: Options = {}): void {
  const { queue, slot, bench } = popRaw(descs, options);
  assert.is(slot, FAULT);
  assert.match(queue.fault, why);
  assert.is(queue.chains.count, 0);
  bench.close();
}

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

// Chains (virtio v1.2 §2.7.5)

test("Queue.pop() refuses a chain that loops", () => {
  expectFault(
    [
      { addr: RAM, len: 1, flags: NEXT, next: 1 },
      { addr: RAM, len: 1, flags: NEXT, next: 0 },
    ],
    /chain 0: longer than its queue, or a loop/,
  );
});

test("Queue.pop() refuses a descriptor that is its own successor", () => {
  expectFault([{ addr: RAM, len: 1, flags: NEXT, next: 0 }], /or a loop/);
});

test("Queue.pop() refuses a loop of empty descriptors", () => {
  expectFault([{ addr: 0, len: 0, flags: NEXT, next: 0 }], /or a loop/);
});

test("Queue.pop() refuses a chain longer than its queue (§2.7.5.3.1)", () => {
  const ram = new MockRam();
  const table = ram.alloc(16 * 9);
  const all = pair({ size: 8, ram });
  for (let i = 0; i < 9; i += 1) {
    const flags = i < 8 ? NEXT : 0;
    all.driver.writeDesc(i, { addr: RAM, len: 1, flags, next: i + 1 }, table.gpa);
  }
  all.driver.writeDesc(0, { addr: table.gpa, len: 16 * 9, flags: INDIRECT });
  all.driver.offer(0);
  assert.is(all.queue.pop(), FAULT);
  assert.match(all.queue.fault, /longer than its queue/);
  all.bench.close();
});

test("Queue.pop() takes a chain exactly as long as its queue", () => {
  const descs = Array.from({ length: 8 }, (_, i) => ({
    addr: RAM,
    len: 1,
    flags: i < 7 ? NEXT : 0,
    next: i + 1,
  }));
  const { slot, queue, bench } = popRaw(descs);
  assert.is(queue.chains.readableBytes[slot], 8);
  bench.close();
});

test("Queue.pop() refuses a successor outside the table", () => {
  expectFault([{ addr: RAM, len: 1, flags: NEXT, next: 8 }], /next 8 in a table of 8/);
});

test("Queue.pop() refuses address plus length wrapping 2^64", () => {
  expectFault([{ addr: 0xffff_ffff_ffff_fff0n, len: 0x20 }], /outside RAM: address above 2\^53/);
  expectFault([{ addr: 0xffff_ffff_ffff_ffffn, len: 0xffff_ffff, flags: WRITE }], /outside RAM/);
});

test("Queue.pop() refuses an address of 2^53 and more", () => {
  expectFault([{ addr: 1n << 53n, len: 1 }], /outside RAM/);
  expectFault([{ addr: (1n << 53n) | BigInt(RAM), len: 1 }], /outside RAM/);
});

test("Queue.pop() refuses a descriptor outside RAM", () => {
  expectFault([{ addr: RAM - 4096, len: 16 }], /buffer outside RAM/);
  expectFault([{ addr: RAM + RAM_BYTES, len: 16, flags: WRITE }], /buffer outside RAM/);
  expectFault([{ addr: 0xd000_0000, len: 16 }], /buffer outside RAM: address 0xd0000000/);
});

test("Queue.pop() refuses a descriptor across the end of RAM", () => {
  expectFault([{ addr: RAM + RAM_BYTES - 8, len: 9, flags: WRITE }], /buffer outside RAM/);
  expectFault([{ addr: RAM - 1, len: 2 }], /buffer outside RAM/);
});

test("Queue.pop() refuses a readable descriptor behind a writable one (§2.7.4.2)", () => {
  expectFault(
    [
      { addr: RAM, len: 1, flags: NEXT | WRITE, next: 1 },
      { addr: RAM, len: 1 },
    ],
    /readable behind writable/,
  );
});

test("Queue.pop() refuses a readable descriptor behind an empty writable one (§2.7.4.2)", () => {
  expectFault(
    [
      { addr: RAM, len: 0, flags: NEXT | WRITE, next: 1 },
      { addr: RAM, len: 1 },
    ],
    /readable behind writable/,
  );
});

test("Queue.pop() takes empty descriptors, wherever they point, and adds nothing for them", () => {
  const { queue, slot, segments, bench } = popRaw([
    { addr: 0, len: 0, flags: NEXT, next: 1 },
    { addr: RAM, len: 4, flags: NEXT, next: 2 },
    { addr: 0xffff_ffff_ffff_ffffn, len: 0, flags: WRITE },
  ]);
  assert.ok(slot >= 0);
  assert.equal(segments(slot, "readable"), [{ gpa: RAM, bytes: 4 }]);
  assert.is(queue.chains.writableBytes[slot], 0);
  bench.close();
});

test("Queue.pop() takes a chain without any byte", () => {
  const { queue, slot, driver, bench } = popRaw([{ addr: 0, len: 0 }]);
  assert.ok(slot >= 0);
  queue.chains.markSent();
  queue.push(slot, 0);
  queue.publish();
  assert.is(driver.deviceUsedIndex, 1);
  bench.close();
});

test("Queue.pop() shows at most CHAIN_BYTES_MAX of a writable part that is larger", () => {
  const { queue, slot, segments, bench } = popRaw([
    { addr: RAM, len: CHAIN_BYTES_MAX - 1, flags: NEXT | WRITE, next: 1 },
    { addr: RAM, len: 100, flags: NEXT | WRITE, next: 2 },
    { addr: RAM, len: 100, flags: WRITE },
  ]);
  assert.is(queue.chains.writableBytes[slot], CHAIN_BYTES_MAX);
  assert.equal(segments(slot, "writable"), [
    { gpa: RAM, bytes: CHAIN_BYTES_MAX - 1 },
    { gpa: RAM, bytes: 1 },
  ]);
  bench.close();
});

test("Queue.pop() checks addresses of writable bytes beyond CHAIN_BYTES_MAX as well", () => {
  expectFault(
    [
      { addr: RAM, len: CHAIN_BYTES_MAX, flags: NEXT | WRITE, next: 1 },
      { addr: RAM + RAM_BYTES, len: 1, flags: WRITE },
    ],
    /buffer outside RAM/,
  );
});

test("Queue.pop() refuses a chain of more buffers than may ever be in flight", () => {
  const ram = new MockRam();
  const count = SEGMENTS_IN_FLIGHT_MAX + 1;
  const table = ram.alloc(16 * count);
  const { driver, queue, bench } = pair({ size: 1024, ram });
  for (let i = 0; i < count; i += 1) {
    const flags = i < count - 1 ? NEXT : 0;
    driver.writeDesc(i, { addr: RAM, len: 1, flags, next: i + 1 }, table.gpa);
  }
  driver.writeDesc(0, { addr: table.gpa, len: table.bytes, flags: INDIRECT });
  driver.offer(0);
  assert.is(queue.pop(), FAULT);
  assert.match(queue.fault, /over 1023 buffers/);
  bench.close();
});

/** A queue on 512 MiB, with a chain of 8 × 512 MiB writable bytes and then `more`. */
function popHuge(more: Desc[]) {
  const bytes = 512 * 1024 * 1024;
  const all = pair({ size: 16, ram: new MockRam(bytes) });
  const descs = Array.from({ length: 8 }, () => ({ addr: RAM, len: bytes, flags: WRITE }));
  const chain: Desc[] = [...descs, ...more];
  for (const [i, desc] of chain.entries()) {
    const flags = WRITE | (i < chain.length - 1 ? NEXT : 0);
    all.driver.writeDesc(i, { ...desc, flags, next: i + 1 });
  }
  all.driver.offer(0);
  return { ...all, slot: all.queue.pop() };
}

test("Queue.pop() takes a request of 4 GiB, and holds CHAIN_BYTES_MAX of it", () => {
  const { queue, slot, bench } = popHuge([]);
  assert.ok(slot >= 0);
  assert.is(queue.chains.writableBytes[slot], CHAIN_BYTES_MAX);
  bench.close();
});

test("Queue.pop() refuses a chain of more than 2^32 bytes (§2.7.5.2)", () => {
  const { queue, slot, bench } = popHuge([{ addr: RAM, len: 1 }]);
  assert.is(slot, FAULT);
  assert.match(queue.fault, /more than 2\^32 bytes/);
  bench.close();
});

test("Queue.pop() refuses a readable part above CHAIN_BYTES_MAX", () => {
  expectFault(
    [
      { addr: RAM, len: CHAIN_BYTES_MAX, flags: NEXT, next: 1 },
      { addr: RAM, len: 1 },
    ],
    /more than 1048576 readable bytes, CHAIN_BYTES_MAX/,
  );
});

test("Queue.pop() takes a readable part of CHAIN_BYTES_MAX", () => {
  const { slot, bench } = popRaw([{ addr: RAM, len: CHAIN_BYTES_MAX }]);
  assert.ok(slot >= 0);
  bench.close();
});

// Indirect descriptors (virtio v1.2 §2.7.5.3)

/** A queue whose descriptor 0 refers to `table`, at any address. */
function popIndirect(table: Desc[], { skew = 0, head = {} as Partial<Desc>, ...options } = {}) {
  const ram = new MockRam();
  const block = ram.alloc(16 * table.length + 16);
  const all = pair({ ...options, ram });
  for (const [index, desc] of table.entries()) all.driver.writeDesc(index, desc, block.gpa + skew);
  const len = 16 * table.length;
  all.driver.writeDesc(0, { addr: block.gpa + skew, len, flags: INDIRECT, ...head });
  all.driver.offer(0);
  return { ...all, slot: all.queue.pop() };
}

function expectIndirectFault(table: Desc[], why: RegExp, options = {}): void {
  const { queue, slot, bench } = popIndirect(table, options);
  assert.is(slot, FAULT);
  assert.match(queue.fault, why);
  bench.close();
}

const ONE_READABLE = [{ addr: RAM, len: 5 }];

test("Queue.pop() follows an indirect table, aligned or not", () => {
  for (const skew of [0, 1, 2, 15]) {
    const { queue, slot, bench } = popIndirect(
      [
        { addr: RAM, len: 5, flags: NEXT, next: 1 },
        { addr: RAM, len: 7, flags: WRITE },
      ],
      { skew },
    );
    assert.is(queue.chains.readableBytes[slot], 5);
    assert.is(queue.chains.writableBytes[slot], 7);
    bench.close();
  }
});

test("Queue.pop() ignores WRITE in the descriptor of an indirect table (§2.7.5.3.2)", () => {
  const { slot, bench } = popIndirect(ONE_READABLE, { head: { flags: INDIRECT | WRITE } });
  assert.ok(slot >= 0);
  bench.close();
});

test("Queue.pop() takes descriptors followed by an indirect table (§2.7.5.3.2)", () => {
  const ram = new MockRam();
  const block = ram.alloc(16);
  const { driver, queue, bench } = pair({ ram });
  driver.writeDesc(0, { addr: RAM, len: 5, flags: WRITE }, block.gpa);
  driver.writeDesc(0, { addr: RAM, len: 3, flags: NEXT, next: 1 });
  driver.writeDesc(1, { addr: block.gpa, len: 16, flags: INDIRECT });
  driver.offer(0);
  const slot = queue.pop();
  assert.is(queue.chains.readableBytes[slot], 3);
  assert.is(queue.chains.writableBytes[slot], 5);
  bench.close();
});

test("Queue.pop() takes a queue-sized chain from an indirect table larger than the queue", () => {
  const table = Array.from({ length: 20 }, (_, i) => ({
    addr: RAM,
    len: 1,
    flags: i < 7 ? NEXT : 0,
    next: i + 1,
  }));
  const { queue, slot, bench } = popIndirect(table);
  assert.is(queue.chains.readableBytes[slot], 8);
  bench.close();
});

test("Queue.pop() refuses an indirect table inside an indirect table (§2.7.5.3.1)", () => {
  const table = [{ addr: RAM, len: 16, flags: INDIRECT }];
  expectIndirectFault(table, /an indirect table inside an indirect table/);
});

test("Queue.pop() refuses INDIRECT together with NEXT (§2.7.5.3.1)", () => {
  expectIndirectFault(ONE_READABLE, /INDIRECT and NEXT/, { head: { flags: INDIRECT | NEXT } });
});

test("Queue.pop() refuses an indirect table that was not negotiated (§2.7.5.3.1)", () => {
  const all = pair({ features: VERSION_1_ONLY });
  all.driver.writeDesc(0, { addr: RAM, len: 16, flags: INDIRECT });
  all.driver.offer(0);
  assert.is(all.queue.pop(), FAULT);
  assert.match(all.queue.fault, /without VIRTIO_RING_F_INDIRECT_DESC/);
  all.bench.close();
});

test("Queue.pop() refuses an indirect table of a size that is no table", () => {
  for (const len of [0, 1, 15, 17]) {
    expectIndirectFault(ONE_READABLE, /an indirect table of \d+ bytes/, { head: { len } });
  }
});

test("Queue.pop() refuses an indirect table outside RAM, or across its end", () => {
  for (const addr of [0, RAM - 8, RAM + RAM_BYTES - 8, 2n ** 64n - 8n]) {
    expectIndirectFault(ONE_READABLE, /an indirect table outside RAM/, { head: { addr } });
  }
  expectIndirectFault(ONE_READABLE, /outside RAM/, { head: { len: 0xffff_fff0 } });
});

test("Queue.pop() refuses a successor outside its indirect table", () => {
  expectIndirectFault([{ addr: RAM, len: 1, flags: NEXT, next: 1 }], /next 1 in a table of 1/);
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
  assert.is(queue.pop(), BLOCKED);
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

test("Queue.suppressNotifications() sets VIRTQ_USED_F_NO_NOTIFY without event index (§2.7.10)", () => {
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
