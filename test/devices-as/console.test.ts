import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  DeviceTrap,
  type DeviceUnderTest,
  file,
  listener,
  openDevice,
  socket,
  tty,
} from "../../host/testing/main.js";
import { STREAM_BYTES_MAX } from "../../host/testing/streams.js";
import { pattern } from "../runtime/support.js";

const CONSOLE = fileURLToPath(new URL("../../devices/console.wasm", import.meta.url));

const RECEIVEQ = 0;
const TRANSMITQ = 1;
const CONTROL_RECEIVEQ = 2;
const CONTROL_TRANSMITQ = 3;
/** Of port 1. */
const RECEIVEQ1 = 4;
const TRANSMITQ1 = 5;

const F_SIZE = 1n;
const F_MULTIPORT = 2n;
const F_EMERG_WRITE = 4n;

/** Events of control messages (virtio v1.2 §5.3.6.2). */
const DEVICE_READY = 0;
const PORT_ADD = 1;
const PORT_READY = 3;
const CONSOLE_PORT = 4;
const RESIZE = 5;
const PORT_OPEN = 6;
const PORT_NAME = 7;

type Grants = NonNullable<Parameters<typeof openDevice>[1]>;

function open(grants: Grants, options: Record<string, string> = {}) {
  const device = openDevice(CONSOLE, grants, options);
  const features = device.negotiate();
  return { device, features };
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString();
}

/** An error of a device that said this before it ended. */
function refusal(line: string) {
  return (error: unknown) => error instanceof DeviceTrap && error.log.includes(line);
}

/** A control message: id │ event │ value. */
function control(id: number, event: number, value: number): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(8));
  bytes.setUint32(0, id, true);
  bytes.setUint16(4, event, true);
  bytes.setUint16(6, value, true);
  return new Uint8Array(bytes.buffer);
}

function say(device: DeviceUnderTest, id: number, event: number, value = 1): void {
  device.request(CONTROL_TRANSMITQ, control(id, event, value));
}

/** The buffer that a driver offers for the next control message. */
const offered = new WeakMap<DeviceUnderTest, ReturnType<DeviceUnderTest["post"]>>();

/** What the device has to tell now: id, event, value, and the text or the bytes behind them. */
function told(device: DeviceUnderTest): (number | string)[][] {
  const messages: (number | string)[][] = [];
  for (;;) {
    const posted = offered.get(device) ?? device.post(CONTROL_RECEIVEQ, "", 64);
    offered.set(device, posted);
    if (!posted.done) return messages;
    offered.delete(device);
    const { reply } = posted;
    const view = new DataView(reply.buffer, reply.byteOffset);
    const event = view.getUint16(4, true);
    const rest = reply.subarray(8);
    const more = event === PORT_NAME ? [textOf(rest)] : [...rest];
    messages.push([view.getUint32(0, true), event, view.getUint16(6, true), ...more]);
  }
}

/** A driver that has both a console and port 1, open. */
function withPort1(grants: Grants, options: Record<string, string> = {}) {
  const { device } = open(grants, options);
  say(device, 0, DEVICE_READY);
  for (const id of [0, 1]) say(device, id, PORT_READY);
  for (const id of [0, 1]) say(device, id, PORT_OPEN);
  return device;
}

test("console on a terminal moves bytes both ways (§5.3.6)", () => {
  const terminal = tty();
  const { device } = open({ tty: terminal });
  device.request(TRANSMITQ, "login: ");
  assert.is(textOf(terminal.take()), "login: ");
  const buffer = device.post(RECEIVEQ, "", 100);
  assert.not.ok(buffer.done);
  terminal.push("root\r");
  assert.is(textOf(buffer.reply), "root\r");
});

test("console offers what its grants have: a size, several ports", () => {
  assert.is(open({ tty: tty() }).features, F_SIZE | F_EMERG_WRITE);
  assert.is(open({ file: file(0, "ap") }).features, F_EMERG_WRITE);
  const both = open({ tty: tty(), port1: listener() });
  assert.is(both.features, F_SIZE | F_MULTIPORT | F_EMERG_WRITE);
});

