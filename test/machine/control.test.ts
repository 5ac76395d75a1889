// The control socket of a VM whose guest runs: what it answers, and that nothing that is said to it
// disturbs the guest.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { kernelOf } from "../../build/bench/first-light.js";
import { CONNECTIONS_MAX, REQUEST_CHARACTERS_MAX } from "../../host/machine/control-server.js";
import { BULKHEAD, whyNoKvm } from "../support/bulkhead.js";
import { askOnce, RawClient, untilServed } from "../support/control.js";
import { skip } from "../support/skip.js";
import { VmmProcess, withVmm } from "../support/vmm-process.js";

const control = suite("control");

const scratch = mkdtempSync(path.join(os.tmpdir(), "bulkhead-control-"));
process.env.XDG_RUNTIME_DIR = scratch;

function socketOf(name: string): string {
  return path.join(scratch, "bulkhead", `${name}.sock`);
}

/** A guest that asks its device for something all the time. */
const BUSY = ["--rng", "-p", "bench seconds=600 depth=4 request=64 timeout=600"];
/** One that does so for a while, and powers off. */
const BRIEF = ["--rng", "-p", "bench seconds=4 depth=4 request=64 timeout=600"];
const HANG = ["--rng", "-p", "exit=hang bytes=64"];

/** The machine that most tests talk to, at the same time as its guest works. */
const shared = socketOf("shared");
let busy: VmmProcess;

control.before(async () => {
  busy = new VmmProcess("--name", "shared", ...BUSY);
  await busy.until(() => existsSync(shared));
  await untilServed(shared);
  await busy.until(() => busy.text.includes("queue of"));
});

control.after(async () => {
  busy.process.kill("SIGKILL");
  await busy.exit;
  rmSync(scratch, { recursive: true });
});

interface Figures {
  requests: number;
  latency: number[];
}

async function requests(file: string): Promise<number> {
  const { devices } = await askOnce(file, "counters");
  return (devices as Figures[])[0]!.requests;
}

/** Resolves when the guest has got something of its device since now. */
async function progress(file: string): Promise<void> {
  const before = await requests(file);
  while ((await requests(file)) === before) {}
}

/** A test that ends with the guest going on as if nothing had happened. */
function harmless(name: string, body: () => Promise<void>): void {
  control(name, async () => {
    await body();
    await progress(shared);
  });
}

harmless("status says what the VM is, and each of its devices", async () => {
  const { id, ok, ...status } = await askOnce(shared, "status");
  assert.equal([id, ok], [1, true]);
  assert.is(status.name, "shared");
  assert.is(status.pid, busy.pid);
  assert.is(status.state, "running");
  assert.is(status.cpus, 1);
  const [device] = status.devices as Record<string, unknown>[];
  assert.equal([device?.id, device?.state, device?.isolation], ["rng0", "running", "process"]);
  assert.is(device?.pid, busy.events("device-ready")[0]?.pid);
});

harmless("vmm-ready names the VM and its socket, which is its user's alone", async () => {
  const [ready] = busy.events("vmm-ready");
  assert.equal([ready?.name, ready?.socket], ["shared", shared]);
  assert.is(statSync(shared).mode & 0o777, 0o600);
  assert.is(statSync(path.dirname(shared)).mode & 0o777, 0o700);
});

harmless("several requests are answered in order, each with its id", async () => {
  const client = await RawClient.connect(shared);
  client.say('{"id":1,"request":"status"}\n{"id":"b","request":"counters"}\r\n{"request":"?"}\n');
  client.socket.end();
  const answers = [];
  for (let line = await client.line(); line !== undefined; line = await client.line()) {
    answers.push(JSON.parse(line) as { id: unknown; ok: boolean });
  }
  assert.equal(
    answers.map(({ id, ok }) => [id, ok]),
    [
      [1, true],
      ["b", true],
      [null, false],
    ],
  );
  await client.closed;
});

