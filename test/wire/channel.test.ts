import { readdirSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { VmmError } from "../../host/errors.js";
import { close, eventfd } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";
import { DESCRIPTOR_MESSAGE_BYTES, sendDescriptor } from "../../host/ffi/scm.js";
import { CLOSED, FULL, IOV_MAX, NOTHING, SENT, SocketChannel } from "../../host/wire/channel.js";
import { HEADER_BYTES, PAYLOAD_BYTES_MAX } from "../../host/wire/format.js";
import { seqpacketPair } from "../virtio/test-device.js";

const FILL = 0xa5;

/** Two ends of a channel, and memory to send from and to receive into. */
function pair() {
  const fds = seqpacketPair();
  const [a, b] = fds.map((fd) => new SocketChannel(fd)) as [SocketChannel, SocketChannel];
  const source = Mapping.anonymous(PAYLOAD_BYTES_MAX);
  const target = Mapping.anonymous(PAYLOAD_BYTES_MAX + 8192);
  const from = new Uint8Array(source.view.buffer);
  const to = new Uint8Array(target.view.buffer).fill(FILL);
  for (let i = 0; i < from.length; i += 1) from[i] = i % 251;
  return { fds, a, b, source, target, from, to };
}

test("SocketChannel carries a message from scattered to scattered memory", () => {
  const { a, b, source, target, from, to } = pair();
  a.outgoing.set([7, 1, 2, 3]);
  a.gather(source.address + 10, 3);
  a.gather(source.address + 100, 5);
  assert.is(a.send(), SENT);

  assert.is(b.peek(), HEADER_BYTES + 8);
  assert.equal([...b.incoming.subarray(0, 4)], [7, 1, 2, 3]);
  b.scatter(target.address + 1000, 6);
  b.scatter(target.address + 2000, 2);
  assert.is(b.take(), HEADER_BYTES + 8);
  const sent = [...from.subarray(10, 13), ...from.subarray(100, 105)];
  assert.equal([...to.subarray(999, 1007)], [FILL, ...sent.slice(0, 6), FILL]);
  assert.equal([...to.subarray(1999, 2003)], [FILL, ...sent.slice(6), FILL]);
});

test("SocketChannel takes no descriptor that a peer attaches, not even to look at it", () => {
  const { fds, b } = pair();
  const open = () => readdirSync("/proc/self/fd").length;
  const before = open();
  sendDescriptor(fds[0]!, 0);
  assert.is(b.peek(), DESCRIPTOR_MESSAGE_BYTES);
  assert.is(open(), before);
  assert.is(b.take(), DESCRIPTOR_MESSAGE_BYTES);
  assert.is(open(), before);
});

test("SocketChannel.peek() leaves the message, and take() the header that peek() saw", () => {
  const { a, b } = pair();
  a.outgoing.set([1]);
  a.send();
  assert.is(b.peek(), HEADER_BYTES);
  assert.is(b.peek(), HEADER_BYTES);
  b.incoming[0] = 99;
  assert.is(b.take(), HEADER_BYTES);
  assert.is(b.incoming[0], 99);
  assert.is(b.peek(), NOTHING);
});

test("SocketChannel.receive() fills header and payload at once, and says the real length", () => {
  const { a, b, source, target, from, to } = pair();
  a.outgoing.set([5]);
  a.gather(source.address, 100);
  a.send();
  b.scatter(target.address, 60);
  assert.is(b.receive(), HEADER_BYTES + 100);
  assert.is(b.incoming[0], 5);
  assert.equal(to.subarray(0, 60), from.subarray(0, 60));
  assert.is(to[60], FILL, "nothing beyond the scatter list");
});

test("SocketChannel.take() drops what has no place, and nothing of the next message", () => {
  const { a, b, source } = pair();
  a.gather(source.address, 5000);
  a.send();
  a.outgoing.set([2]);
  a.send();
  b.peek();
  assert.is(b.take(), HEADER_BYTES + 5000);
  assert.is(b.peek(), HEADER_BYTES);
  assert.is(b.incoming[0], 2);
});

test("SocketChannel carries a message of full size in as many pieces as there may be", () => {
  const { a, b, source, target, from, to } = pair();
  const piece = Math.floor(PAYLOAD_BYTES_MAX / (IOV_MAX - 1));
  const total = piece * (IOV_MAX - 1);
  for (let i = 0; i < IOV_MAX - 1; i += 1) a.gather(source.address + i * piece, piece);
  assert.is(a.send(), SENT);
  b.peek();
  for (let i = 0; i < IOV_MAX - 1; i += 1) b.scatter(target.address + i * piece, piece);
  assert.is(b.take(), HEADER_BYTES + total);
  assert.equal(to.subarray(0, total), from.subarray(0, total));
});

test("SocketChannel.gather() asserts no more pieces than the kernel takes", () => {
  const { a, source } = pair();
  for (let i = 0; i < IOV_MAX - 1; i += 1) a.gather(source.address, 1);
  assert.throws(() => a.gather(source.address, 1), /more pieces/);
});

test("SocketChannel takes two messages of full size before it is FULL", () => {
  const { a, b, source } = pair();
  const send = () => {
    a.gather(source.address, PAYLOAD_BYTES_MAX);
    return a.send();
  };
  assert.is(send(), SENT);
  assert.is(send(), SENT);
  let sent = 2;
  while (send() === SENT) sent += 1;
  assert.is(send(), FULL);
  for (let i = 0; i < sent; i += 1) {
    assert.is(b.peek(), HEADER_BYTES + PAYLOAD_BYTES_MAX);
    b.take();
  }
  assert.is(b.peek(), NOTHING, "what did not fit was not sent in part");
  assert.is(send(), SENT);
});

test("SocketChannel forgets what was gathered when the socket was full", () => {
  const { a, b, source } = pair();
  a.gather(source.address, PAYLOAD_BYTES_MAX);
  while (a.send() === SENT) a.gather(source.address, PAYLOAD_BYTES_MAX);
  while (b.peek() !== NOTHING) b.take();
  a.gather(source.address, 1);
  a.send();
  assert.is(b.peek(), HEADER_BYTES + 1);
});

test("SocketChannel carries small payloads in its own memory", () => {
  const { a, b } = pair();
  a.outgoingControl.set([1, 2, 3]);
  a.gatherControl(3);
  a.send();
  b.peek();
  b.scatterControl(3);
  b.take();
  assert.equal([...b.incomingControl.subarray(0, 4)], [1, 2, 3, 0]);
});

test("SocketChannel says that the peer is gone: 0 from peek(), CLOSED from send()", () => {
  const { a, b, fds } = pair();
  b.send();
  close(fds[1]);
  assert.is(a.send(), CLOSED);
  assert.is(a.peek(), HEADER_BYTES, "what it said before is still there");
  a.take();
  assert.is(a.peek(), 0);
});

test("SocketChannel says 0 when the peer went away with messages unread", () => {
  const { a, fds } = pair();
  a.send();
  close(fds[1]);
  assert.is(a.peek(), 0);
});

test("SocketChannel refuses a descriptor that is no socket", () => {
  const fd = eventfd(0, 0);
  assert.throws(
    () => new SocketChannel(fd),
    (error: unknown) => error instanceof VmmError && error.message.includes("ENOTSOCK"),
  );
  close(fd);
});

test.run();
