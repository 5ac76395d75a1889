// The config space across a link: the driver's writes to the device, and what the device makes of
// them, or claims to.

import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  CONFIG_ANSWER_MS_MAX,
  CONFIG_BURST_MAX,
  CONFIG_PER_SECOND_MAX,
  CONFIG_PLACES_MAX,
} from "../../host/virtio/config-writes.js";
import * as mmio from "../../host/virtio/mmio.js";
import * as reg from "../../host/virtio/registers.js";
import * as wire from "../../host/wire/format.js";
import { type BenchOptions, Rig } from "./rig.js";

const SPACE = [1, 2, 3, 4];

function write(rig: Rig, offset: number, value: number, bytes = 1): void {
  rig.driver.transport.write(mmio.VIRTIO_MMIO_CONFIG + offset, bytes, value);
}

function read(rig: Rig): number[] {
  const at = (offset: number) => rig.driver.transport.read(mmio.VIRTIO_MMIO_CONFIG + offset, 1);
  return Array.from({ length: rig.registers.config.bytes }, (_, offset) => at(offset));
}

/** The driver's writes that the device hears next: offset, bytes and value each. */
function heard(rig: Rig): number[][] {
  const writes: number[][] = [];
  for (let message = rig.device.receive(); message !== undefined; message = rig.device.receive()) {
    assert.is(message.type, wire.CONFIGURE);
    assert.is(message.payload.length, wire.CONFIGURE_BYTES);
    const view = new DataView(message.payload.buffer);
    writes.push([0, 4, 8].map((at) => view.getUint32(at, true)));
  }
  return writes;
}

/** A rig with four bytes of config space that is running. */
function running(options: BenchOptions = {}): Rig {
  return new Rig({ configBytes: 4, ...options }).start();
}

// What the device says

test("DeviceLink shows the driver the CONFIG that came before READY, once it is approved", () => {
  const rig = new Rig({ configBytes: 4 });
  rig.approves = false;
  rig.device.config(Uint8Array.from(SPACE));
  rig.device.ready();
  rig.settle();
  assert.equal(read(rig), [0, 0, 0, 0], "nobody has looked at the device yet");
  rig.link.approve();
  assert.equal(read(rig), SPACE);
  rig.close();
});

test("DeviceLink takes a changed config space, and tells a running driver", () => {
  const rig = running();
  assert.is(rig.driver.takeInterrupt(), 0);
  rig.device.config(Uint8Array.from(SPACE));
  rig.settle();
  assert.equal(read(rig), SPACE);
  assert.is(rig.driver.takeInterrupt(), reg.INT_CONFIG);
  rig.device.config(Uint8Array.from(SPACE));
  rig.settle();
  assert.is(rig.driver.takeInterrupt(), 0, "nothing changed");
  rig.close();
});

// What the driver writes

test("DeviceLink passes the driver's write on, and is settled once it is answered", () => {
  const rig = running();
  assert.ok(rig.link.configSettled);
  write(rig, 2, 0x0506, 2);
  assert.not(rig.link.configSettled);
  assert.equal(heard(rig), [[2, 2, 0x0506]]);
  rig.device.config(Uint8Array.of(9, 9, 9, 9), 0);
  rig.settle();
  assert.not(rig.link.configSettled, "that was said before the write was heard");
  assert.equal(read(rig), [0, 0, 0, 0]);
  rig.device.config(Uint8Array.from(SPACE), 1);
  rig.settle();
  assert.ok(rig.link.configSettled);
  assert.equal(read(rig), SPACE);
  rig.close();
});

test("DeviceLink counts two CONFIGURE as taken when the second is answered", () => {
  const rig = running();
  write(rig, 0, 1);
  write(rig, 1, 2);
  assert.is(heard(rig).length, 2);
  rig.device.config(Uint8Array.from(SPACE), 2);
  rig.settle();
  assert.ok(rig.link.configSettled);
  rig.close();
});

test("DeviceLink keeps a write for a device that is not ready, and for a full socket", () => {
  const rig = new Rig({ configBytes: 4 });
  write(rig, 0, 1);
  assert.not(rig.link.configSettled);
  assert.equal(heard(rig), []);
  rig.greet();
  assert.equal(heard(rig), [[0, 1, 1]]);
  rig.device.config(new Uint8Array(4), 1);
  rig.settle();

  let sent = 1;
  for (; !rig.link.wantsWritable; sent += 1) write(rig, 3, sent & 0xff);
  const all = heard(rig);
  assert.is(all.length, sent - 2);
  rig.link.onWritable();
  assert.equal(heard(rig), [[3, 1, (sent - 1) & 0xff]]);
  rig.device.config(new Uint8Array(4), sent);
  rig.settle();
  assert.equal(rig.broken, []);
  assert.ok(rig.link.configSettled);
  rig.close();
});

