import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  type DeviceUnderTest,
  endless,
  file,
  type Grant,
  openDevice,
} from "../../../host/testing/main.js";
import { pattern } from "../../runtime/support.js";
import { example } from "./blk.js";

const REQUESTQ = 0;
const TRAP = /^serve: unreachable/;

function open(one: Grant, other: Grant): DeviceUnderTest {
  const device = openDevice(example("mixer"), { one, other });
  device.negotiate();
  return device;
}

function mixed(one: Uint8Array, other: Uint8Array): Uint8Array {
  return one.slice(0, other.length).map((byte, i) => byte ^ other[i]!);
}

test("mixer starts with both of its sources or not at all", () => {
  assert.throws(() => openDevice(example("mixer"), { one: endless() }), /other is missing/);
  assert.throws(() => openDevice(example("mixer"), { other: endless() }), /one is missing/);
});

test("mixer answers with the exclusive or of both, each from where it was", () => {
  const [one, other] = [pattern(100, 3), pattern(100, 9).reverse()];
  const device = open(file(one), file(other));
  const all = mixed(one, other);
  assert.equal(device.request(REQUESTQ, "", 30), all.slice(0, 30));
  assert.equal(device.request(REQUESTQ, "", 30), all.slice(30, 60));
});

test("mixer hands out as much as the shorter of both has, and nothing that is not mixed", () => {
  for (const [ones, others] of [
    [5, 100],
    [100, 5],
  ] as const) {
    const [one, other] = [pattern(ones, 3), pattern(others, 9)];
    const device = open(file(one), file(other));
    const answer = device.request(REQUESTQ, "", 100);
    assert.equal(answer, mixed(one.slice(0, 5), other.slice(0, 5)));
    assert.throws(() => device.request(REQUESTQ, "", 100), TRAP);
  }
});

test("mixer is as good as one source when the other is stuck", () => {
  const device = open(endless(5), file(1000));
  const answer = device.request(REQUESTQ, "", 1000);
  assert.is(answer.length, 1000);
  assert.ok(new Set(answer).size > 200);
});

test("mixer ends rather than answer for a source that is dry", () => {
  for (const [one, other] of [
    [file(""), endless()],
    [endless(), file("")],
  ] as const) {
    const device = open(one, other);
    assert.throws(() => device.request(REQUESTQ, "", 1), TRAP);
  }
});

test("mixer ends rather than hand out what one source granted twice makes: zeros", () => {
  const same = open(endless(7), endless(7));
  assert.equal(same.request(REQUESTQ, "", 15), new Uint8Array(15));
  assert.throws(() => same.request(REQUESTQ, "", 1), TRAP);
});

test("mixer gives a driver that offers much one buffer full, others what they want", () => {
  const device = open(endless(1), endless(2));
  assert.is(device.request(REQUESTQ, "", 1024 * 1024).length, 4096);
  assert.is(device.request(REQUESTQ).length, 0);
  assert.is(device.request(REQUESTQ, "what the driver says is not looked at", 4).length, 4);
});

test.run();
