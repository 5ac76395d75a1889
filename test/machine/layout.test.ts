import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  DEVICES_MAX,
  GIB,
  MIB,
  pciPlace,
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

const DEVICES = Array.from({ length: DEVICES_MAX }, (_, index) => index);

test("at most two devices have the same interrupt line, the first 16 their own", () => {
  const lines = DEVICES.map((index) => virtioMmioWindow(index).gsi);
  assert.is(new Set(lines.slice(0, 16)).size, 16);
  for (const gsi of lines) assert.ok(lines.filter((other) => other === gsi).length <= 2, `${gsi}`);
  for (const legacy of [0, 1, 2, 3, 4, 8, 9, 13]) {
    assert.not.ok(lines.includes(legacy as never), `GSI ${legacy}`);
  }
  assert.throws(() => virtioMmioWindow(DEVICES_MAX), /device 32/);
});

test("devices are in the order of --device on bus 0, and no two have the same place", () => {
  const places = DEVICES.map(pciPlace);
  const numbers = places.map(({ slot, function: number }) => slot * 8 + number);
  assert.equal(
    numbers,
    [...numbers].sort((a, b) => a - b),
  );
  assert.is(new Set(numbers).size, DEVICES_MAX);
  assert.equal([pciPlace(0).slot, pciPlace(0).function], [1, 0]);
  assert.equal([pciPlace(30).slot, pciPlace(30).function], [31, 0]);
  assert.equal([pciPlace(31).slot, pciPlace(31).function], [31, 1]);
  const bars = places.map(({ gpa }) => gpa);
  assert.equal(
    bars,
    DEVICES.map((index) => 0xd0000000 + index * 0x8000),
  );
});

test("functions of one slot have the line that a routing table has for their INTA#", () => {
  for (const { slot, gsi } of DEVICES.map(pciPlace)) {
    assert.is(gsi, 16 + ((slot - 1) % 8), `slot ${slot}`);
  }
});

test.run();