test("console needs one place to go to, and no more", () => {
  const right = refusal("grant one of tty, file and socket: where is the console to go?");
  assert.throws(() => openDevice(CONSOLE, {}), right);
  assert.throws(() => openDevice(CONSOLE, { tty: tty(), socket: socket() }), right);
});

test("console refuses a name that no file can have", () => {
  const right = refusal("a name of a port: ASCII without spaces and /, no dot in front");
  for (const name of ["a/b", ".hidden", "two words", "ümlaut"]) {
    const grants = { tty: tty(), port1: listener() };
    assert.throws(() => openDevice(CONSOLE, grants, { name1: name }), right);
  }
});

test("console tells a driver without multiport the terminal's size in the config space", () => {
  const terminal = tty();
  terminal.resize(25, 80);
  const { device } = open({ tty: terminal });
  assert.equal([...device.readConfig(0, 8)], [80, 0, 25, 0, 5, 0, 0, 0]);
  const changes = device.configChanges;
  terminal.resize(0xffff, 0xfffe);
  device.lookAgain();
  assert.equal([...device.readConfig(0, 4)], [0xfe, 0xff, 0xff, 0xff]);
  assert.is(device.configChanges, changes + 1);
  device.lookAgain();
  assert.is(device.configChanges, changes + 1, "nothing has changed");
});

test("console adds its ports and says what they are, one after the other (§5.3.6.2)", () => {
  const terminal = tty();
  terminal.resize(2, 3);
  const agent = listener();
  const { device } = open({ tty: terminal, port1: agent }, { name1: "org.agent.0" });
  assert.equal(told(device), []);
  say(device, 0, DEVICE_READY);
  assert.equal(told(device), [
    [0, PORT_ADD, 1],
    [1, PORT_ADD, 1],
  ]);
  say(device, 1, PORT_READY);
  assert.equal(told(device), [[1, PORT_NAME, 1, "org.agent.0"]]);
  say(device, 0, PORT_READY);
  assert.equal(told(device), [
    [0, CONSOLE_PORT, 1],
    [0, RESIZE, 1, 3, 0, 2, 0],
    [0, PORT_OPEN, 1],
  ]);
  const peer = agent.connect();
  assert.equal(told(device), [[1, PORT_OPEN, 1]]);
  say(device, 1, PORT_OPEN);
  device.post(RECEIVEQ1, "", 10);
  peer.end();
  assert.equal(told(device), [[1, PORT_OPEN, 0]]);
  terminal.resize(4, 5);
  device.lookAgain();
  assert.equal(told(device), [[0, RESIZE, 1, 5, 0, 4, 0]]);
});

test("a port waits for its peer, and loses nothing that is said before", () => {
  const agent = listener();
  const device = withPort1({ tty: tty(), port1: agent });
  const early = device.post(TRANSMITQ1, "early");
  assert.not.ok(early.done);
  const peer = agent.connect();
  assert.ok(early.done);
  assert.is(textOf(peer.take()), "early");
  const buffer = device.post(RECEIVEQ1, "", 10);
  peer.push("answer");
  assert.is(textOf(buffer.reply), "answer");
});

test("a port whose guest has not opened it reads nothing", () => {
  const agent = socket();
  const { device } = open({ tty: tty(), port1: agent });
  agent.push("hello");
  const buffer = device.post(RECEIVEQ1, "", 10);
  say(device, 1, PORT_READY);
  assert.not.ok(buffer.done);
  say(device, 1, PORT_OPEN);
  assert.is(textOf(buffer.reply), "hello");
  const next = device.post(RECEIVEQ1, "", 10);
  say(device, 1, PORT_OPEN, 0);
  agent.push("more");
  assert.not.ok(next.done, "it was closed");
});

