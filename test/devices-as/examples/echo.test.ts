import { test } from "uvu";
import * as assert from "uvu/assert";
import { type DeviceUnderTest, openDevice } from "../../../host/testing/main.js";
import { pattern } from "../../runtime/support.js";
import { example } from "./blk.js";

const RECEIVEQ = 0;
const TRANSMITQ = 1;
/** BUFFER_BYTES of devices-as/examples/echo.ts. */
const BUFFER_BYTES = 4096;

function open(options: Record<string, number> = {}): DeviceUnderTest {
  const device = openDevice(example("echo"), {}, options);
  device.negotiate();
  return device;
}

function transmit(device: DeviceUnderTest, bytes: Uint8Array | string) {
  return device.post(TRANSMITQ, bytes);
}

function receive(device: DeviceUnderTest, capacity = 100) {
  return device.post(RECEIVEQ, "", capacity);
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString();
}

test("echo is a console of the size that the user says (§5.3.4)", () => {
  const device = open({ cols: 132, rows: 70_000 });
  assert.equal([device.manifest.virtioId, device.manifest.features], [3, "0x1"]);
  assert.equal([...device.readConfig()], [132, 0, 255, 255]);
  assert.equal([...open().readConfig()], [80, 0, 25, 0]);
});

test("echo gives back what was transmitted, to a driver that asks for it later", () => {
  const device = open();
  assert.ok(transmit(device, "hello, ").done);
  transmit(device, "guest");
  assert.is(textOf(device.request(RECEIVEQ, "", 3)), "hel");
  assert.is(textOf(device.request(RECEIVEQ, "", 100)), "lo, guest");
});

test("echo fills the buffers of a driver that waits, one for each piece that comes", () => {
  const device = open();
  const buffers = [receive(device), receive(device), receive(device)];
  assert.not.ok(buffers.some(({ done }) => done));
  transmit(device, "one");
  transmit(device, "two");
  assert.equal(
    buffers.map(({ done }) => done),
    [true, true, false],
  );
  assert.equal(
    buffers.slice(0, 2).map(({ reply }) => textOf(reply)),
    ["one", "two"],
  );
});

test("echo lets a request wait that it has no room for, and those behind it", () => {
  const device = open();
  assert.ok(transmit(device, pattern(BUFFER_BYTES)).done);
  const [second, third] = [transmit(device, "second"), transmit(device, "third")];
  assert.not.ok(second.done || third.done);
  assert.equal(device.request(RECEIVEQ, "", 3), pattern(BUFFER_BYTES).slice(0, 3));
  assert.not.ok(second.done, "there is room for half of it");
  device.request(RECEIVEQ, "", BUFFER_BYTES - 3);
  assert.ok(second.done && third.done);
  assert.is(textOf(device.request(RECEIVEQ, "", 100)), "secondthird");
});

test("echo takes a request larger than its buffer piece by piece, and nothing twice", () => {
  const device = open();
  const bytes = pattern(5 * BUFFER_BYTES + 77);
  const request = transmit(device, bytes);
  const pieces: Uint8Array[] = [];
  for (let got = 0; got < bytes.length; got += pieces.at(-1)!.length) {
    pieces.push(device.request(RECEIVEQ, "", 1000));
  }
  assert.ok(request.done);
  assert.is(Buffer.compare(Buffer.concat(pieces), bytes), 0);
  assert.not.ok(receive(device).done);
});

test("echo forgets what one driver transmitted before the next one comes", () => {
  const device = open();
  transmit(device, pattern(BUFFER_BYTES - 3));
  assert.not.ok(transmit(device, "half of it").done);
  device.negotiate();
  const buffer = receive(device);
  assert.not.ok(buffer.done);
  transmit(device, "mine");
  assert.is(textOf(buffer.reply), "mine");
});

test("echo answers requests without the part that it needs with nothing", () => {
  const device = open();
  assert.ok(transmit(device, "").done);
  assert.ok(device.post(TRANSMITQ, "", 10).done, "a transmit buffer that is writable");
  transmit(device, "abc");
  assert.is(device.request(RECEIVEQ, "a receive buffer that is readable").length, 0);
  assert.is(textOf(device.request(RECEIVEQ, "", 9)), "abc");
});

test.run();
