// A link over thousands of rounds: what a device that reads nothing, or that dies again and again,
// could make the VMM keep for ever.

import { readdirSync, readFileSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { MockRam } from "../../host/testing/mock-ram.js";
import { REQUESTS } from "../../host/wire/format.js";
import { note } from "../support/skip.js";
import { Rig, running } from "./rig.js";

const ROUNDS = 5000;
/** Below this many bytes a round nothing is kept: one message of a link is twice as long. */
const BYTES_A_ROUND_MAX = 1024;
/** Rounds in which V8 fills its young generation and compiles, before memory is compared. */
const WARM_UP_ROUNDS = 1000;
/** Messages without payload that a socket takes: 426 kB, each counted with some overhead. */
const QUEUED_MESSAGES_MAX = 1000;

function openFds(): number {
  return readdirSync("/proc/self/fd").length;
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/**
 * Memory that this process holds: what is reachable in V8's heap, and everything private and
 * writable outside it, native mappings included (proc(5), VmData). V8 keeps free pages as it likes.
 */
function heldBytes(): number {
  collectGarbage();
  const { heapTotal, heapUsed } = process.memoryUsage();
  const status = readFileSync("/proc/self/status", "latin1");
  return Number(status.match(/^VmData:\s+(\d+) kB$/m)?.[1]) * 1024 - heapTotal + heapUsed;
}

/** Does `round` many times; afterwards it has kept no descriptor and next to no memory. */
async function checkEndurance(round: () => void): Promise<void> {
  const repeat = async (count: number) => {
    for (let i = 0; i < count; i += 1) {
      round();
      if (i % 100 === 0) await setImmediate(); // what frees views of native memory runs then
    }
    await setImmediate();
  };
  await repeat(WARM_UP_ROUNDS);
  const before = { fds: openFds(), bytes: heldBytes() };
  await repeat(ROUNDS);
  const grown = heldBytes() - before.bytes;
  note(`${(grown / ROUNDS).toFixed(0)} bytes a round`);
  assert.is(openFds(), before.fds);
  assert.ok(grown < ROUNDS * BYTES_A_ROUND_MAX, `${grown} bytes in ${ROUNDS} rounds`);
}

test("DeviceLink keeps nothing for a deaf device while its driver kicks", async () => {
  const deaf = new Rig({ queueSizesMax: [64], ram: new MockRam(16 * 1024 * 1024) }).start();
  const other = running();
  await checkEndurance(() => {
    // The most that a driver can do: all that was asked is void, and asked again.
    const [queue] = deaf.driver.start();
    for (let i = 0; i < 8; i += 1) {
      queue!.add({ readable: [new Uint8Array(512)], writable: [64] });
      deaf.driver.notify(0);
    }
    other.queue.add({ writable: [1] });
    other.driver.kick(other.queue);
    const [entry] = other.device.expect(REQUESTS).entries;
    other.device.reply([{ id: entry!.id, data: new Uint8Array(1) }]);
    other.rig.settle();
    assert.is(other.queue.collect().length, 1, "the other device's guest waits");
  });
  assert.ok(deaf.link.wantsWritable, "the socket is full");
  let messages = 0;
  while (deaf.device.receive() !== undefined) messages += 1;
  assert.ok(messages < QUEUED_MESSAGES_MAX, `${messages} messages`);
  deaf.close();
  other.rig.close();
});

test("DeviceLink keeps nothing of devices that answer, fall silent and die", async () => {
  const { rig, driver, queue } = running();
  await checkEndurance(() => {
    for (let i = 0; i < 4; i += 1) queue.add({ writable: [16] });
    driver.kick(queue);
    const [entry] = rig.device.expect(REQUESTS).entries;
    rig.device.reply([{ id: entry!.id, data: new Uint8Array(4) }]);
    rig.device.close();
    rig.settle();
    rig.plug();
    queue.expectRewrites();
    rig.device.ready();
    rig.settle();
    rig.device.receive(); // ACTIVATE
    const again = rig.device.expect(REQUESTS).entries;
    assert.is(again.length, 3, "what was not answered is asked again");
    rig.device.reply(again.map(({ id }) => ({ id, data: new Uint8Array(16) })));
    rig.settle();
    assert.is(queue.collect().length, 4);
  });
  queue.checkGuards();
  rig.ram.checkFences();
  rig.close();
});

test.run();