test("a port whose peer has gone takes the next one", () => {
  const agent = listener();
  const device = withPort1({ tty: tty(), port1: agent });
  const first = agent.connect();
  device.request(TRANSMITQ1, "one");
  assert.is(textOf(first.take()), "one");
  first.end();
  device.post(TRANSMITQ1, "lost with its peer");
  assert.ok(first.closed);
  told(device);
  const waits = device.post(TRANSMITQ1, "two");
  assert.not.ok(waits.done);
  assert.is(textOf(agent.connect().take()), "two");
  assert.ok(waits.done);
});

test("who goes and who comes are two messages, however late the driver hears of them", () => {
  const port = listener();
  const device = withPort1({ tty: tty(), port1: port });
  const peer = port.connect();
  told(device);
  device.post(RECEIVEQ1, "", 10);
  peer.end();
  port.connect();
  // It has offered a buffer for one message; the other one comes when there is another.
  assert.equal(told(device), [
    [1, PORT_OPEN, 0],
    [1, PORT_OPEN, 1],
  ]);
});

test("console on a socket goes on while nobody is connected", () => {
  const sock = listener();
  const { device } = open({ socket: sock });
  device.request(TRANSMITQ, "nobody hears this");
  const peer = sock.connect();
  device.request(TRANSMITQ, "hello");
  assert.is(textOf(peer.take()), "hello");
  peer.end();
  device.request(TRANSMITQ, "nor this");
  const next = sock.connect();
  device.request(TRANSMITQ, "again");
  assert.is(textOf(next.take()), "again");
});

test("console on a connection that is gone, or a terminal that hung up, goes on", () => {
  for (const [name, peer] of [
    ["socket", socket()],
    ["tty", tty()],
  ] as const) {
    const { device } = open({ [name]: peer });
    const buffer = device.post(RECEIVEQ, "", 10);
    peer.end();
    for (let i = 0; i < 3; i++) device.request(TRANSMITQ, "into the void");
    assert.not.ok(buffer.done);
  }
});

test("console on a pseudo-terminal that nobody has open goes on, and fills it", () => {
  const line = tty();
  line.leave();
  const { device } = open({ tty: line });
  const typed = device.post(RECEIVEQ, "", 10);
  const bytes = pattern(STREAM_BYTES_MAX);
  device.request(TRANSMITQ, bytes);
  device.request(TRANSMITQ, "there is no room for this");
  assert.not.ok(typed.done);
  assert.ok(Buffer.from(line.take()).equals(bytes));
  device.request(TRANSMITQ, "there is room, but this would leave a gap");
  line.come();
  device.lookAgain();
  device.request(TRANSMITQ, "login: ");
  assert.is(textOf(line.take()), "login: ");
  line.push("root");
  assert.is(textOf(typed.reply), "root");
});

test("console waits for a slow reader of a pseudo-terminal, and no more when he leaves", () => {
  const line = tty();
  const { device } = open({ tty: line });
  const waits = device.post(TRANSMITQ, pattern(STREAM_BYTES_MAX + 1));
  assert.not.ok(waits.done);
  line.push("typed before he left");
  line.leave();
  assert.ok(waits.done);
  assert.is(textOf(device.request(RECEIVEQ, "", 10)), "typed befo");
});

test("a port on a pseudo-terminal waits until somebody opens it, and tells when he leaves", () => {
  const line = socket();
  line.leave();
  const device = withPort1({ tty: tty(), port1: line });
  assert.equal(
    told(device).filter(([id, event]) => id === 1 && event === PORT_OPEN),
    [],
  );
  const bytes = pattern(STREAM_BYTES_MAX + 5);
  const early = device.post(TRANSMITQ1, bytes);
  assert.not.ok(early.done);
  line.come();
  device.lookAgain();
  assert.equal(told(device), [[1, PORT_OPEN, 1]]);
  assert.ok(Buffer.concat([line.take(), line.take()]).equals(bytes));
  assert.ok(early.done);
  const buffer = device.post(RECEIVEQ1, "", 10);
  line.push("answer");
  assert.is(textOf(buffer.reply), "answer");
  device.post(RECEIVEQ1, "", 10);
  line.leave();
  assert.equal(told(device), [[1, PORT_OPEN, 0]]);
});

