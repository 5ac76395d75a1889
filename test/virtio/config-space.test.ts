// The configuration space from the driver's side (virtio v1.2 §2.5, §4.2.2.2).

import { test } from "uvu";
import * as assert from "uvu/assert";
import * as mmio from "../../host/virtio/mmio.js";
import * as reg from "../../host/virtio/registers.js";
import { bench } from "./register-bench.js";

/** A bench whose config space holds `space`, and accesses to it. */
function made(...space: number[]) {
  const all = bench({ configBytes: space.length });
  all.registers.updateConfig(Uint8Array.from(space));
  const { transport } = all.driver;
  const read = (offset: number, bytes: number) =>
    transport.read(mmio.VIRTIO_MMIO_CONFIG + offset, bytes);
  const write = (offset: number, bytes: number, value: number) =>
    transport.write(mmio.VIRTIO_MMIO_CONFIG + offset, bytes, value);
  return { ...all, read, write };
}

test("MmioTransport reads config space at any offset, in 8, 16 and 32 bits", () => {
  const { read } = made(0x11, 0x22, 0x33, 0x84, 0x55);
  assert.is(read(0, 4), 0x84332211);
  assert.is(read(1, 4), 0x55843322);
  assert.is(read(3, 1), 0x84);
  assert.is(read(3, 2), 0x5584);
});

test("MmioTransport reads 0 beyond the end of config space", () => {
  const { read } = made(0x11, 0x22);
  assert.is(read(0, 4), 0x2211);
  assert.is(read(1, 2), 0x22);
  assert.is(read(mmio.VIRTIO_MMIO_BYTES - mmio.VIRTIO_MMIO_CONFIG - 1, 4), 0);
});

test("MmioTransport reads 0 for config accesses of odd width, and says so once", () => {
  const { read, log } = made(...new Array(16).fill(0xff));
  for (const bytes of [0, 3, 5, 7, 8, 16]) assert.is(read(0, bytes), 0);
  assert.is(log.length, 1);
});

test("MmioTransport passes a write of 8, 16 or 32 bits on, and leaves what is read alone", () => {
  const { read, write, backend, log } = made(1, 2, 3, 4);
  write(3, 1, 0xffff_ff05);
  write(1, 2, 0xffff_0607);
  write(0, 4, -1);
  const calls = ["configure 3 1 0x5", "configure 1 2 0x607", "configure 0 4 0xffffffff"];
  assert.equal(backend.calls, calls);
  assert.is(read(0, 4), 0x04030201);
  assert.equal(log, []);
});

test("RegisterFile drops a write that is not inside config space, and says so once", () => {
  for (const space of [[], [1, 2, 3, 4]]) {
    const { write, backend, log } = made(...space);
    for (const [offset, bytes] of [
      [space.length, 1],
      [3, 2],
      [1, 4],
      [0, 3],
      [0, 8],
      [0, 0],
      [mmio.VIRTIO_MMIO_BYTES - mmio.VIRTIO_MMIO_CONFIG - 1, 4],
    ] as const) {
      write(offset, bytes, 0xff);
    }
    assert.equal(backend.calls, []);
    assert.is(log.length, 1);
  }
});

test("RegisterFile drops writes to a device that needs a reset", () => {
  const { write, backend, registers } = made(1);
  registers.fail("broken");
  write(0, 1, 2);
  assert.equal(backend.calls, []);
});

test("MmioTransport.mustWait() is about config space and its generation until settled", () => {
  const { driver, backend, registers } = made(1, 2, 3, 4);
  const transport = driver.transport as mmio.MmioTransport;
  const waits = () =>
    [mmio.VIRTIO_MMIO_STATUS, mmio.VIRTIO_MMIO_CONFIG_GENERATION, mmio.VIRTIO_MMIO_CONFIG].map(
      (offset) => transport.mustWait(offset),
    );
  assert.equal(waits(), [false, false, false]);
  backend.configSettled = false;
  assert.equal(waits(), [false, true, true]);
  registers.fail("broken");
  assert.equal(waits(), [false, false, false], "there is nobody to wait for");
  driver.reset();
  assert.equal(waits(), [false, true, true]);
  registers.abandon("given up");
  driver.reset();
  assert.equal(waits(), [false, false, false], "there will never be anybody");
});

test("RegisterFile.updateConfig() changes the generation and tells a running driver (§2.5)", () => {
  const { driver, registers } = made(0);
  registers.updateConfig(Uint8Array.of(1));
  assert.is(driver.takeInterrupt(), 0);
  driver.start();
  const generation = () => driver.read(mmio.VIRTIO_MMIO_CONFIG_GENERATION);
  const before = generation();
  registers.updateConfig(Uint8Array.of(2));
  assert.is.not(generation(), before);
  assert.is(driver.takeInterrupt(), reg.INT_CONFIG);
});

test("RegisterFile.updateConfig() with the same bytes is no change", () => {
  const { driver, registers } = made(7, 8);
  driver.start();
  const before = driver.read(mmio.VIRTIO_MMIO_CONFIG_GENERATION);
  registers.updateConfig(Uint8Array.of(7, 8));
  assert.is(driver.read(mmio.VIRTIO_MMIO_CONFIG_GENERATION), before);
  assert.is(driver.takeInterrupt(), 0);
});

test("RegisterFile.updateConfig() copies what it is given", () => {
  const { registers, read } = made(0);
  const bytes = Uint8Array.of(1);
  registers.updateConfig(bytes);
  bytes[0] = 2;
  assert.is(read(0, 1), 1);
});

test.run();
