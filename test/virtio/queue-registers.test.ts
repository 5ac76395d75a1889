import { test } from "uvu";
import * as assert from "uvu/assert";
import { MockRam } from "../../host/testing/mock-ram.js";
import * as mmio from "../../host/virtio/mmio.js";
import * as reg from "../../host/virtio/registers.js";
import { bench, described, enable, isReady, negotiated } from "./register-bench.js";

// Queues (virtio v1.2 §2.7, §4.2.2)

test("RegisterFile says that a queue outside the range is not there, and is not harmed", () => {
  const made = negotiated();
  for (const index of [1, 2 ** 16, 0xffff_ffff]) {
    made.driver.write(mmio.VIRTIO_MMIO_QUEUE_SEL, index);
    assert.is(made.driver.read(mmio.VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    assert.is(made.driver.read(mmio.VIRTIO_MMIO_QUEUE_READY), 0);
  }
  assert.not(made.driver.needsReset, "asking is how a driver finds out");
});

test("RegisterFile refuses to change a queue that queue_select out of range selects", () => {
  const registers = [
    mmio.VIRTIO_MMIO_QUEUE_NUM,
    mmio.VIRTIO_MMIO_QUEUE_READY,
    mmio.VIRTIO_MMIO_QUEUE_DESC_LOW,
    mmio.VIRTIO_MMIO_QUEUE_USED_HIGH,
  ];
  for (const register of registers) {
    const made = negotiated();
    made.driver.write(mmio.VIRTIO_MMIO_QUEUE_SEL, 1);
    made.driver.write(register, 1);
    made.expectFault(/of queue 1, which is not there/);
  }
});

test("RegisterFile refuses a queue size of 0, no power of two, or above the maximum", () => {
  for (const size of [0, 3, 63, 65, 128, 2 ** 16, 0xffff_ffff, 2 ** 31]) {
    const made = negotiated();
    made.driver.write(mmio.VIRTIO_MMIO_QUEUE_NUM, size);
    made.expectFault(/queue 0: size \d+, not a power of two up to 64/);
  }
});

test("RegisterFile takes every power of two up to the maximum as queue size", () => {
  for (const size of [1, 2, 4, 8, 16, 32, 64]) {
    const made = negotiated();
    described(made, { size });
    enable(made);
    assert.ok(isReady(made));
    assert.is(made.registers.queues[0]!.size, size);
    made.close();
  }
});

test("RegisterFile refuses to change a queue after queue_ready (§4.2.2.2)", () => {
  const registers = [
    mmio.VIRTIO_MMIO_QUEUE_NUM,
    mmio.VIRTIO_MMIO_QUEUE_DESC_LOW,
    mmio.VIRTIO_MMIO_QUEUE_DESC_HIGH,
    mmio.VIRTIO_MMIO_QUEUE_AVAIL_LOW,
    mmio.VIRTIO_MMIO_QUEUE_USED_LOW,
  ];
  for (const register of registers) {
    const made = negotiated();
    const queue = described(made);
    enable(made);
    made.driver.write(register, 8);
    made.expectFault(/queue 0: .* written while queue_ready/);
    assert.is(made.registers.queues[0]!.size, 64);
    assert.is(made.registers.queues[0]!.desc, queue.desc.gpa);
    made.close();
  }
});

test("RegisterFile refuses queue_ready before FEATURES_OK (§3.1.1)", () => {
  const made = bench();
  made.driver.progress(reg.ACKNOWLEDGE | reg.DRIVER);
  described(made);
  enable(made);
  made.expectFault(/queue_ready before FEATURES_OK/);
  assert.not(isReady(made));
});

test("RegisterFile refuses a queue_ready that is neither 0 nor 1", () => {
  const made = negotiated();
  described(made);
  made.driver.write(mmio.VIRTIO_MMIO_QUEUE_READY, 2);
  made.expectFault(/queue_ready 2/);
});

const PARTS = {
  "descriptor table": mmio.VIRTIO_MMIO_QUEUE_DESC_LOW,
  "available ring": mmio.VIRTIO_MMIO_QUEUE_AVAIL_LOW,
  "used ring": mmio.VIRTIO_MMIO_QUEUE_USED_LOW,
};

function expectRingFault(part: keyof typeof PARTS, address: number, why: RegExp): void {
  const made = negotiated();
  described(made);
  made.driver.writeAddress(PARTS[part], address);
  enable(made);
  made.expectFault(why);
  assert.not(isReady(made));
  made.close();
}

test("RegisterFile refuses rings outside RAM, or across its end", () => {
  const { gpa, end } = new MockRam();
  for (const part of Object.keys(PARTS) as (keyof typeof PARTS)[]) {
    for (const address of [0, gpa - 16, end - 16, end, 0xd000_0100, 2 ** 52]) {
      expectRingFault(part, address, new RegExp(`${part} at 0x[0-9a-f]+: \\d+ bytes not in RAM`));
    }
  }
});

test("RegisterFile refuses a ring in the device's own registers and config space", () => {
  expectRingFault("used ring", 0xd000_0000 + mmio.VIRTIO_MMIO_CONFIG, /used ring .* not in RAM/);
});

test("RegisterFile refuses a ring at 2^53 and above, whichever half is written first", () => {
  const made = negotiated();
  const queue = described(made);
  made.driver.write(mmio.VIRTIO_MMIO_QUEUE_DESC_HIGH, 0xffff_ffff);
  made.driver.write(mmio.VIRTIO_MMIO_QUEUE_DESC_LOW, queue.desc.gpa);
  enable(made);
  made.expectFault(/descriptor table/);
});

test("RegisterFile keeps the low half when the high half is written twice", () => {
  const made = negotiated();
  const queue = described(made);
  made.driver.write(mmio.VIRTIO_MMIO_QUEUE_DESC_HIGH, 0xffff_ffff);
  made.driver.write(mmio.VIRTIO_MMIO_QUEUE_DESC_HIGH, 0);
  enable(made);
  assert.is(made.registers.queues[0]!.desc, queue.desc.gpa);
});

test("RegisterFile refuses rings that are not aligned (§2.7.1)", () => {
  const { gpa } = new MockRam();
  expectRingFault("descriptor table", gpa + 0x1_0008, /not a multiple of 16/);
  expectRingFault("available ring", gpa + 0x1_0001, /not a multiple of 2/);
  expectRingFault("used ring", gpa + 0x1_0002, /not a multiple of 4/);
});

test("RegisterFile refuses a ring that overlaps another of its queue", () => {
  const made = negotiated();
  const queue = described(made);
  made.driver.writeAddress(mmio.VIRTIO_MMIO_QUEUE_USED_LOW, queue.desc.gpa + 16 * 64 - 4);
  enable(made);
  made.expectFault(/used ring: overlaps the descriptor table/);
});

test("RegisterFile refuses a ring that overlaps one of another queue", () => {
  const made = negotiated({ queueSizesMax: [64, 64] });
  const first = described(made);
  enable(made);
  described(made, { index: 1 });
  made.driver.writeAddress(mmio.VIRTIO_MMIO_QUEUE_USED_LOW, first.desc.gpa);
  enable(made);
  made.expectFault(/queue 1: used ring: overlaps the descriptor table/);
  assert.ok(made.registers.queues[0]!.ready);
});

test("RegisterFile refuses a ring that begins in front of another and reaches into it", () => {
  const made = negotiated();
  const queue = described(made);
  made.driver.writeAddress(mmio.VIRTIO_MMIO_QUEUE_AVAIL_LOW, queue.desc.gpa - 4);
  enable(made);
  made.expectFault(/available ring: overlaps the descriptor table/);
});

test("RegisterFile counts the event index behind a ring as part of it (§2.7)", () => {
  const { end } = new MockRam();
  expectRingFault("used ring", end - 4 - 8 * 64, /518 bytes not in RAM/);
  expectRingFault("available ring", end - 4 - 2 * 64, /134 bytes not in RAM/);
});

test("RegisterFile takes rings that touch each other", () => {
  const made = negotiated();
  const queue = described(made, { size: 8 });
  const start = made.ram.alloc(16 * 8 + 6 + 2 * 8 + 2 + 6 + 8 * 8).gpa;
  made.driver.writeAddress(mmio.VIRTIO_MMIO_QUEUE_DESC_LOW, start);
  made.driver.writeAddress(mmio.VIRTIO_MMIO_QUEUE_AVAIL_LOW, start + 16 * queue.size);
  made.driver.writeAddress(mmio.VIRTIO_MMIO_QUEUE_USED_LOW, start + 16 * queue.size + 24);
  enable(made);
  assert.ok(isReady(made));
});

test("RegisterFile refuses to stop a queue with requests in flight", () => {
  const made = bench();
  const [queue] = made.driver.start();
  queue!.add({ writable: [4] });
  made.registers.queues[0]!.pop();
  made.driver.write(mmio.VIRTIO_MMIO_QUEUE_READY, 0);
  made.expectFault(/queue 0: stopped with 1 in flight/);
});

test("RegisterFile stops an idle queue, and can start it again", () => {
  const made = bench();
  made.driver.start();
  made.driver.write(mmio.VIRTIO_MMIO_QUEUE_READY, 0);
  assert.not(isReady(made));
  enable(made);
  assert.ok(isReady(made));
  assert.not(made.driver.needsReset);
});

// Notifications (virtio v1.2 §2.3)

test("RegisterFile ignores a notify of a queue that is not ready", () => {
  const made = negotiated();
  made.driver.progress(reg.DRIVER_OK);
  made.backend.calls.length = 0;
  made.driver.notify(0);
  assert.equal(made.backend.calls, []);
  assert.not(made.driver.needsReset);
});

test("RegisterFile ignores a notify before DRIVER_OK (§3.1.1)", () => {
  const made = negotiated();
  described(made);
  enable(made);
  made.driver.notify(0);
  assert.equal(made.backend.calls, []);
});

test("RegisterFile ignores a notify of a queue that is not there, and says so once", () => {
  const made = bench();
  made.driver.start();
  for (const index of [1, 0xffff, 0xffff_ffff]) made.driver.notify(index);
  assert.equal(made.log, ["test0: driver bug: notify of queue 1, which is not there"]);
});

test("RegisterFile passes a notify of a running queue on", () => {
  const made = bench({ queueSizesMax: [64, 64] });
  made.driver.start({ queues: [{}, {}] });
  made.driver.notify(1);
  assert.is(made.backend.calls.at(-1), "kick 1");
});

test.run();
