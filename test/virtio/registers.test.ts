import { test } from "uvu";
import * as assert from "uvu/assert";
import * as mmio from "../../host/virtio/mmio.js";
import * as reg from "../../host/virtio/registers.js";
import { MockQueue } from "./mock-driver.js";
import { MockRam } from "./mock-ram.js";
import { Bench, RecordingBackend } from "./rig.js";

const VERSION_1 = 1n << reg.VIRTIO_F_VERSION_1;
const INDIRECT_DESC = 1n << reg.VIRTIO_RING_F_INDIRECT_DESC;
const EVENT_IDX = 1n << reg.VIRTIO_RING_F_EVENT_IDX;

function bench(options = {}) {
  const made = new Bench(options);
  const backend = new RecordingBackend();
  made.registers.backend = backend;
  return Object.assign(made, { backend });
}

/** A bench whose driver has come as far as FEATURES_OK. */
function negotiated(options = {}) {
  const made = bench(options);
  assert.ok(made.driver.negotiate());
  return made;
}

/** A queue of ours that the driver has described, but not enabled. */
function described(made: Bench, options: { index?: number; size?: number } = {}) {
  const { index = 0, size = 64 } = options;
  const queue = new MockQueue(made.ram, { index, size });
  made.driver.describeQueue(queue);
  return queue;
}

function enable(made: Bench): void {
  made.driver.write(mmio.VIRTIO_MMIO_QUEUE_READY, 1);
}

function isReady(made: Bench): boolean {
  return made.driver.read(mmio.VIRTIO_MMIO_QUEUE_READY) === 1;
}

