// Who may talk to the control socket, and for how long without saying anything. What a VM answers
// is in control.test.ts.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { VmmError } from "../../host/errors.js";
import { answerTo, type Controlled } from "../../host/machine/control.js";
import { controlDirectories, makeControlDirectory } from "../../host/machine/control-path.js";
import { ControlServer, REQUEST_CHARACTERS_MAX } from "../../host/machine/control-server.js";
import { listenAt } from "../../host/sandbox/unix-socket.js";
import { RawClient } from "../support/control.js";
import { skip } from "../support/skip.js";

const scratch = mkdtempSync(path.join(os.tmpdir(), "bulkhead-control-server-"));
test.after(() => rmSync(scratch, { recursive: true }));

/** A VM without a machine. */
const vm: Controlled = {
  status: () => ({
    name: "none",
    pid: process.pid,
    state: "running",
    startedAt: 0,
    kernel: "",
    cpus: 1,
    memoryBytes: 0,
    transport: "mmio",
    seccomp: "off",
    devices: [],
  }),
  counters: () => [],
  pause: () => Promise.reject(new Error("a mistake of ours")),
  resume: () => {
    throw new VmmError("ERR_SYSCALL", "Cannot resume: for a test");
  },
  debug: () => Promise.resolve(""),
  pressPowerButton: () => false,
  stop: () => {},
};

const servers: ControlServer[] = [];
test.after.each(async () => {
  for (const server of servers.splice(0)) await server.close();
});

/** The path of a socket that answers. */
function serve(name: string, idleMsMax?: number): string {
  return serveVm(name, vm, idleMsMax);
}

function serveVm(name: string, asked: Controlled | Promise<Controlled>, idleMsMax?: number) {
  const file = path.join(scratch, name);
  const { fd } = listenAt({ path: file, fault: (cause) => new Error(cause) }, 1);
  servers.push(new ControlServer(fd, asked, idleMsMax));
  return file;
}

test("a client that comes before there is a VM is answered when there is one", async () => {
  let hasVm: (vm: Controlled) => void = () => {};
  const file = serveVm("early", new Promise((resolve) => (hasVm = resolve)));
  const client = await RawClient.connect(file);
  client.say('{"request":"status"}\n');
  await sleep(50);
  assert.is(client.text, "");
  hasVm(vm);
  client.socket.end();
  await client.closed;
  assert.match(client.text, /"name":"none"/);
});

test("a client that has sent half a request, and no more, is let go", async () => {
  const file = serve("half", 100);
  const client = await RawClient.connect(file);
  client.say('{"request":"sta');
  await client.closed;
  assert.is(client.text, "");
});

test("a client that does not read its answers is let go, and they are kept no longer", async () => {
  const file = serve("deaf", 200);
  const client = await RawClient.connect(file);
  client.socket.pause();
  const gone = new Promise<void>((resolve) => client.socket.once("error", () => resolve()));
  const flood = setInterval(() => client.say('{"request":"metrics"}\n'.repeat(1000)), 1);
  await gone;
  clearInterval(flood);
});

test("a client that goes on after it was told all is heard no further, and let go", async () => {
  const client = await RawClient.connect(serve("chatty"));
  const flood = setInterval(() => client.say("x".repeat(REQUEST_CHARACTERS_MAX)), 1);
  await client.closed;
  clearInterval(flood);
  assert.is(client.text.match(/ERR_TOO_LONG/g)?.length, 1);
});

test("another user is refused, even where the socket's file lets everybody in", async () => {
  if (process.getuid?.() !== 0) return skip("not root: nobody else can be had");
  const file = serve("others");
  chmodSync(scratch, 0o755);
  chmodSync(file, 0o666);
  // It speaks when it was refused already, and hears only then: what it says must not fail.
  const script = `
    const [, file, request] = process.argv;
    const socket = require("net").connect(file, () => setTimeout(say, 200));
    const say = () => socket.write(request, () => socket.pipe(process.stdout));`;
  const say = ["-e", script, file, '{"request":"status"}\n'];
  const [uid, gid, cwd] = [65534, 65534, "/"];
  const child = spawn(process.execPath, say, {
    uid,
    gid,
    cwd,
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (more: string) => (text += more));
  const [status] = await once(child, "close");
  assert.is(status, 0);
  assert.match(text, /"code":"ERR_DENIED","message":"user 65534 may not control this VM"/);
});

test("what goes wrong in a request is its answer, and the server goes on", async () => {
  const answer = async (request: string) => {
    const line = await answerTo(JSON.stringify({ id: 7, request }), vm);
    return (JSON.parse(line) as { id: number; error?: { code: string } }).error?.code;
  };
  assert.is(await answer("pause"), "ERR_INTERNAL");
  assert.is(await answer("resume"), "ERR_SYSCALL");
  assert.is(await answer("status"), undefined);
});

test("the directory of sockets is of this user's session, root's, or the user's own", () => {
  const uid = 1234;
  const session = { XDG_RUNTIME_DIR: scratch };
  const own = "/tmp/bulkhead-1234";
  assert.equal(controlDirectories(session, uid), [path.join(scratch, "bulkhead"), own]);
  assert.equal(controlDirectories({ XDG_RUNTIME_DIR: "/nowhere" }, uid), [own]);
  assert.equal(controlDirectories({ XDG_RUNTIME_DIR: "run" }, uid), [own]);
  assert.equal(controlDirectories({}, 0), ["/run/bulkhead"]);
});

test("a directory that others may use, or made, is no place for control sockets", () => {
  const make = (name: string) => makeControlDirectory(path.join(scratch, name));
  make("new");
  make("new");
  mkdirSync(path.join(scratch, "open"), { mode: 0o755 });
  assert.throws(() => make("open"), /others may use it, its mode is 755; chmod 700 it/);
  symlinkSync("new", path.join(scratch, "link"));
  assert.throws(() => make("link"), /it is no directory/);
  assert.throws(() => make("nowhere/new"), /ENOENT/);
  if (process.getuid?.() !== 0) return skip("not root: nobody else's directory can be made");
  mkdirSync(path.join(scratch, "foreign"), { mode: 0o700 });
  chownSync(path.join(scratch, "foreign"), 65534, 65534);
  assert.throws(() => make("foreign"), /it belongs to user 65534/);
});

test.run();
