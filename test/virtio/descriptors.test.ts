import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Desc } from "../../host/testing/mock-queue.js";
import { MockRam } from "../../host/testing/mock-ram.js";
import { SEGMENTS_IN_FLIGHT_MAX } from "../../host/virtio/chains.js";
import { VIRTIO_F_VERSION_1 } from "../../host/virtio/registers.js";
import {
  FAULT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../../host/virtio/virtqueue.js";
import { CHAIN_BYTES_MAX } from "../../host/wire/format.js";
import { expectFault, pair, popRaw } from "./queue-bench.js";

const NEXT = VIRTQ_DESC_F_NEXT;
const WRITE = VIRTQ_DESC_F_WRITE;
const INDIRECT = VIRTQ_DESC_F_INDIRECT;
const VERSION_1_ONLY = 1n << VIRTIO_F_VERSION_1;

const RAM = 0x10_0000;
const RAM_BYTES = 4 * 1024 * 1024;

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

test("Queue.pop() spends no segments on writable bytes beyond CHAIN_BYTES_MAX", () => {
  const descs = Array.from({ length: 256 }, (_, i) => ({
    addr: RAM,
    len: i === 0 ? CHAIN_BYTES_MAX : 1,
    flags: WRITE | (i < 255 ? NEXT : 0),
    next: i + 1,
  }));
  const { queue, slot, driver, bench } = popRaw(descs, { size: 256 });
  for (const head of [1, 2, 3, 4]) {
    driver.writeDesc(head, {
      addr: RAM,
      len: CHAIN_BYTES_MAX,
      flags: WRITE | NEXT,
      next: head + 1,
    });
  }
  for (const head of [4, 3, 2, 1]) driver.offer(head);
  for (let i = 0; i < 4; i += 1) assert.ok(queue.pop() >= 0);
  assert.is(queue.chains.writableBytes[slot], CHAIN_BYTES_MAX);
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

test.run();
