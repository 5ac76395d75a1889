// bulkhead list, stop, pause, resume, stat, debug and top, with VMs that run.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { bulkhead, jsonLines, whyNoKvm } from "../support/bulkhead.js";
import { askOnce } from "../support/control.js";
import { skip } from "../support/skip.js";
import { VmmProcess } from "../support/vmm-process.js";

const control = suite("control");

const scratch = mkdtempSync(path.join(os.tmpdir(), "bulkhead-verbs-"));
process.env.XDG_RUNTIME_DIR = scratch;
const directory = path.join(scratch, "bulkhead");

function socketOf(name: string): string {
  return path.join(directory, `${name}.sock`);
}

const machines: VmmProcess[] = [];

/** A VM whose guest reads entropy all the time, or hangs. */
async function start(name: string, params = "bench seconds=600 timeout=600"): Promise<VmmProcess> {
  const machine = new VmmProcess("--name", name, "--rng", "-p", params);
  machines.push(machine);
  await machine.until(() => /queue of|hangs/.test(machine.text));
  return machine;
}

control.after(async () => {
  for (const machine of machines) {
    machine.process.kill("SIGKILL");
    await machine.exit;
  }
  rmSync(scratch, { recursive: true });
});

/** What `bulkhead` with `args` printed; it must succeed. */
function ok(...args: string[]): string {
  const { status, stdout, stderr } = bulkhead(args);
  assert.is(status, 0, stderr);
  assert.is(stderr, "");
  return stdout;
}

function refused(...args: string[]): string {
  const { status, stdout, stderr } = bulkhead(args);
  assert.is(status, 2);
  assert.is(stdout, "");
  return stderr;
}

control("where no VM runs, list and top say so, and the others name what is missing", () => {
  assert.is(ok("list"), "No VM runs.\n");
  assert.is(ok("list", "--json"), "");
  assert.is(ok("top", "-i", "0.1"), "No VM runs.\n");
  for (const verb of ["stop", "pause", "resume", "stat", "debug", "top"]) {
    assert.match(
      refused(verb, "web"),
      /^Error: Cannot find VM "web": no such VM runs, there is no/,
    );
  }
  assert.match(refused("stop", "a b"), /^Error: Cannot control VM "a b": it has other characters/);
});

control("list shows every VM, and takes away what dead ones left behind", async () => {
  const web = await start("web");
  await start("db-2", "exit=hang");
  await start("db-10", "exit=hang");
  const script = "require('net').createServer().listen(process.argv[1], () => process.abort())";
  spawnSync(process.execPath, ["-e", script, socketOf("dead")], { stdio: "ignore" });
  assert.ok(existsSync(socketOf("dead")));
  assert.match(refused("stop", "nobody"), /no such VM runs, known: db-2, db-10, web\n/);
  const lines = ok("list").trimEnd().split("\n");
  assert.match(lines[0]!, /^NAME +PID +STATE +CPUS +MEMORY +UPTIME +DEVICES$/);
  assert.equal(
    lines.slice(1).map((line) => line.split(/ +/)[0]),
    ["db-2", "db-10", "web"],
  );
  assert.match(lines[3]!, new RegExp(`^web +${web.pid} +running +1 +256M +\\d+s +rng0$`));
  assert.equal(readdirSync(directory).sort(), ["db-10.sock", "db-2.sock", "web.sock"]);
  assert.equal(
    jsonLines(ok("list", "--json")).map(({ name, state }) => [name, state]),
    [
      ["db-2", "running"],
      ["db-10", "running"],
      ["web", "running"],
    ],
  );
});

control("a name that is nearly one gets told which it is", () => {
  assert.match(refused("stat", "wep"), /no such VM runs, did you mean "web"\?\n {2}bulkhead list/);
});

control("stat shows what each device has done", () => {
  const lines = ok("stat", "web").split("\n");
  assert.match(lines[0]!, /^web: running, process \d+, 1 CPU, 256M, mmio, seccomp enforce, up \d/);
  assert.match(lines[2]!, /^DEVICE +STATE +REQUESTS +TO +FROM +P50 +P99 +KICKS +RESTARTS$/);
  assert.match(
    lines[3]!,
    /^rng0 +running +[1-9]\S* +0 +[1-9]\S* +\d\S*[um]?s +\d\S*[um]?s +\S+ +0$/,
  );
  const [status] = jsonLines(ok("stat", "web", "--json"));
  const [device] = status!.devices as Record<string, unknown>[];
  assert.ok(Number(device?.p99Us) >= Number(device?.p50Us) && Number(device?.p50Us) > 0);
});

