import { test } from "uvu";
import * as assert from "uvu/assert";
import * as mmio from "../../host/virtio/mmio.js";
import { bench, negotiated } from "./register-bench.js";

test("MmioTransport says magic, version, device and vendor (§4.2.2.1)", () => {
  const { driver } = bench();
  assert.is(driver.read(mmio.VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
  assert.is(driver.read(mmio.VIRTIO_MMIO_VERSION), 2);
  assert.is(driver.read(mmio.VIRTIO_MMIO_DEVICE_ID), 4);
  assert.is(driver.read(mmio.VIRTIO_MMIO_VENDOR_ID), 0x4b4c5542);
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
