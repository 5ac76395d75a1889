import { test } from "uvu";
import * as assert from "uvu/assert";
import * as mmio from "../../host/virtio/mmio.js";
import * as reg from "../../host/virtio/registers.js";
import { bench, negotiated } from "./register-bench.js";

test("MmioTransport says magic, version, device and vendor (§4.2.2.1)", () => {
  const { driver } = bench();
  assert.is(driver.read(mmio.VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
  assert.is(driver.read(mmio.VIRTIO_MMIO_VERSION), 2);
  assert.is(driver.read(mmio.VIRTIO_MMIO_DEVICE_ID), 4);
  assert.is(driver.read(mmio.VIRTIO_MMIO_VENDOR_ID), 0x4b4c5542);
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
