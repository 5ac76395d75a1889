// Devices that wait, in their own, confined processes: what they sleep in, and what wakes them.

import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileDevice } from "../../host/author/device.js";
import { STATUS } from "../../host/runtime/status.js";
import type { ResolvedGrant } from "../../host/sandbox/grants.js";
import { syscallNumber } from "../../host/sandbox/syscalls.js";
import { IDLE, READY, REPLIES } from "../../host/wire/format.js";
import { ConfinedDevice, endAll } from "../breach/support/confined.js";
import { moduleWith } from "./support.js";

const CLOCK: ResolvedGrant = { name: "now", kind: "clock", what: "monotonic", rights: ["read"] };
const SECOND_NS = 1_000_000_000n;
const POLL_MS = 2;

test.after(endAll);

/**
 * A request of queue 0 waits for as many nanoseconds as it says, or until queue 1 is asked; then it
 * is told how often wake() was called.
 */
const TIMER = `
  import { capability, Chain, Clock, Device, register } from "bulkhead/sdk";
  const clock = capability.clock("now");
  let due = false;
  let armed = false;
  let count: u32 = 0;
  class Timer extends Device {
    constructor() { super(42, [64, 64]); }
    reset(): void { due = false; armed = false; }
    wake(): void { due = true; count += 1; }
    serve(queue: u32, chain: Chain): void {
      if (queue == 1) { due = true; return; }
      const nanoseconds = chain.read<u64>();
      if (!due) {
        if (!armed) clock.wakeAt(clock.now() + nanoseconds);
        armed = true;
        return chain.wait();
      }
      due = false;
      armed = false;
      chain.write<u32>(count);
    }
  }
  register(new Timer());`;

const { module: timer } = await compileDevice("/nowhere/timer.ts", { source: TIMER });

async function started(module: Uint8Array, grants: ResolvedGrant[]): Promise<ConfinedDevice> {
  const device = new ConfinedDevice(module, grants);
  const message = await device.receive();
  assert.is(message?.type, READY, message?.text);
  device.activate();
  return device;
}

/** Asserts that the main thread of the process comes to sleep in this system call. */
async function sleepsIn({ process: { pid } }: ConfinedDevice, name: string): Promise<void> {
  const wanted = `${syscallNumber(name)}`;
  for (let tries = 0; tries < 2500; tries++) {
    const [nr] = fs.readFileSync(`/proc/${pid}/syscall`, "latin1").split(" ");
    if (nr === wanted) return;
    await sleep(POLL_MS);
  }
  assert.unreachable(`it does not sleep in ${name}`);
}

function nanoseconds(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}

/** The next message that is no sign of life. */
async function reply(device: ConfinedDevice) {
  for (;;) {
    const message = await device.receive();
    if (message?.type !== IDLE) return message;
  }
}

test("a device sleeps in ppoll until its deadline, else in recvmsg", async () => {
  const device = await started(timer, [CLOCK]);
  await sleepsIn(device, "recvmsg");
  device.send([{ id: 3, readable: nanoseconds(SECOND_NS / 2n), capacity: 4 }]);
  await sleepsIn(device, "ppoll");
  const message = await reply(device);
  assert.is(message?.type, REPLIES, message?.text);
  assert.equal(message?.replies, [{ id: 3, bytes: Uint8Array.of(1, 0, 0, 0), flags: 0 }]);
  await sleepsIn(device, "recvmsg");
  assert.is((await device.leave()).status, STATUS.closed);
});

test("a device that sleeps in ppoll is woken by a message", async () => {
  const device = await started(timer, [CLOCK]);
  device.send([{ id: 3, readable: nanoseconds(SECOND_NS * 3600n), capacity: 4 }]);
  await sleepsIn(device, "ppoll");
  device.send([{ id: 4 }], 1);
  const [first, second] = [await reply(device), await reply(device)];
  assert.equal([first?.queue, first?.replies[0]?.id], [1, 4]);
  assert.equal(second?.replies, [{ id: 3, bytes: new Uint8Array(4), flags: 0 }]);
  assert.is((await device.leave()).status, STATUS.closed);
});

test("a device that sleeps in ppoll leaves when the VMM is gone", async () => {
  const device = await started(timer, [CLOCK]);
  device.send([{ id: 3, readable: nanoseconds(SECOND_NS * 3600n), capacity: 4 }]);
  await sleepsIn(device, "ppoll");
  assert.is((await device.leave()).status, STATUS.closed);
});

test("RESET forgets the deadline, so the device sleeps in recvmsg again", async () => {
  const device = await started(timer, [CLOCK]);
  device.send([{ id: 3, readable: nanoseconds(SECOND_NS * 3600n), capacity: 4 }]);
  await sleepsIn(device, "ppoll");
  device.reset();
  await sleepsIn(device, "recvmsg");
  assert.is((await device.leave()).status, STATUS.closed);
});

test("a deadline without a clock is ignored: the device goes on sleeping in recvmsg", async () => {
  // The deadline is 1, which has passed; wake() would trap.
  const activate = `(func (export "activate") (param i64)
    (i64.store (i32.const 0) (i64.const 1)) (i32.store (i32.const 8) (i32.const -1)))`;
  const wake = '(func (export "wake") unreachable)';
  const device = await started(moduleWith({ activate, wake }), []);
  device.send([{ id: 1, readable: Uint8Array.of(5), capacity: 8 }]);
  assert.equal((await device.receive())?.replies, [{ id: 1, bytes: Uint8Array.of(5), flags: 0 }]);
  await sleepsIn(device, "recvmsg");
  assert.is((await device.leave()).status, STATUS.closed);
});

/** A device that asks in wake() to be woken again, `nanoseconds` later, and answers requests. */
async function ticking(nanoseconds: number): Promise<ConfinedDevice> {
  const source = `
    import { capability, Chain, Device, register } from "bulkhead/sdk";
    const clock = capability.clock("now");
    class Ticking extends Device {
      constructor() { super(42, [64]); }
      activate(features: u64): void { this.wake(); }
      wake(): void { clock.wakeAt(${nanoseconds} == 0 ? 1 : clock.now() + ${nanoseconds}); }
      serve(queue: u32, chain: Chain): void {}
    }
    register(new Ticking());`;
  const { module } = await compileDevice("/nowhere/ticking.ts", { source });
  return started(module, [CLOCK]);
}

test("a device that lives of timers shows that it sleeps, for its watchdog", async () => {
  const device = await ticking(5_000_000);
  assert.is((await device.receive())?.type, IDLE);
  assert.is((await device.receive())?.type, IDLE);
  assert.is((await device.leave()).status, STATUS.closed);
});

test("a device whose deadline has always passed answers, and shows nothing else", async () => {
  const device = await ticking(0);
  for (let id = 0; id < 20; id++) {
    device.send([{ id }]);
    const message = await device.receive();
    assert.is(message?.type, REPLIES);
    await sleep(100);
  }
  assert.is((await device.leave()).status, STATUS.closed);
});

test.run();
