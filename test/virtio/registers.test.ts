import { test } from "uvu";
import * as assert from "uvu/assert";
import * as mmio from "../../host/virtio/mmio.js";
import * as reg from "../../host/virtio/registers.js";
import { bench, isReady, negotiated } from "./register-bench.js";

const VERSION_1 = 1n << reg.VIRTIO_F_VERSION_1;
const INDIRECT_DESC = 1n << reg.VIRTIO_RING_F_INDIRECT_DESC;
const EVENT_IDX = 1n << reg.VIRTIO_RING_F_EVENT_IDX;

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
  made.registers.notifyUsed(made.registers.queues[0]!);
  made.backend.calls.length = 0;
  made.driver.write(mmio.VIRTIO_MMIO_STATUS, 0);
  assert.is(made.driver.status, 0);
  assert.is(made.driver.read(mmio.VIRTIO_MMIO_INTERRUPT_STATUS), 0);
  assert.not(isReady(made));
  assert.is(made.registers.queues[0]!.chains.count, 0);
  assert.is(made.registers.queueSize, 64);
  assert.equal(made.backend.calls, ["reset"]);
  made.driver.progress(reg.ACKNOWLEDGE | reg.DRIVER);
  made.driver.progress(reg.FEATURES_OK);
  assert.is(made.driver.status & reg.FEATURES_OK, 0, "features are forgotten as well");
});

// Interrupts (virtio v1.2 §4.2.2)

test("RegisterFile keeps InterruptStatus where vCPU threads see it", () => {
  const made = bench();
  made.registers.notifyUsed(made.registers.queues[0]!);
  assert.is(Atomics.load(made.interruptStatus, 1), reg.INT_VRING);
  assert.is(made.interruptStatus[0], 0);
  Atomics.and(made.interruptStatus, 1, ~reg.INT_VRING);
  assert.is(made.driver.read(mmio.VIRTIO_MMIO_INTERRUPT_STATUS), 0);
});

test("RegisterFile clears the bits that InterruptACK names, and no others", () => {
  const made = bench({ configBytes: 4 });
  made.driver.start();
  made.registers.notifyUsed(made.registers.queues[0]!);
  made.registers.updateConfig(new Uint8Array(4).fill(1));
  made.driver.write(mmio.VIRTIO_MMIO_INTERRUPT_ACK, 0xffff_fffc | reg.INT_CONFIG);
  assert.is(made.driver.read(mmio.VIRTIO_MMIO_INTERRUPT_STATUS), reg.INT_VRING);
});

test.run();
