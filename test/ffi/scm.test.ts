// Descriptors over a socket: exactly one is taken, whatever a hostile sender attaches.

import { closeSync, readdirSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { fcntl, sendmsg, setsockopt } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";
import { receiveDescriptor, sendDescriptor } from "../../host/ffi/scm.js";
import { seqpacketPair } from "../virtio/test-device.js";

const SOL_SOCKET = 1;
const SO_PASSCRED = 16;
const SCM_RIGHTS = 1;
const F_GETFD = 1;
const FD_CLOEXEC = 1;

function openFds(): number {
  return readdirSync("/proc/self/fd").length;
}

/** Sends one byte with `fds`. */
function sendAll(socket: number, fds: readonly number[]): void {
  const { view, address } = Mapping.anonymous(256);
  const [iovec, data, control] = [64, 80, 96];
  const controlBytes = 16 + 4 * fds.length;
  const words: [at: number, value: number][] = [
    [16, address + iovec],
    [24, 1],
    [32, address + control],
    [40, controlBytes],
    [iovec, address + data],
    [iovec + 8, 1],
    [control, controlBytes],
  ];
  for (const [at, value] of words) view.setBigUint64(at, BigInt(value), true);
  view.setInt32(control + 8, SOL_SOCKET, true);
  view.setInt32(control + 12, SCM_RIGHTS, true);
  for (const [i, fd] of fds.entries()) view.setInt32(control + 16 + 4 * i, fd, true);
  assert.is(sendmsg(socket, address, 0), 1);
}

test("receiveDescriptor() takes one descriptor of many, and the others are closed", () => {
  const [ours, theirs] = seqpacketPair();
  const before = openFds();
  sendAll(theirs, [0, 1, 2]);
  const fd = receiveDescriptor(ours);
  assert.type(fd, "number");
  assert.is(openFds(), before + 1);
  closeSync(fd!);
});

test("receiveDescriptor() takes a descriptor that no other program inherits", () => {
  const [ours, theirs] = seqpacketPair();
  sendDescriptor(theirs, 0);
  const fd = receiveDescriptor(ours)!;
  assert.is(fcntl(fd, F_GETFD, 0), FD_CLOEXEC);
  closeSync(fd);
});

test("receiveDescriptor() takes credentials for no descriptor", () => {
  const [ours, theirs] = seqpacketPair();
  const one = Mapping.anonymous(4);
  one.view.setUint32(0, 1, true);
  assert.is(setsockopt(ours, SOL_SOCKET, SO_PASSCRED, one.address, 4), 0);
  sendAll(theirs, []);
  assert.is(receiveDescriptor(ours), undefined);
});

test.run();
