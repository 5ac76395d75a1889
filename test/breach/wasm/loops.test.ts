// Modules that compute without end, at every entry point: the watchdog of the VMM must notice from
// outside, and must not take a device for one of them that only waits.

import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { cpuMsOf, hasUnread, Watchdog } from "../../../host/sandbox/watchdog.js";
import { moduleWith } from "../../runtime/support.js";
import { started } from "../support/attack.js";
import { ConfinedDevice, endAll, grantOf } from "../support/confined.js";
import { ENTRIES } from "./endings.js";
import { READER } from "./imports.js";

/**
 * Node's start and its compilation of the module take 100 ms; on a slow machine three times that.
 */
const CPU_MS_MAX = 400;
const LOOK_MS = 20;

/** What the VMM's timer does, until there is a reason to kill the device or nothing more to see. */
async function watch(device: ConfinedDevice, over = () => false): Promise<string> {
  const watchdog = new Watchdog(CPU_MS_MAX);
  const { pid, socketFd } = device.process;
  while (!over()) {
    device.guard.poll();
    const cpuMs = cpuMsOf(pid);
    if (cpuMs === undefined) return "it has ended";
    const { sent, received } = device;
    const fault = watchdog.look({ sent, received, unread: hasUnread(socketFd), cpuMs });
    if (fault !== undefined) return fault;
    await sleep(LOOK_MS);
  }
  return "";
}

/**
 * Asserts that the watchdog finds the loop, and that the process is gone when it is killed for it.
 */
async function checkKilled(device: ConfinedDevice, fault: RegExp): Promise<void> {
  assert.match(await watch(device), fault);
  device.process.kill();
  assert.is((await device.exit).signal, "SIGKILL");
  assert.is(cpuMsOf(device.process.pid), undefined);
}

for (const { entry, part, drive, options } of ENTRIES) {
  test(`an endless loop in ${entry} is noticed, and ends by SIGKILL`, async () => {
    const device = new ConfinedDevice(moduleWith(part("(loop (br 0))")), [], options);
    drive?.(device);
    if (drive) await device.receive();
    await checkKilled(device, drive ? /^an endless loop in message/ : /before it was ready/);
  });
}

const SERVE = (code: string) => ({
  serve: `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32) ${code})`,
});

test("an endless loop that makes system calls is noticed", async () => {
  const type = "(func $fd_read (param i32 i32 i32 i32) (result i32))";
  const imports = `(import "wasi_snapshot_preview1" "fd_read" ${type})`;
  const serve = SERVE(`(i32.store (i32.const 1024) (i32.const 2048))
    (i32.store (i32.const 1028) (i32.const 4096))
    (loop
      (drop (call $fd_read (i32.const 3) (i32.const 1024) (i32.const 1) (i32.const 512)))
      (br 0))
    i32.const 0`);
  const module = moduleWith({ imports, ...serve }, READER);
  const device = await started(new ConfinedDevice(module, [grantOf("/dev/urandom", ["read"])]));
  device.request({ id: 1, capacity: 8 });
  await checkKilled(device, /^an endless loop in message 2/);
});

test("an endless loop in one of a batch is noticed while the guest goes on asking", async () => {
  // It answers nothing of the batch: replies of a message leave together.
  const serve = SERVE("(loop (br_if 0 (i32.load8_u (local.get 1)))) i32.const 0");
  const device = await started(new ConfinedDevice(moduleWith(serve)));
  device.request(
    { id: 1, readable: Uint8Array.of(0), capacity: 8 },
    { id: 2, readable: Uint8Array.of(1), capacity: 8 },
  );
  const kicks = setInterval(() => device.request({ id: 3, capacity: 8 }), LOOK_MS);
  try {
    await checkKilled(device, /^an endless loop in message 2/);
  } finally {
    clearInterval(kicks);
  }
  assert.equal(await device.receiveAll(), []);
});

test("a device that computes more than it may, but answers in between, is let go on", async () => {
  const serve = SERVE(`(local i32) (local.set 5 (i32.const 10000000))
    (loop (br_if 0 (local.tee 5 (i32.sub (local.get 5) (i32.const 1))))) i32.const 0`);
  const device = await started(new ConfinedDevice(moduleWith(serve)));
  let over = false;
  const watched = watch(device, () => over);
  const cpuMs = () => cpuMsOf(device.process.pid) ?? Number.NaN;
  // Some are always waiting: that it has read everything is never to be seen.
  for (let id = 0; id < 8; id++) device.request({ id: 1, capacity: 8 });
  for (const end = cpuMs() + 2 * CPU_MS_MAX; cpuMs() < end; ) {
    device.request({ id: 1, capacity: 8 });
    assert.is((await device.receive())?.replies[0]?.id, 1);
  }
  over = true;
  assert.is(await watched, "");
});

test("a device that a guest resets all the time, with no answer to any, is let go on", async () => {
  const device = await started(new ConfinedDevice(moduleWith()));
  let over = false;
  const watched = watch(device, () => over);
  const cpuMs = () => cpuMsOf(device.process.pid) ?? Number.NaN;
  for (const end = cpuMs() + 1.5 * CPU_MS_MAX; cpuMs() < end; await sleep(1)) {
    for (let i = 0; i < 50; i++) {
      device.reset();
      device.activate();
    }
  }
  over = true;
  assert.is(await watched, "");
});

test("a device that waits uses no processor time", async () => {
  const device = await started(new ConfinedDevice(moduleWith()));
  device.request({ id: 1, capacity: 8 });
  await device.receive();
  await sleep(LOOK_MS);
  const before = cpuMsOf(device.process.pid);
  await sleep(200);
  assert.is(cpuMsOf(device.process.pid), before);
});

test.after.each(endAll);
test.run();
