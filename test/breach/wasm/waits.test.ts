// Modules that lie about what they wait for, or wait for what has always come: confined, with a
// clock, so that the runtime believes what it can.

import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { STATUS } from "../../../host/runtime/status.js";
import type { ResolvedGrant } from "../../../host/sandbox/grants.js";
import { IDLE, LOG, READY, REPLIES } from "../../../host/wire/format.js";
import { manifest, moduleWith } from "../../runtime/support.js";
import { ConfinedDevice, endAll } from "../support/confined.js";

const CLOCK: ResolvedGrant = { name: "now", kind: "clock", what: "monotonic", rights: ["read"] };
const capabilities = [
  { name: "now", kind: "clock" as const, rights: ["read" as const], required: true },
];
const MANIFEST = manifest({ queues: [64, 64], capabilities });

test.after.each(endAll);

type Parts = Parameters<typeof moduleWith>[0];

/** A device with these parts that is ready and activated. */
async function started(parts: Parts): Promise<ConfinedDevice> {
  const device = new ConfinedDevice(moduleWith(parts, MANIFEST), [CLOCK]);
  const message = await device.receive();
  assert.is(message?.type, READY, message?.text);
  device.activate();
  return device;
}

/** Asserts that the device answers requests of queue 0, whatever it is up to, and leaves. */
async function goesOn(device: ConfinedDevice): Promise<void> {
  for (let id = 0; id < 5; id++) {
    const readable = Uint8Array.of(id, 7);
    device.send([{ id, readable, capacity: 2 }]);
    let message = await device.receive();
    while (message?.type === IDLE) message = await device.receive();
    assert.is(message?.type, REPLIES, message?.text);
    assert.equal(message?.replies, [{ id, bytes: readable, flags: 0 }]);
    await sleep(20);
  }
  const { status, reason } = await device.leave();
  assert.is(status, STATUS.closed, reason);
}

const PAST = "(i64.store (i32.const 0) (i64.const 1))";
const EVERYTHING = "(i32.store (i32.const 8) (i32.const -1))";

for (const [what, address] of [
  ["beyond its memory", "0x7ffffff0"],
  ["across the end of its memory", `${64 * 65536 - 23}`],
  ["at the end of all addresses", "-1"],
] as const) {
  test(`attention ${what} ends the device`, async () => {
    const attention = `(func (export "attention") (result i32) i32.const ${address})`;
    const device = new ConfinedDevice(moduleWith({ attention }, MANIFEST), [CLOCK]);
    const message = await device.receive();
    assert.is(message?.type, LOG);
    assert.match(message?.text ?? "", /^attention: 24 bytes at \d+ are not in its memory$/);
    assert.is((await device.exit).status, STATUS.trapped);
  });
}

test("attention at an odd address, at the end of a memory that grew, is where it is", async () => {
  const attention = `(func (export "attention") (result i32)
    (drop (memory.grow (i32.const 1)))
    (i64.store (i32.const ${65 * 65536 - 25}) (i64.const -1))
    (i32.const ${65 * 65536 - 25}))`;
  await goesOn(await started({ attention }));
});

test("attention in the windows, where a guest writes it, leads nowhere", async () => {
  for (const address of [65536, 65536 + 2 * 1024 * 1024]) {
    const attention = `(func (export "attention") (result i32) i32.const ${address})`;
    await goesOn(await started({ attention }));
  }
});

test("interest in everything, also in what was not granted, is interest in nothing", async () => {
  const wake = '(func (export "wake") unreachable)';
  await goesOn(
    await started({ activate: `(func (export "activate") (param i64) ${EVERYTHING})`, wake }),
  );
});

test("a deadline that has always passed starves nobody", async () => {
  const activate = `(func (export "activate") (param i64) ${PAST})`;
  const wake = `(func (export "wake") ${PAST} ${EVERYTHING})`;
  await goesOn(await started({ activate, wake }));
});

test("a module that grows its memory each time it wakes is looked at where it is", async () => {
  const activate = `(func (export "activate") (param i64) ${PAST})`;
  const wake = `(func (export "wake") (drop (memory.grow (i32.const 1))) ${PAST})`;
  await goesOn(await started({ activate, wake }));
});

test("requests that wait for ever, with a deadline in the past, starve nobody", async () => {
  const wake = `(func (export "wake") ${PAST})`;
  const serve = `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    ${PAST}
    (if (local.get 0) (then (return (i32.const -1))))
    (memory.copy (local.get 3) (local.get 1) (local.get 2))
    (local.get 2))`;
  const device = await started({ wake, serve });
  const all = Array.from({ length: 64 }, (_, id) => ({ id, readable: new Uint8Array(2048) }));
  device.send(all, 1);
  await goesOn(device);
});

test("a config generation that always changes, without a config space, tells nothing", async () => {
  const bump = "(i32.store (i32.const 12) (i32.add (i32.load (i32.const 12)) (i32.const 1)))";
  const activate = `(func (export "activate") (param i64) ${PAST})`;
  const wake = `(func (export "wake") ${bump} ${PAST})`;
  await goesOn(await started({ activate, wake }));
});

test.run();