test("console waits for a slow reader, and no byte is lost or doubled", () => {
  const terminal = tty();
  const { device } = open({ tty: terminal });
  const bytes = pattern(5 * STREAM_BYTES_MAX + 123);
  const first = device.post(TRANSMITQ, bytes.subarray(0, 2 * STREAM_BYTES_MAX + 1));
  const second = device.post(TRANSMITQ, bytes.subarray(2 * STREAM_BYTES_MAX + 1));
  assert.not.ok(first.done || second.done);
  const read: Uint8Array[] = [];
  for (let pieces = 0; pieces < 10; pieces++) read.push(terminal.take());
  assert.ok(first.done && second.done);
  assert.ok(Buffer.concat(read).equals(bytes));
});

test("console appends to a file, and has no input there", () => {
  const output = file("before ", "ap");
  const { device } = open({ file: output });
  device.request(TRANSMITQ, "after");
  assert.is(textOf(output.bytes), "before after");
  assert.not.ok(device.post(RECEIVEQ, "", 10).done);
});

test("console writes the byte of an emergency write, and keeps nothing of it (§5.3.6.1)", () => {
  const terminal = tty();
  const device = openDevice(CONSOLE, { tty: terminal });
  device.writeConfig(8, 0x141, 4);
  device.writeConfig(4, 77, 4);
  device.writeConfig(0, 77, 2);
  assert.is(textOf(terminal.take()), "A");
  assert.equal([...device.readConfig(0)], [0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
});

test("console ignores control messages that make no sense", () => {
  const device = withPort1({ tty: tty(), port1: listener() });
  told(device);
  for (const bytes of ["", "1234567", "x".repeat(1000)]) device.request(CONTROL_TRANSMITQ, bytes);
  for (const id of [2, 4, 5, 1000, 0xffffffff]) {
    for (let event = 0; event < 9; event++) if (event > 0) say(device, id, event);
  }
  for (const event of [PORT_ADD, CONSOLE_PORT, RESIZE, PORT_NAME, 8, 0xffff]) say(device, 1, event);
  say(device, 1, PORT_READY, 0);
  say(device, 0, DEVICE_READY, 0);
  assert.equal(told(device), []);
});

test("console answers buffers that are too small for a message, and keeps others waiting", () => {
  const { device } = open({ tty: tty(), port1: listener() });
  say(device, 0, DEVICE_READY);
  assert.is(device.post(CONTROL_RECEIVEQ, "", 7).reply.length, 0);
  say(device, 1, PORT_READY);
  assert.is(device.request(CONTROL_RECEIVEQ, "", 8).length, 8);
  assert.is(device.request(CONTROL_RECEIVEQ, "", 8).length, 8, "there is no room for the name");
});

test("console keeps the ports of a driver without multiport silent", () => {
  const agent = socket();
  const terminal = tty();
  const device = openDevice(CONSOLE, { tty: terminal, port1: agent });
  device.negotiate(F_SIZE);
  device.request(TRANSMITQ1, "x");
  device.request(CONTROL_TRANSMITQ, control(0, DEVICE_READY, 1));
  agent.push("y");
  assert.not.ok(device.post(RECEIVEQ1, "", 10).done);
  assert.not.ok(device.post(CONTROL_RECEIVEQ, "", 10).done);
  assert.is(agent.take().length, 0);
  device.request(TRANSMITQ, "console");
  assert.is(textOf(terminal.take()), "console");
});

test("console tells the next driver nothing of the last one", () => {
  const terminal = tty();
  const { device } = open({ tty: terminal, port1: listener() });
  say(device, 0, DEVICE_READY);
  say(device, 0, PORT_OPEN);
  device.post(TRANSMITQ, pattern(STREAM_BYTES_MAX + 10));
  device.negotiate();
  terminal.take();
  assert.equal(told(device), []);
  terminal.push("a");
  assert.not.ok(device.post(RECEIVEQ, "", 10).done, "it has not opened the port");
  device.request(TRANSMITQ, "0123456789abc");
  assert.is(textOf(terminal.take()), "0123456789abc", "none of it was taken before");
});

test.run();