test("DeviceLink.configOverdue is when a write has no answer for CONFIG_ANSWER_MS_MAX", () => {
  let now = 1000;
  const rig = running({ now: () => now });
  now += 2 * CONFIG_ANSWER_MS_MAX;
  assert.not(rig.link.configOverdue);
  write(rig, 0, 1);
  now += CONFIG_ANSWER_MS_MAX;
  assert.not(rig.link.configOverdue);
  now += 1;
  assert.ok(rig.link.configOverdue);
  rig.device.config(new Uint8Array(4), 1);
  rig.settle();
  assert.not(rig.link.configOverdue);
  rig.close();
});

test("DeviceLink.configOverdue counts from the write, the device's start and the sending", () => {
  let now = 1000;
  const rig = new Rig({ configBytes: 4, now: () => now });
  now += 2 * CONFIG_ANSWER_MS_MAX;
  write(rig, 0, 1);
  assert.not(rig.link.configOverdue, "just written");
  now += 2 * CONFIG_ANSWER_MS_MAX;
  assert.ok(rig.link.configOverdue);
  rig.greet();
  assert.not(rig.link.configOverdue, "just sent");
  rig.device.config(new Uint8Array(4), 1);
  rig.settle();
  now += 2 * CONFIG_ANSWER_MS_MAX;
  rig.device.close();
  rig.settle();
  rig.plug();
  assert.not(rig.link.configSettled);
  assert.not(rig.link.configOverdue, "just started again");
  rig.close();
});

// Resets and deaths

/** Lets the device's process die, and another one greet. */
function restart(rig: Rig): void {
  rig.device.close();
  rig.settle();
  assert.is(rig.closed, 1);
  rig.plug();
  rig.greet();
}

test("DeviceLink tells a device started again the last write of each place, after ACTIVATE", () => {
  const rig = running();
  for (const [offset, value] of [
    [0, 1],
    [1, 2],
    [0, 3],
    [2, 4],
  ] as const) {
    write(rig, offset, value);
  }
  heard(rig);
  rig.device.config(Uint8Array.from(SPACE), 3);
  rig.settle();
  restart(rig);
  assert.is(rig.device.receive()?.type, wire.ACTIVATE);
  assert.equal(heard(rig), [
    [1, 1, 2],
    [0, 1, 3],
    [2, 1, 4],
  ]);
  assert.equal(read(rig), [0, 0, 0, 0], "the old one answered only the first three");
  assert.not(rig.link.configSettled);
  rig.device.config(Uint8Array.from(SPACE), 3);
  rig.settle();
  assert.ok(rig.link.configSettled);
  assert.equal(read(rig), SPACE);
  rig.close();
});

test("DeviceLink.answered counts answers to writes, but not those to repeated ones", () => {
  const rig = running();
  write(rig, 0, 1);
  rig.device.config(Uint8Array.from(SPACE), 1);
  rig.settle();
  assert.is(rig.link.answered, 1);
  restart(rig);
  rig.device.config(Uint8Array.from(SPACE), 1);
  rig.settle();
  assert.is(rig.link.answered, 0, "one that dies of the next write may do so for ever");
  write(rig, 1, 1);
  rig.device.config(Uint8Array.from(SPACE), 2);
  rig.settle();
  assert.is(rig.link.answered, 1);
  rig.close();
});

test("DeviceLink shows nothing of a device started again before it has heard all writes", () => {
  const rig = running();
  write(rig, 0, 1);
  heard(rig);
  rig.device.config(Uint8Array.from(SPACE), 1);
  rig.settle();
  rig.driver.takeInterrupt();
  restart(rig);
  assert.equal(read(rig), SPACE, "what it said before READY is from before the write");
  rig.device.receive();
  heard(rig);
  rig.device.config(Uint8Array.from(SPACE), 1);
  rig.settle();
  assert.is(rig.driver.takeInterrupt(), 0, "the driver sees no death");
  rig.close();
});

test("DeviceLink tells a device started again its writes before DRIVER_OK, too", () => {
  const rig = new Rig({ configBytes: 4 });
  rig.greet();
  write(rig, 0, 1);
  heard(rig);
  restart(rig);
  assert.equal(heard(rig), [[0, 1, 1]]);
  rig.close();
});

test("DeviceLink forgets what was written before a reset", () => {
  const rig = running();
  write(rig, 0, 1);
  heard(rig);
  rig.driver.start();
  assert.not(rig.link.configSettled, "the device has not answered yet");
  rig.device.config(new Uint8Array(4), 1);
  rig.settle();
  restart(rig);
  assert.is(rig.device.receive()?.type, wire.ACTIVATE);
  assert.equal(heard(rig), []);
  assert.ok(rig.link.configSettled);
  rig.close();
});