const WRONG: readonly [name: string, line: string, code: string][] = [
  ["what is no JSON", "status", "ERR_NOT_JSON"],
  ["nothing", "", "ERR_NOT_JSON"],
  ["JSON without a request", "[1]", "ERR_NO_REQUEST"],
  ["null", "null", "ERR_NO_REQUEST"],
  ["a request that is no word", '{"request":{"a":1}}', "ERR_NO_REQUEST"],
  ["an unknown request", '{"request":"reboot"}', "ERR_UNKNOWN_REQUEST"],
  ["a name of every object", '{"request":"constructor"}', "ERR_UNKNOWN_REQUEST"],
  ["bytes that are no UTF-8", "\udc00\u0000", "ERR_NOT_JSON"],
];

for (const [name, line, code] of WRONG) {
  harmless(`${name} is refused with ${code}, and the next request is answered`, async () => {
    const client = await RawClient.connect(shared);
    client.say(`${line}\n`);
    const answer = JSON.parse((await client.line()) ?? "") as { error: { code: string } };
    assert.is(answer.error.code, code);
    assert.is((await client.ask({ id: 2, request: "status" })).ok, true);
    client.close();
  });
}

for (const end of ["\n", ""]) {
  const how = end === "" ? "that does not end" : "with an end";
  harmless(`a line that is too long, ${how}, is refused, and the conversation ends`, async () => {
    const client = await RawClient.connect(shared);
    client.say(`${"x".repeat(REQUEST_CHARACTERS_MAX + 1)}${end}`);
    assert.match((await client.line()) ?? "", "ERR_TOO_LONG");
    await client.closed;
  });
}

harmless(
  "a client that goes in the middle of a request, or of an answer, leaves nothing",
  async () => {
    for (let i = 0; i < 2 * CONNECTIONS_MAX; i += 1) {
      const client = await RawClient.connect(shared);
      client.say(i % 2 === 0 ? '{"request":"sta' : '{"request":"metrics"}\n'.repeat(50));
      await new Promise((resolve) => setTimeout(resolve, 1));
      client.close();
      await client.closed;
    }
    assert.is((await askOnce(shared, "status")).ok, true);
  },
);

harmless("a reader that never reads keeps nobody from anything", async () => {
  const socket = net.connect(shared);
  await new Promise((resolve) => socket.once("connect", resolve));
  socket.pause();
  socket.on("error", () => {});
  // Far more than sockets hold: the VMM neither answers nor keeps what it cannot say.
  for (let i = 0; i < 200; i += 1) socket.write('{"request":"metrics"}\n'.repeat(100));
  for (let i = 0; i < 3; i += 1) assert.is((await askOnce(shared, "status")).ok, true);
  socket.destroy();
});

harmless("more clients than are served are let go, and the others are answered", async () => {
  const clients: RawClient[] = [];
  for (let i = 0; i < CONNECTIONS_MAX; i += 1) clients.push(await RawClient.connect(shared));
  for (const client of clients) assert.is((await client.ask({ request: "status" })).ok, true);
  const beyond = await RawClient.connect(shared);
  await beyond.closed;
  for (const client of clients) {
    assert.is((await client.ask({ request: "counters" })).ok, true);
    client.close();
  }
});

