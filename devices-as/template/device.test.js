// What a guest's driver would see of @NAME@, without a guest: npm test

import assert from "node:assert/strict";
import { test } from "node:test";
import { DeviceTrap, endless, file, openDevice } from "bulkhead/testing";

const MODULE = new URL("./@NAME@.debug.wasm", import.meta.url);
const REQUESTQ = 0;

/** The device with `source` granted, and a driver that has found it. */
function open(source) {
  const device = openDevice(MODULE, { source });
  device.negotiate();
  return device;
}

/** What the device answers to a request with room for `capacity` bytes. */
function read(device, capacity) {
  return Buffer.from(device.request(REQUESTQ, "", capacity)).toString();
}

test("requests are answered from the source, one after the other", () => {
  const device = open(file("hello, guest"));
  assert.equal(read(device, 5), "hello");
  assert.equal(read(device, 100), ", guest");
});

test("a driver that offers much gets one buffer full", () => {
  assert.equal(open(endless()).request(REQUESTQ, "", 1024 * 1024).length, 4096);
});

test("a source that repeats itself ends the device", () => {
  const device = open(file(`${"a".repeat(20)}${"b".repeat(21)}`));
  assert.equal(read(device, 20), "a".repeat(20));
  assert.throws(() => read(device, 21), DeviceTrap);
});

test("a source that is empty ends the device", () => {
  assert.throws(() => read(open(file("")), 1), DeviceTrap);
});
