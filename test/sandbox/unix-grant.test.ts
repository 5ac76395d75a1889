// Sockets that are granted: who may connect, what is taken over, what is left behind.

import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { VmmError } from "../../host/errors.js";
import { close } from "../../host/ffi/libc.js";
import { closeGrants, openGrants } from "../../host/sandbox/grant-open.js";
import type { GrantedFd, ResolvedGrant, Right } from "../../host/sandbox/grants.js";
import { removeSocketFile } from "../../host/sandbox/unix-socket.js";

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-unix-"));
test.after(() => fs.rmSync(directory, { recursive: true }));

let names = 0;

function newPath(): string {
  names += 1;
  return path.join(directory, `${names}.socket`);
}

function unix(what: string, right: Right): ResolvedGrant {
  return { name: "port", kind: "unix", what, rights: [right] };
}

function open(what: string, right: Right): GrantedFd {
  return openGrants([unix(what, right)])[0]!;
}

function refusal(what: string, right: Right): string {
  try {
    open(what, right);
    return "";
  } catch (error) {
    assert.instance(error, VmmError);
    return `${(error as VmmError).code} ${(error as VmmError).message.replace(directory, "")}`;
  }
}

/** Descriptors of this process. */
function openCount(): number {
  return fs.readdirSync("/proc/self/fd").length;
}

test("a listening socket lets only its user in, and its file goes with it", () => {
  const what = newPath();
  const umask = process.umask(0);
  const listener = open(what, "listen");
  process.umask(umask);
  const stat = fs.statSync(what);
  assert.is(stat.isSocket(), true);
  assert.is(stat.mode & 0o777, 0o600);
  closeGrants([listener]);
  assert.is(fs.existsSync(what), false);
});

test("a connection neither waits nor keeps others from connecting", () => {
  const what = newPath();
  const listener = open(what, "listen");
  const [one, two] = [open(what, "connect"), open(what, "connect")];
  assert.throws(() => fs.readSync(one.fd, Buffer.alloc(1)), /EAGAIN/);
  assert.is(fs.writeSync(two.fd, "hello"), 5);
  closeGrants([one, two, listener]);
});

test("a listener takes over the file of one that is gone", () => {
  const what = newPath();
  close(open(what, "listen").fd);
  const before = fs.statSync(what).ino;
  const listener = open(what, "listen");
  closeGrants([open(what, "connect")]);
  assert.is(listener.socketFile?.ino, fs.statSync(what).ino);
  assert.ok(before > 0);
  closeGrants([listener]);
});

test("a listener leaves one that is still there alone, however busy it is", () => {
  const what = newPath();
  const listener = open(what, "listen");
  const taken = /^ERR_GRANT Cannot grant port=unix:.*: EADDRINUSE, somebody else listens there$/;
  assert.match(refusal(what, "listen"), taken);
  const busy: GrantedFd[] = [];
  const fill = () => {
    while (busy.length < 100) busy.push(open(what, "connect"));
  };
  assert.throws(fill, /EWOULDBLOCK, too many wait to be served there/);
  assert.match(refusal(what, "listen"), taken);
  closeGrants([listener, ...busy]);
});

test("a listener does not replace what is no socket", () => {
  const what = newPath();
  fs.writeFileSync(what, "precious");
  assert.match(refusal(what, "listen"), /EADDRINUSE, it is there and no socket$/);
  fs.rmSync(what);
  fs.symlinkSync("/dev/null", what);
  assert.match(refusal(what, "listen"), /EADDRINUSE, it is there and no socket$/);
  assert.is(fs.lstatSync(what).isSymbolicLink(), true);
});

test("what cannot be opened says why, and leaves no descriptor", () => {
  const before = openCount();
  assert.match(
    refusal(newPath(), "connect"),
    /ENOENT, there is no such socket, start what listens/,
  );
  const stale = newPath();
  close(open(stale, "listen").fd);
  assert.match(refusal(stale, "connect"), /ECONNREFUSED, nobody listens there$/);
  assert.match(refusal("/proc/nowhere/socket", "listen"), /bind: ENOENT$/);
  const long = path.join(directory, "x".repeat(108));
  for (const right of ["connect", "listen"] as const) {
    assert.match(refusal(long, right), /its path has \d+ bytes, 107 is the most for a socket$/);
  }
  assert.is(openCount(), before);
});

test("openGrants() removes the file of a socket when another grant cannot be opened", () => {
  const what = newPath();
  const bad = unix(newPath(), "connect");
  assert.throws(() => openGrants([unix(what, "listen"), bad]), /there is no such socket/);
  assert.is(fs.existsSync(what), false);
});

test("openGrants() gives a copy of what is held, and that makes nothing to remove", () => {
  const what = newPath();
  const listener = open(what, "listen");
  const [copy] = openGrants([{ ...unix(what, "listen"), held: listener.fd }]);
  assert.is.not(copy?.fd, listener.fd);
  assert.is(copy?.socketFile, undefined);
  closeGrants([copy!]);
  closeGrants([open(what, "connect"), listener]);
});

test("removeSocketFile() leaves a file alone that is another's by now", () => {
  const what = newPath();
  const listener = open(what, "listen");
  fs.renameSync(what, `${what}.old`);
  const other = open(what, "listen");
  removeSocketFile(listener.socketFile!);
  assert.is(fs.existsSync(what), true);
  closeGrants([other, listener]);
  assert.is(fs.existsSync(what), false);
  removeSocketFile(other.socketFile!); // there is nothing, and that is no error
});

test("a connection that is granted reaches whoever listens, an ordinary server", async () => {
  const what = newPath();
  const server = net.createServer((socket) => socket.end("welcome"));
  await new Promise<void>((resolve) => server.listen(what, resolve));
  const connection = open(what, "connect");
  const socket = new net.Socket({ fd: connection.fd });
  const [text] = await new Promise<string[]>((resolve) =>
    socket.once("data", (data) => resolve([data.toString()])),
  );
  assert.is(text, "welcome");
  socket.destroy();
  server.close();
});

test.run();