test("MmioTransport says magic, version, device and vendor (§4.2.2.1)", () => {
  const { driver } = bench();
  assert.is(driver.read(mmio.VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
  assert.is(driver.read(mmio.VIRTIO_MMIO_VERSION), 2);
  assert.is(driver.read(mmio.VIRTIO_MMIO_DEVICE_ID), 4);
  assert.is(driver.read(mmio.VIRTIO_MMIO_VENDOR_ID), 0x4b4c5542);
});

test("RegisterFile takes a driver from reset to DRIVER_OK (§3.1.1)", () => {
  const made = bench({ features: 1n << 50n });
  made.driver.start();
  assert.is(made.driver.status, 15);
  assert.equal(made.backend.calls, ["reset", `activate 0x${(1n << 50n).toString(16)}`]);
  assert.equal(made.log, []);
});

// Features (virtio v1.2 §2.2)

test("RegisterFile offers the device's features and the transport's", () => {
  const { driver } = bench({ features: 0b101n });
  assert.is(driver.readFeatures(), 0b101n | VERSION_1 | INDIRECT_DESC | EVENT_IDX);
  driver.write(mmio.VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
  assert.is(driver.read(mmio.VIRTIO_MMIO_DEVICE_FEATURES), 0);
  driver.write(mmio.VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0xffff_ffff);
  assert.is(driver.read(mmio.VIRTIO_MMIO_DEVICE_FEATURES), 0);
});

test("RegisterFile refuses a device that offers features of the transport", () => {
  const VIRTIO_F_RING_PACKED = 34n;
  assert.throws(() => bench({ features: 1n << VIRTIO_F_RING_PACKED }), /0x400000000/);
  assert.throws(() => bench({ features: 1n << 24n }), /not the device's own/);
});

test("RegisterFile refuses FEATURES_OK when a feature was not offered (§2.2.1)", () => {
  for (const bit of [1n, 34n, 63n]) {
    const { driver, log } = bench({ features: 1n });
    assert.not(driver.negotiate(VERSION_1 | (1n << bit)));
    assert.match(log.join(), /driver bug: accepted features 0x[0-9a-f]+, which were not offered/);
    assert.not(driver.needsReset, "the driver finds out by reading the status back");
  }
});

test("RegisterFile refuses FEATURES_OK when a feature above bit 63 was accepted", () => {
  const { driver, log } = bench();
  driver.write(mmio.VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
  driver.write(mmio.VIRTIO_MMIO_DRIVER_FEATURES, 1);
  assert.not(driver.negotiate());
  assert.match(log.join(), /above bit 63/);
});

test("RegisterFile takes zeros above feature bit 63, which Linux may write", () => {
  const { driver } = bench();
  driver.write(mmio.VIRTIO_MMIO_DRIVER_FEATURES_SEL, 3);
  driver.write(mmio.VIRTIO_MMIO_DRIVER_FEATURES, 0);
  assert.ok(driver.negotiate());
});

test("RegisterFile refuses FEATURES_OK without VIRTIO_F_VERSION_1 (§6.1)", () => {
  const { driver, log } = bench();
  assert.not(driver.negotiate(0n));
  assert.match(log.join(), /VIRTIO_F_VERSION_1 not accepted/);
});

test("RegisterFile lets a driver try again with fewer features after a reset", () => {
  const { driver } = bench({ features: 1n });
  assert.not(driver.negotiate(VERSION_1 | 2n));
  driver.reset();
  assert.ok(driver.negotiate(VERSION_1));
});

test("RegisterFile refuses features after FEATURES_OK (§3.1.1)", () => {
  const made = negotiated();
  made.driver.writeFeatures(VERSION_1);
  made.expectFault(/driver bug: features written after FEATURES_OK/);
});

test("RegisterFile refuses FEATURES_OK before ACKNOWLEDGE and DRIVER (§3.1.1)", () => {
  for (const before of [0, reg.ACKNOWLEDGE, reg.DRIVER]) {
    const { driver, log } = bench();
    driver.writeFeatures(VERSION_1);
    driver.write(mmio.VIRTIO_MMIO_STATUS, before | reg.FEATURES_OK);
    assert.is(driver.status, before);
    assert.match(log.join(), /FEATURES_OK before ACKNOWLEDGE and DRIVER/);
  }
});

// Status (virtio v1.2 §2.1)

test("RegisterFile refuses status bits cleared without reset (§2.1.1)", () => {
  const made = negotiated();
  made.driver.write(mmio.VIRTIO_MMIO_STATUS, reg.ACKNOWLEDGE);
  made.expectFault(/driver bug: status bits 0xa cleared without reset/);
  assert.is(made.driver.status & 0xf, 11, "and they stay set");
});

test("RegisterFile refuses DRIVER_OK without FEATURES_OK (§3.1.1)", () => {
  const made = bench();
  made.driver.progress(reg.ACKNOWLEDGE | reg.DRIVER | reg.DRIVER_OK);
  made.expectFault(/DRIVER_OK without FEATURES_OK/);
  assert.equal(made.backend.calls, []);
});

test("RegisterFile does not let a driver set or clear DEVICE_NEEDS_RESET", () => {
  const made = bench();
  made.driver.progress(reg.ACKNOWLEDGE | reg.DEVICE_NEEDS_RESET);
  assert.not(made.driver.needsReset);
  made.registers.fail("for the test");
  made.driver.write(mmio.VIRTIO_MMIO_STATUS, reg.ACKNOWLEDGE);
  assert.ok(made.driver.needsReset);
});

test("RegisterFile raises a configuration interrupt with DEVICE_NEEDS_RESET (§2.1.2)", () => {
  const made = bench();
  made.driver.start();
  made.registers.fail("for the test");
  assert.is(made.interrupts, 1);
  assert.is(made.driver.takeInterrupt(), reg.INT_CONFIG);
  made.registers.fail("again");
  assert.is(made.interrupts, 1, "once");
});

test("RegisterFile raises no interrupt before DRIVER_OK (§2.1.2)", () => {
  const made = negotiated();
  made.registers.fail("for the test");
  assert.is(made.interrupts, 0);
});

test("RegisterFile.abandon() fails every driver that comes back", () => {
  const made = bench();
  made.driver.start();
  made.registers.abandon("the device failed for good");
  made.expectFault(/failed for good/);
  made.driver.start();
  made.expectFault(/failed for good/);
  assert.is(made.driver.takeInterrupt(), reg.INT_CONFIG);
  assert.equal(
    made.backend.calls.filter((call) => call.startsWith("activate")),
    ["activate 0x0"],
  );
});

test("RegisterFile serves nothing after FAILED (§2.1)", () => {
  const made = bench();
  made.driver.start();
  made.driver.progress(reg.FAILED);
  made.backend.calls.length = 0;
  made.driver.notify(0);
  assert.equal(made.backend.calls, []);
});

test("RegisterFile forgets everything on reset (§2.4.1, §4.2.2.1)", () => {
  const made = bench();
  const [queue] = made.driver.start({ queues: [{ size: 8 }] });
  queue!.add({ writable: [4] });
  made.registers.queues[0]!.pop();
  made.registers.notifyUsed();
  made.backend.calls.length = 0;
  made.driver.write(mmio.VIRTIO_MMIO_STATUS, 0);
  assert.is(made.driver.status, 0);
  assert.is(made.driver.read(mmio.VIRTIO_MMIO_INTERRUPT_STATUS), 0);
  assert.not(isReady(made));
  assert.is(made.registers.queues[0]!.chains.count, 0);
  assert.is(made.registers.queueSize, 64);
  assert.equal(made.backend.calls, ["reset"]);
  assert.not(made.driver.negotiate(0n), "features are forgotten as well");
});

// Interrupts (virtio v1.2 §4.2.2)

test("RegisterFile keeps InterruptStatus where vCPU threads see it", () => {
  const made = bench();
  made.registers.notifyUsed();
  assert.is(Atomics.load(made.interruptStatus, 1), reg.INT_VRING);
  assert.is(made.interruptStatus[0], 0);
  Atomics.and(made.interruptStatus, 1, ~reg.INT_VRING);
  assert.is(made.driver.read(mmio.VIRTIO_MMIO_INTERRUPT_STATUS), 0);
});

test("RegisterFile clears the bits that InterruptACK names, and no others", () => {
  const made = bench();
  made.driver.start();
  made.registers.notifyUsed();
  made.registers.updateConfig(new Uint8Array(4));
  made.driver.write(mmio.VIRTIO_MMIO_INTERRUPT_ACK, 0xffff_fffc | reg.INT_CONFIG);
  assert.is(made.driver.read(mmio.VIRTIO_MMIO_INTERRUPT_STATUS), reg.INT_VRING);
});

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

// Configuration space (virtio v1.2 §2.5, §4.2.2.2)

test("MmioTransport reads config space at any offset, in 8, 16 and 32 bits", () => {
  const { driver, registers } = bench();
  registers.updateConfig(Uint8Array.from([0x11, 0x22, 0x33, 0x84, 0x55]));
  const read = (offset: number, bytes: number) =>
    driver.transport.read(mmio.VIRTIO_MMIO_CONFIG + offset, bytes);
  assert.is(read(0, 4), 0x84332211);
  assert.is(read(1, 4), 0x55843322);
  assert.is(read(3, 1), 0x84);
  assert.is(read(3, 2), 0x5584);
});

test("MmioTransport reads 0 beyond the end of config space", () => {
  const { driver, registers } = bench();
  registers.updateConfig(Uint8Array.from([0x11, 0x22]));
  assert.is(driver.transport.read(mmio.VIRTIO_MMIO_CONFIG, 4), 0x2211);
  assert.is(driver.transport.read(mmio.VIRTIO_MMIO_CONFIG + 1, 2), 0x22);
  assert.is(driver.transport.read(mmio.VIRTIO_MMIO_BYTES - 1, 4), 0);
});

test("MmioTransport reads 0 for config accesses of odd width, and says so once", () => {
  const { driver, registers, log } = bench();
  registers.updateConfig(new Uint8Array(16).fill(0xff));
  for (const bytes of [0, 3, 5, 7, 8, 16]) {
    assert.is(driver.transport.read(mmio.VIRTIO_MMIO_CONFIG, bytes), 0);
  }
  assert.is(log.length, 1);
});

test("MmioTransport ignores writes to a read-only config space, of any width", () => {
  const { driver, registers, log } = bench();
  registers.updateConfig(Uint8Array.from([1, 2, 3, 4]));
  for (const bytes of [1, 2, 3, 4, 8]) {
    driver.transport.write(mmio.VIRTIO_MMIO_CONFIG + 1, bytes, 0xff);
  }
  assert.is(driver.transport.read(mmio.VIRTIO_MMIO_CONFIG, 4), 0x04030201);
  assert.is(log.length, 1);
});

test("RegisterFile.updateConfig() changes the generation and tells a running driver (§2.5)", () => {
  const made = bench();
  made.registers.updateConfig(new Uint8Array(4));
  assert.is(made.interrupts, 0);
  made.driver.start();
  const before = made.driver.read(mmio.VIRTIO_MMIO_CONFIG_GENERATION);
  made.registers.updateConfig(new Uint8Array(4).fill(1));
  assert.is.not(made.driver.read(mmio.VIRTIO_MMIO_CONFIG_GENERATION), before);
  assert.is(made.driver.takeInterrupt(), reg.INT_CONFIG);
});

test("RegisterFile.updateConfig() copies what it is given", () => {
  const made = bench();
  const bytes = Uint8Array.from([1]);
  made.registers.updateConfig(bytes);
  bytes[0] = 2;
  assert.is(made.driver.transport.read(mmio.VIRTIO_MMIO_CONFIG, 1), 1);
});

// Accesses that are wrong (virtio v1.2 §4.2.2.2)

test("MmioTransport ignores register accesses that are not aligned 32 bits, said once", () => {
  const { driver, log } = bench();
  for (const [offset, bytes] of [
    [mmio.VIRTIO_MMIO_MAGIC_VALUE, 1],
    [mmio.VIRTIO_MMIO_MAGIC_VALUE, 2],
    [mmio.VIRTIO_MMIO_MAGIC_VALUE, 8],
    [mmio.VIRTIO_MMIO_MAGIC_VALUE + 1, 4],
    [mmio.VIRTIO_MMIO_MAGIC_VALUE + 2, 2],
    [mmio.VIRTIO_MMIO_CONFIG - 1, 4],
  ] as const) {
    assert.is(driver.transport.read(offset, bytes), 0);
    driver.transport.write(mmio.VIRTIO_MMIO_STATUS + (offset % 4), bytes === 4 ? 2 : bytes, 1);
  }
  assert.is(driver.status, 0);
  assert.is(log.length, 1);
});

test("MmioTransport reads 0 from write-only registers and ignores writes to read-only ones", () => {
  const { driver, log } = bench();
  for (const offset of [
    mmio.VIRTIO_MMIO_QUEUE_NOTIFY,
    mmio.VIRTIO_MMIO_QUEUE_DESC_LOW,
    0x200 - 4,
  ]) {
    assert.is(driver.read(offset), 0);
  }
  driver.write(mmio.VIRTIO_MMIO_MAGIC_VALUE, 1);
  assert.is(driver.read(mmio.VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
  assert.is(log.length, 2);
});

test("MmioTransport has no shared memory: length and base are all ones (§4.2.2)", () => {
  const { driver } = bench();
  driver.write(mmio.VIRTIO_MMIO_SHM_SEL, 0);
  for (let offset = 0xb0; offset <= 0xbc; offset += 4) {
    assert.is(driver.read(offset), 0xffff_ffff);
  }
});

test("MmioTransport answers every offset and width without throwing", () => {
  const made = negotiated();
  for (let offset = 0; offset < mmio.VIRTIO_MMIO_BYTES; offset += 1) {
    for (const bytes of [1, 2, 4, 8]) {
      const value = made.driver.transport.read(offset, bytes);
      assert.ok(Number.isInteger(value) && value >= 0);
      made.driver.transport.write(offset, bytes, 0xffff_ffff);
    }
  }
});

test.run();