test("DeviceLink tells a device of a reset that has heard no more than a write", () => {
  const rig = new Rig({ configBytes: 4 });
  rig.greet();
  rig.driver.reset();
  assert.is(rig.device.receive(), undefined);
  write(rig, 0, 1);
  heard(rig);
  rig.driver.reset();
  rig.device.expect(wire.RESET);
  rig.driver.reset();
  assert.is(rig.device.receive(), undefined);
  rig.close();
});

test("DeviceLink keeps the last CONFIG_PLACES_MAX places that a driver writes", () => {
  const rig = new Rig({ configBytes: 256 });
  for (let offset = 0; offset < 256; offset += 1) write(rig, offset, 1);
  rig.greet();
  const offsets = heard(rig).map(([offset]) => offset);
  const kept = Array.from({ length: CONFIG_PLACES_MAX }, (_, i) => 256 - CONFIG_PLACES_MAX + i);
  assert.equal(offsets, kept);
  rig.close();
});

// Lies

test("DeviceLink breaks with a device whose CONFIG is not as large as its config space", () => {
  for (const bytes of [0, 3, 5, wire.PAYLOAD_BYTES_MAX]) {
    const rig = running();
    rig.device.config(new Uint8Array(bytes));
    rig.expectBroken(/sent CONFIG of \d+ bytes for a config space of 4/);
    rig.close();
  }
});

test("DeviceLink breaks with a device that has no config space and sends CONFIG", () => {
  for (const bytes of [0, 4]) {
    const rig = running({ configBytes: 0 });
    rig.device.config(new Uint8Array(bytes));
    rig.expectBroken(/sent CONFIG of \d bytes for a config space of 0/);
    rig.close();
  }
});

test("DeviceLink breaks with a device that says READY without a CONFIG before it", () => {
  const rig = new Rig({ configBytes: 4 });
  rig.driver.start();
  rig.device.ready();
  rig.expectBroken(/READY before CONFIG/);
  rig.close();
});

test("DeviceLink takes no READY for the CONFIG of the process before", () => {
  const rig = new Rig({ configBytes: 4 });
  rig.device.config(new Uint8Array(4));
  rig.settle();
  rig.device.close();
  rig.settle();
  rig.plug();
  rig.driver.start();
  rig.device.ready();
  rig.expectBroken(/READY before CONFIG/);
  rig.close();
});

test("DeviceLink breaks with a device that took more than it was sent, or takes it back", () => {
  for (const taken of [2, 3, 0x8000_0000, 0xffff_ffff]) {
    const rig = running();
    write(rig, 0, 1);
    rig.device.config(new Uint8Array(4), taken);
    rig.expectBroken(/sent CONFIG after \d+ CONFIGURE of 1/);
    rig.close();
  }
  const rig = running();
  write(rig, 0, 1);
  rig.device.config(new Uint8Array(4), 1);
  rig.device.config(new Uint8Array(4), 0);
  rig.expectBroken(/sent CONFIG after 0 CONFIGURE of 1/);
  rig.close();
});

test("DeviceLink breaks with a device that floods it with CONFIG", () => {
  let now = 0;
  const rig = running({ now: () => now });
  const say = (count: number) => {
    for (let i = 0; i < count; i += 1) {
      rig.device.config(new Uint8Array(4).fill(i));
      rig.settle();
    }
  };
  say(CONFIG_BURST_MAX);
  assert.equal(rig.broken, []);
  now += 1000;
  say(CONFIG_PER_SECOND_MAX);
  assert.equal(rig.broken, []);
  rig.device.config(new Uint8Array(4));
  rig.expectBroken(/CONFIG more than 64 times a second/);
  rig.close();
});

test("DeviceLink lets a device answer every CONFIGURE and every message, however many", () => {
  const rig = running({ now: () => 0 });
  for (let taken = 1; taken <= 2 * CONFIG_BURST_MAX; taken += 1) {
    write(rig, 0, taken & 0xff);
    rig.device.expect(wire.CONFIGURE);
    rig.device.config(Uint8Array.of(taken & 0xff, 0, 0, 0), taken);
    rig.settle();
  }
  assert.equal(rig.broken, []);
  assert.ok(rig.link.configSettled);
  rig.close();
});

test("A device that is broken keeps no driver waiting for its config space", () => {
  const rig = running();
  write(rig, 0, 1);
  assert.not(rig.registers.configSettled);
  rig.device.config(new Uint8Array(1), 1);
  rig.expectBroken(/CONFIG of 1 bytes/);
  assert.ok(rig.registers.configSettled);
  assert.equal(read(rig), [0, 0, 0, 0]);
  rig.close();
});

test.run();
