// How a device process that awaits something sleeps, and what wakes it.

import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { close } from "../../host/ffi/libc.js";
import { EventFd } from "../../host/machine/eventfd.js";
import {
  type Attention,
  type Awaited,
  readableBit,
  writableBit,
} from "../../host/runtime/attention.js";
import { CLOCK_MONOTONIC, nanosecondsOf } from "../../host/runtime/clock.js";
import { DeviceInstance } from "../../host/runtime/instance.js";
import { Sleeper } from "../../host/runtime/sleeper.js";
import { seqpacketPair, TestDevice } from "../virtio/test-device.js";
import { moduleWith, NOTHING_GRANTED } from "./support.js";

const MS = 1_000_000n;

function awaited(fd: number, index: number): Awaited {
  return { fd, readable: readableBit(index), writable: writableBit(index) };
}

/** A device that waits for what the test says, a socket without messages, and an eventfd. */
function bench({ hasClock = true } = {}) {
  const device = DeviceInstance.create(moduleWith(), () => NOTHING_GRANTED);
  device.start();
  const [ours, theirs] = seqpacketPair();
  const event = EventFd.create();
  const descriptors = [awaited(event.fd, 0), awaited(ours, 1)];
  const sleeper = new Sleeper(theirs, { descriptors, hasClock });
  const wants = ({ interest = 0, deadline = 0n }) => {
    device.memory.view.setUint32(8, interest, true);
    device.memory.view.setBigUint64(0, deadline, true);
    return device.attention;
  };
  const vmm = new TestDevice(ours);
  const end = () => {
    vmm.close();
    event.close();
    close(theirs);
  };
  return { sleeper, wants, event, vmm, end };
}

function found(sleeper: Sleeper, attention: Attention, waits = true) {
  sleeper.poll(attention, waits);
  const { hasMessage, fired, isDue } = sleeper;
  return { hasMessage, fired, isDue };
}

const NOTHING = { hasMessage: false, fired: 0, isDue: false };
const now = () => nanosecondsOf(CLOCK_MONOTONIC);

test("Sleeper.poll() tells which of the awaited descriptors are ready, and for what", () => {
  const { sleeper, wants, event, end } = bench();
  const interest = readableBit(0) | writableBit(1);
  assert.equal(found(sleeper, wants({ interest })), { ...NOTHING, fired: writableBit(1) });
  event.signal();
  const both = readableBit(0) | writableBit(0);
  assert.equal(found(sleeper, wants({ interest: both })), { ...NOTHING, fired: both });
  assert.equal(found(sleeper, wants({ interest: readableBit(1) }), false), NOTHING);
  end();
});

test("Sleeper.poll() ignores what was not granted, and bits that mean nothing", () => {
  const { sleeper, wants, event, end } = bench();
  event.signal();
  for (const interest of [readableBit(2), writableBit(7), 1 << 16, 0x8000_0000, 0xffff_fcfc]) {
    assert.equal(found(sleeper, wants({ interest }), false), NOTHING, `${interest}`);
  }
  const { fired } = found(sleeper, wants({ interest: 0xffff_ffff }), false);
  assert.is(fired, readableBit(0) | writableBit(0) | writableBit(1));
  end();
});

test("Sleeper.poll() is woken by a message", () => {
  const { sleeper, wants, vmm, end } = bench();
  vmm.send([1]);
  const deadline = now() + 1_000_000n * MS;
  assert.equal(found(sleeper, wants({ deadline })), { ...NOTHING, hasMessage: true });
  end();
});

test("Sleeper.poll() sleeps until the deadline and not shorter", () => {
  const { sleeper, wants, end } = bench();
  const deadline = now() + 30n * MS;
  assert.equal(found(sleeper, wants({ deadline }), false), NOTHING);
  assert.equal(found(sleeper, wants({ deadline })), { ...NOTHING, isDue: true });
  assert.ok(now() >= deadline);
  end();
});

test("Sleeper.poll() does not sleep when the deadline has passed", () => {
  const { sleeper, wants, end } = bench();
  for (const deadline of [1n, now()]) {
    assert.equal(found(sleeper, wants({ deadline })), { ...NOTHING, isDue: true });
  }
  end();
});

test("Sleeper.poll() does not mind a deadline in 584 years", () => {
  const { sleeper, wants, vmm, end } = bench();
  vmm.send([1]);
  const deadline = 2n ** 64n - 1n;
  assert.equal(found(sleeper, wants({ deadline })), { ...NOTHING, hasMessage: true });
  end();
});

test("Sleeper.poll() ignores a deadline without a clock", () => {
  const { sleeper, wants, vmm, end } = bench({ hasClock: false });
  assert.equal(found(sleeper, wants({ deadline: 1n }), false), NOTHING);
  vmm.send([1]);
  assert.equal(found(sleeper, wants({ deadline: 1n })), { ...NOTHING, hasMessage: true });
  end();
});

test("Sleeper.poll() takes a hang-up for whatever was awaited", () => {
  const [ours, theirs] = seqpacketPair();
  const [reader, writer] = seqpacketPair();
  close(writer);
  const sleeper = new Sleeper(theirs, { descriptors: [awaited(reader, 0)], hasClock: false });
  const device = DeviceInstance.create(moduleWith(), () => NOTHING_GRANTED);
  device.start();
  for (const interest of [readableBit(0), writableBit(0)]) {
    device.memory.view.setUint32(8, interest, true);
    assert.is(found(sleeper, device.attention).fired, interest);
  }
  for (const fd of [ours, theirs, reader]) fs.closeSync(fd);
});

test.run();