control("a VM is addressed by the path of its socket as well", () => {
  assert.match(ok("stat", socketOf("web")), /^web: running/);
  assert.match(refused("stat", path.join(scratch, "none")), /Cannot find VM ".*": it has ended/);
});

control("pause halts a VM, and resume lets it go on", async () => {
  assert.is(ok("pause", "web"), "web: paused\n");
  assert.match(ok("list"), /^web +\d+ +paused /m);
  assert.match(ok("top", "web", "-i", "0.1"), /^web +rng0 +running +0 +0 +0 +- +- +0 /m);
  assert.is(ok("resume", "web"), "web: running\n");
  assert.is((await askOnce(socketOf("web"), "status")).state, "running");
});

control("debug shows registers and queues", () => {
  const text = ok("debug", "web");
  assert.match(text, /^vCPU 0:\n {2}rip [0-9a-f]{16}/m);
  assert.match(text, /^rng0: running, process \d+\n {2}status 0xf/m);
});

control("top in a pipe looks twice and prints one table, of all VMs or of one", () => {
  const all = ok("top", "-i", "0.3").trimEnd().split("\n");
  assert.match(
    all[0]!,
    /^VM +DEVICE +STATE +REQ\/S +TO\/S +FROM\/S +P50 +P99 +RESTARTS +CPU% +RSS$/,
  );
  assert.equal(
    all.slice(1).map((line) => line.split(/ +/).slice(0, 2).join(" ")),
    ["db-2 (vmm)", "db-2 rng0", "db-10 (vmm)", "db-10 rng0", "web (vmm)", "web rng0"],
  );
  assert.match(all[6]!, / [1-9]\S* +0 +[1-9]\S* +\d\S*s +\d\S*s +0 +\d+\.\d +\d+M$/);
  const [vm, ...others] = jsonLines(ok("top", "web", "--json", "-i", "0.3"));
  assert.equal(others, []);
  const [device] = vm!.devices as Record<string, number>[];
  assert.ok(device!.requestsPerSecond! > 0 && device!.rssBytes! > 1e6, JSON.stringify(device));
  assert.match(refused("top", "-i", "x"), /Cannot look every "x" seconds: give seconds from 0.1/);
});

control("stop ends one VM and no other, and says when it is gone", async () => {
  const [web] = machines;
  assert.is(ok("stop", "web"), "web: stopped\n");
  assert.equal(await web!.exit, [0, null]);
  assert.is(web!.events("guest-exit")[0]?.reason, "stopped");
  assert.match(refused("stop", "web"), /^Error: Cannot find VM "web"/);
  assert.equal(
    jsonLines(ok("list", "--json")).map(({ name }) => name),
    ["db-2", "db-10"],
  );
});

/** Something that listens where a VM would, and says `answer` to every request. */
async function impostor(name: string, answer: string): Promise<net.Server> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const server = net.createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", () => socket.write(answer));
  });
  server.listen(socketOf(name));
  await new Promise((resolve) => server.once("listening", resolve));
  return server;
}

/** Runs `bulkhead` with `args` while this process goes on to answer it. */
async function meanwhile(...args: string[]) {
  const { spawn } = await import("node:child_process");
  const { BULKHEAD } = await import("../support/bulkhead.js");
  const child = spawn(process.execPath, [BULKHEAD, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (more: string) => (text += more));
  }
  const [status] = await new Promise<unknown[]>((resolve) =>
    child.once("close", (...ended) => resolve(ended)),
  );
  return { status, text };
}

control("a VM that says what it should not drives no terminal, and crashes nobody", async () => {
  const evil = "\u001b]0;pwned\u0007\u009b31m";
  const answers: Record<string, string> = {
    "its answer is no JSON": "hello\n",
    "its status says nothing of devices": '{"ok":true}\n',
    "its answer does not end": "x".repeat(2 ** 21),
  };
  for (const [why, answer] of Object.entries(answers)) {
    const server = await impostor("evil", answer);
    const { status, text } = await meanwhile("stat", "evil");
    assert.is(status, 1, text);
    assert.match(text, `Error: Cannot control VM "evil": ${why}`);
    await new Promise((resolve) => server.close(resolve));
  }
  const server = await impostor(
    "evil",
    `${JSON.stringify({ ok: true, text: evil, state: evil })}\n`,
  );
  for (const verb of ["debug", "pause"]) {
    const { text } = await meanwhile(verb, "evil");
    assert.not.match(text.replaceAll("\n", ""), /\p{Cc}/u, verb);
    assert.match(text, "\\x1b]0;pwned");
  }
  await new Promise((resolve) => server.close(resolve));
});

const reason = whyNoKvm();
if (reason === undefined) control.run();
else skip(reason);
