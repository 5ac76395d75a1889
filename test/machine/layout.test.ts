import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  DEVICE_GSIS,
  DEVICES_MAX,
  GIB,
  MIB,
  ramRegions,
  virtioMmioWindow,
} from "../../host/machine/layout.js";

test("ramRegions() keeps small RAM in one piece", () => {
  assert.equal(ramRegions(512 * MIB), [{ gpa: 0, bytes: 512 * MIB, offset: 0 }]);
});

test("ramRegions() continues above 4 GiB what does not fit below the devices", () => {
  const [low, high] = ramRegions(5 * GIB);
  assert.equal(low, { gpa: 0, bytes: 0xd0000000, offset: 0 });
  assert.equal(high, { gpa: 4 * GIB, bytes: 5 * GIB - 0xd0000000, offset: 0xd0000000 });
});

test("ramRegions() refuses what boots nothing and what nobody has", () => {
  assert.throws(() => ramRegions(15 * MIB), /between 16 MiB and 1 TiB/);
  assert.throws(() => ramRegions(1025 * GIB), /between 16 MiB and 1 TiB/);
});

test("virtio-mmio windows start at 0xd0000000, 4 KiB each", () => {
  assert.is(virtioMmioWindow(0).base, 0xd0000000);
  assert.is(virtioMmioWindow(3).base, 0xd0003000);
});

test("each device has an interrupt line of its own, and none of a legacy part", () => {
  assert.is(new Set(DEVICE_GSIS).size, DEVICES_MAX);
  for (const legacy of [0, 1, 2, 3, 4, 8, 9, 13]) {
    assert.not.ok(DEVICE_GSIS.includes(legacy as never), `GSI ${legacy}`);
  }
  assert.throws(() => virtioMmioWindow(DEVICES_MAX), /16 interrupt lines/);
});

test.run();