harmless("an HTTP client gets the metrics, in Prometheus's text format", async () => {
  const client = await RawClient.connect(shared);
  client.say("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n");
  await client.closed;
  const [head = "", body = ""] = client.text.split("\r\n\r\n");
  assert.match(head, /^HTTP\/1\.0 200 OK\r\nContent-Type: text\/plain; version=0\.0\.4/);
  assert.match(head, `Content-Length: ${Buffer.byteLength(body)}`);
  const bad = body.split("\n").filter((line) => {
    return !/^(# (HELP|TYPE) .+|[a-z_]+\{([a-z]+="[^"]*",?)+\} [0-9.e+-]+|)$/.test(line);
  });
  assert.equal(bad, []);
  const value = (name: string) =>
    Number(
      body
        .split("\n")
        .find((l) => l.startsWith(name))
        ?.split(" ")[1],
    );
  const device = '{vm="shared",device="rng0"';
  const count = value(`bulkhead_device_requests_total${device}`);
  assert.ok(count > 0);
  assert.is(value(`bulkhead_device_request_duration_seconds_bucket${device},le="+Inf"}`), count);
  assert.is(value(`bulkhead_device_request_duration_seconds_count${device}`), count);
  const elsewhere = await RawClient.connect(shared);
  elsewhere.say("GET / HTTP/1.0\r\n\r\n");
  assert.match((await elsewhere.line()) ?? "", "404");
  elsewhere.close();
});

harmless("a paused guest makes no progress, and goes on when it is resumed", async () => {
  assert.is((await askOnce(shared, "pause")).state, "paused");
  const halted = await requests(shared);
  for (let i = 0; i < 20; i += 1) {
    assert.is((await askOnce(shared, "status")).state, "paused");
    assert.is(await requests(shared), halted);
  }
  assert.is((await askOnce(shared, "pause")).state, "paused");
  assert.is((await askOnce(shared, "resume")).state, "running");
  await progress(shared);
  assert.is((await askOnce(shared, "resume")).state, "running");
});

harmless("debug shows the registers of a guest that runs, and of one that is paused", async () => {
  const rip = async () => {
    const text = String((await askOnce(shared, "debug")).text);
    assert.match(text, /^vCPU 0:\n {2}rip [0-9a-f]{16} /m);
    assert.match(text, /status 0xf \(ACKNOWLEDGE DRIVER FEATURES_OK DRIVER_OK\)/);
    assert.match(text, /queue 0: size 64, rings at .*; taken \d+, used \d+, \d+ held/);
    return text;
  };
  assert.match(await rip(), "The VM is running.");
  await askOnce(shared, "pause");
  const paused = await rip();
  assert.match(paused, "The VM is paused.");
  assert.is(await rip(), paused, "nothing moves");
  await askOnce(shared, "resume");
});

harmless("a second VM of the same name is refused with status 2, and says so", async () => {
  const second = new VmmProcess("--name", "shared", ...HANG);
  assert.equal(await second.exit, [2, null]);
  const [error] = second.events("error");
  assert.match(String(error?.message), /^Cannot name this VM "shared": a VM that runs has it/);
  assert.is((await askOnce(shared, "status")).pid, busy.pid);
});

/** Says what is wrong in a conversation of its own, and goes in the middle of the answer. */
async function annoy(file: string, text: string): Promise<void> {
  try {
    const client = await RawClient.connect(file);
    client.say(text);
    await Promise.race([client.line(), client.closed]);
    client.close();
  } catch {
    // The VM has ended.
  }
}

control("a guest ends as it does alone, whatever is said to its VM meanwhile", async () => {
  const file = socketOf("brief");
  await withVmm(["--name", "brief", ...BRIEF], async (machine) => {
    await machine.until(() => existsSync(file));
    const long = "x".repeat(REQUEST_CHARACTERS_MAX + 1);
    let said = 0;
    while (existsSync(file)) {
      for (const [, line] of WRONG) await annoy(file, `${line}\n`);
      await annoy(file, long);
      await annoy(file, '{"request":"debug"}\n');
      said += 1;
    }
    assert.ok(said > 0);
    assert.equal(await machine.exit, [0, null]);
    assert.match(machine.text, "1 passed, 0 failed: PASS");
  });
});

/** What is left of a VM that was killed with its warden: a file that nobody listens at. */
function leaveBehind(file: string): void {
  const script = "require('net').createServer().listen(process.argv[1], () => process.abort())";
  spawnSync(process.execPath, ["-e", script, file], { stdio: "ignore" });
  assert.ok(existsSync(file));
}

control("a socket that was left behind is taken over, and is gone with the VM", async () => {
  const file = socketOf("stale");
  leaveBehind(file);
  await withVmm(["--name", "stale", ...HANG], async (machine) => {
    await machine.until(() => machine.text.includes("hangs"));
    assert.is((await askOnce(file, "status")).pid, machine.pid);
    assert.is(await machine.end(), 143);
  });
  assert.is(existsSync(file), false);
});

control("of VMs that start at once under one name, one runs and has it", async () => {
  const file = socketOf("race");
  leaveBehind(file);
  const machines = [0, 1, 2].map(() => new VmmProcess("--name", "race", ...HANG));
  try {
    const runs = () => machines.filter(({ process: { exitCode } }) => exitCode === null);
    while (runs().length > 1) await new Promise((resolve) => setTimeout(resolve, 5));
    const [winner] = runs();
    await winner!.until(() => winner!.text.includes("hangs"));
    assert.is((await askOnce(file, "status")).pid, winner!.pid);
    const others = machines.filter((machine) => machine !== winner);
    assert.equal(await Promise.all(others.map(({ exit }) => exit)), [
      [2, null],
      [2, null],
    ]);
  } finally {
    for (const machine of machines) machine.process.kill("SIGKILL");
    await Promise.all(machines.map(({ exit }) => exit));
  }
});

control("stop ends a guest, paused or not, with status 0, and its socket is gone", async () => {
  for (const paused of [false, true]) {
    const file = path.join(scratch, `api-${paused}.sock`);
    await withVmm(["--api-socket", file, "-c", "2", ...HANG], async (machine) => {
      await machine.until(() => machine.text.includes("hangs"));
      if (paused) assert.is((await askOnce(file, "pause")).state, "paused");
      assert.is((await askOnce(file, "stop")).state, "stopping");
      assert.equal(await machine.exit, [0, null]);
      assert.is(machine.events("guest-exit")[0]?.reason, "stopped");
    });
    assert.is(existsSync(file), false);
  }
});

/** mov dx, 0x3f8 │ mov al, '!' │ out dx, al │ jmp back to it */
const TALKATIVE = [0x66, 0xba, 0xf8, 0x03, 0xb0, 0x21, 0xee, 0xeb, 0xfd];

control("a vCPU that nobody reads the output of is paused once somebody has", async () => {
  const kernel = path.join(scratch, "talkative.elf");
  writeFileSync(kernel, kernelOf(TALKATIVE));
  const file = socketOf("talkative");
  const args = [BULKHEAD, "run", kernel, "--name", "talkative"];
  const vmm = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const state = async () => (await askOnce(file, "status")).state;
  try {
    await untilServed(file);
    // A pipe holds 64 KiB, and its end here another 64; emulated, that takes the guest a moment.
    for (;;) {
      await askOnce(file, "pause");
      if ((await state()) === "pausing") break;
      await askOnce(file, "resume");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.match(
      String((await askOnce(file, "debug")).text),
      "vCPU 0: waits for something outside",
    );
    vmm.stdout.resume();
    while ((await state()) !== "paused") {}
    assert.is((await askOnce(file, "stop")).state, "stopping");
    assert.equal(await once(vmm, "exit"), [0, null]);
  } finally {
    vmm.kill("SIGKILL");
  }
});

control("the socket of a VMM that is killed is removed by its warden", async () => {
  const file = socketOf("killed");
  await withVmm(["--name", "killed", ...HANG], async (machine) => {
    await machine.until(() => machine.text.includes("hangs"));
    // A device that comes back shows that the warden is at work.
    process.kill(Number(machine.events("device-ready")[0]?.pid), "SIGKILL");
    await machine.until(() => machine.events("device-ready").length === 2);
    machine.process.kill("SIGKILL");
    await machine.exit;
    while (existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 5));
  });
});

control("the counters go on over a restart of the device, and count it", async () => {
  const file = socketOf("restarted");
  await withVmm(["--name", "restarted", ...BUSY], async (machine) => {
    await machine.until(() => machine.text.includes("queue of"));
    await progress(file);
    process.kill(Number(machine.events("device-ready")[0]?.pid), "SIGKILL");
    await machine.until(() => machine.events("device-ready").length === 2);
    await progress(file);
    const { devices } = await askOnce(file, "counters");
    const [counters] = devices as (Figures & { restarts: number })[];
    assert.is(counters!.restarts, 1);
    const { devices: states } = await askOnce(file, "status");
    const [state] = states as { pid: number; state: string }[];
    assert.is(state!.pid, machine.events("device-ready")[1]?.pid);
  });
});

const reason = whyNoKvm();
if (reason === undefined) control.run();
else skip(reason);
