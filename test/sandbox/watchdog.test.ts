import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { recv, socketpair, write } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";
import { cpuMsOf, hasUnread, Watchdog } from "../../host/sandbox/watchdog.js";

const CPU_MS_MAX = 1000;

/** A device that is ready and has used 100 ms for that. */
function readyDevice(): Watchdog {
  const watchdog = new Watchdog(CPU_MS_MAX);
  assert.is(watchdog.look({ sent: 0, received: 1, unread: false, cpuMs: 100 }), undefined);
  return watchdog;
}

test("Watchdog.look() finds nothing wrong with a device that waits for ever", () => {
  const watchdog = readyDevice();
  for (let i = 0; i < 1000; i++) {
    assert.is(watchdog.look({ sent: 5, received: 1, unread: false, cpuMs: 150 }), undefined);
  }
});

test("Watchdog.look() finds a device that computes and does not answer", () => {
  const watchdog = readyDevice();
  assert.is(watchdog.look({ sent: 1, received: 1, unread: false, cpuMs: 400 }), undefined);
  assert.is(watchdog.look({ sent: 1, received: 1, unread: false, cpuMs: 1399 }), undefined);
  const fault = watchdog.look({ sent: 1, received: 1, unread: false, cpuMs: 1400 });
  assert.is(fault, "an endless loop in message 1: 1000 ms of processor time without an answer");
});

test("Watchdog.look() finds a device that never becomes ready", () => {
  const watchdog = new Watchdog(CPU_MS_MAX);
  assert.is(watchdog.look({ sent: 0, received: 0, unread: false, cpuMs: 999 }), undefined);
  const fault = watchdog.look({ sent: 0, received: 0, unread: false, cpuMs: 1000 });
  assert.match(fault ?? "", /^an endless loop before it was ready/);
});

test("Watchdog.look() lets a busy device go on as long as it answers", () => {
  const watchdog = readyDevice();
  for (let i = 1; i < 100; i++) {
    const look = { sent: 100, received: 1 + i, unread: true, cpuMs: i * 900 };
    assert.is(watchdog.look(look), undefined);
  }
});

test("Watchdog.look() lets a device go on that reads messages and answers none", () => {
  // A guest that resets its device again and again makes it work, and a reset has no answer.
  const watchdog = readyDevice();
  for (let i = 1; i < 100; i++) {
    const look = { sent: i, received: 1, unread: false, cpuMs: i * 900 };
    assert.is(watchdog.look(look), undefined);
  }
});

test("Watchdog.look() is not misled by a guest that keeps sending to a device in a loop", () => {
  const watchdog = readyDevice();
  let fault: string | undefined;
  for (let i = 1; i <= 12 && fault === undefined; i++) {
    fault = watchdog.look({ sent: i, received: 1, unread: i > 1, cpuMs: 100 + i * 100 });
  }
  assert.match(fault ?? "", /^an endless loop in message 1:/);
});

test("cpuMsOf() grows with what this process computes, and knows of no dead process", () => {
  const before = cpuMsOf(process.pid) ?? Number.NaN;
  const { user, system } = process.cpuUsage();
  while (process.cpuUsage().user + process.cpuUsage().system < user + system + 200_000);
  const used = (cpuMsOf(process.pid) ?? Number.NaN) - before;
  assert.ok(used >= 150, `${used} ms`);
  const pidMax = Number(readFileSync("/proc/sys/kernel/pid_max", "latin1"));
  assert.is(cpuMsOf(pidMax + 1), undefined);
});

test("hasUnread() is true until the other end has read everything", () => {
  const AF_UNIX = 1;
  const SOCK_SEQPACKET = 5;
  const pair = Mapping.anonymous(8);
  const buffer = Mapping.anonymous(8);
  assert.is(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair.address), 0);
  const [ours, theirs] = [pair.words[0]!, pair.words[1]!];
  assert.not(hasUnread(ours));
  write(ours, buffer.address, 8);
  write(ours, buffer.address, 1);
  assert.ok(hasUnread(ours));
  assert.not(hasUnread(theirs));
  recv(theirs, buffer.address, 8, 0);
  assert.ok(hasUnread(ours));
  recv(theirs, buffer.address, 8, 0);
  assert.not(hasUnread(ours));
});

test("hasUnread() fails for what is no socket", () => {
  assert.throws(() => hasUnread(1 << 20), /SIOCOUTQ.*EBADF/);
});

test.run();
