// The size of a console that is a device's only port, to a driver that reads it when it is told of
// a change, as Linux does.

import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { listener, openDevice, tty } from "../../host/testing/main.js";

const CONSOLE = fileURLToPath(new URL("../../devices/console.wasm", import.meta.url));
const RECEIVEQ = 0;
const SIZE = [100, 0, 40, 0];

function open(more: NonNullable<Parameters<typeof openDevice>[1]> = {}) {
  const terminal = tty();
  terminal.resize(40, 100);
  const device = openDevice(CONSOLE, { tty: terminal, ...more });
  device.negotiate();
  return { terminal, device };
}

test("console tells of its size once more with the first key, and with no other", () => {
  const { terminal, device } = open();
  const changes = device.configChanges;
  const first = device.post(RECEIVEQ, "", 10);
  assert.is(device.configChanges, changes);
  terminal.push("a");
  assert.ok(first.done);
  assert.is(device.configChanges, changes + 1);
  assert.equal([...device.readConfig(0, 4)], SIZE);
  device.post(RECEIVEQ, "", 10);
  terminal.push("b");
  assert.is(device.configChanges, changes + 1);
});

test("console does so for each driver, and not where a control message tells the size", () => {
  const { terminal, device } = open();
  for (let drivers = 0; drivers < 3; drivers++) {
    const changes = device.configChanges;
    device.post(RECEIVEQ, "", 10);
    terminal.push("a");
    assert.is(device.configChanges, changes + 1);
    device.negotiate();
  }
  const other = open({ port1: listener() });
  const changes = other.device.configChanges;
  other.device.post(RECEIVEQ, "", 10);
  other.terminal.push("a");
  assert.is(other.device.configChanges, changes);
});

test.run();
