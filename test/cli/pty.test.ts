// A console on a pseudo-terminal of its own, from outside: a confined VMM, and whoever attaches.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { guestPath } from "../../build/guest.js";
import { BULKHEAD, bulkhead, jsonLines, whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";
import { Slave } from "../support/slave.js";

const GUEST = guestPath("console");
const LOOK_MS = 5;

/** Ended with the tests: those that fail leave theirs behind. */
const machines: ChildProcess[] = [];
test.after(() => {
  for (const machine of machines) machine.kill("SIGKILL");
});

/** `bulkhead run --json`, and the events that it has told. */
class Machine {
  readonly process: ChildProcess;
  #said = "";

  constructor(...args: string[]) {
    const command = [BULKHEAD, "run", GUEST, "--json", ...args];
    this.process = spawn(process.execPath, command, { stdio: ["ignore", "pipe", "inherit"] });
    machines.push(this.process);
    this.process.stdout?.setEncoding("utf8").on("data", (text: string) => (this.#said += text));
  }

  /** The `count`-th event of that name, from 1. */
  async event(name: string, count = 1): Promise<Record<string, unknown>> {
    for (;;) {
      const events = jsonLines(this.#said.slice(0, this.#said.lastIndexOf("\n") + 1));
      const found = events.filter(({ event }) => event === name)[count - 1];
      if (found !== undefined) return found;
      if (this.process.exitCode !== null) throw new Error(`no ${name} in:\n${this.#said}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }
}

/** What a process has open, where its user may look. */
function openFiles(pid: number): string[] {
  const directory = `/proc/${pid}/fd`;
  return fs.readdirSync(directory).map((fd) => fs.readlinkSync(`${directory}/${fd}`));
}

test("--console pty: who attaches talks to the guest, also while the device dies", async () => {
  const reason = whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const machine = new Machine("--console", "pty", "-p", "echo");
  const { id, grant, path } = (await machine.event("pty")) as Record<string, string>;
  assert.equal([id, grant], ["console0", "tty"]);
  const { mode, uid } = fs.statSync(path!);
  assert.is(mode & 0o7777, 0o600);
  assert.is(uid, process.getuid?.());
  const ready = await machine.event("device-ready");
  await machine.event("vmm-ready");
  const somebody = new Slave(path!);
  somebody.type("hello");
  assert.is(String(await somebody.hearText("hello")), "hello");
  spawnSync("stty", ["-F", path!, "rows", "7", "cols", "31"]);
  somebody.type("x"); // with it, the device looks how large the terminal is
  assert.match(String(await somebody.hearText("\n")), "size 7 31\r\n");

  process.kill(Number(ready.pid), "SIGKILL");
  somebody.type("across");
  assert.match(String(await somebody.hearText("across")), "across");
  const next = Number((await machine.event("device-ready", 2)).pid);
  if (process.getuid?.() === 0) {
    const open = openFiles(next);
    assert.is(open.filter((file) => file.endsWith("ptmx")).length, 1, open.join());
    assert.not.ok(open.includes(path!));
  }
  somebody.type("q");
  await somebody.hearText("q");
  assert.equal(await once(machine.process, "exit"), [0, null]);
  assert.is(somebody.read()?.length, 0, "it has hung up");
  assert.not.ok(fs.existsSync(path!));
  somebody.close();
});

test("--console pty,port=pty prints where each is, and waits for nobody", () => {
  const reason = whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const args = ["--console", "pty,port=pty,name1=agent", "--console", "pty", "-p", "send=1000000"];
  const { status, stderr, stdout } = bulkhead(["run", GUEST, ...args]);
  assert.is(status, 0, stderr);
  assert.match(stdout, "console: sent 1000000 bytes");
  const lines = stderr.split("\n").filter((line) => line.includes("pty"));
  assert.is(lines.length, 3);
  assert.match(lines[0]!, /^# console0: pty \/dev\/pts\/\d+$/);
  assert.match(lines[1]!, /^# console0\.port1: pty \/dev\/pts\/\d+$/);
  assert.match(lines[2]!, /^# console1: pty \/dev\/pts\/\d+$/);
});

test("a pseudo-terminal is made for any module that asks for a terminal or a peer", () => {
  const reason = whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const grants = ["--grant", "console0.tty=tty:pty:rw", "--grant", "console0.port3=unix:pty"];
  const module = new URL("../../devices/console.wasm", import.meta.url).pathname;
  const { status, stderr } = bulkhead(["run", GUEST, "--device", module, ...grants]);
  assert.is(status, 0, stderr);
  assert.match(stderr, /^# console0: pty .*\n# console0\.port3: pty /);
});

const MISTAKES: [args: string[], stderr: RegExp][] = [
  [
    ["--console", "pty:foo"],
    /^Error: Cannot connect a console to "pty:foo": .* gets its name when it is made\n/,
  ],
  [
    ["--console", "pty,unix=/tmp/x"],
    /^Error: .* console0 to tty "pty" and socket "\/tmp\/x": it goes to one place\n/,
  ],
  [
    ["--console", "virtio", "--console", "virtio"],
    /^Error: .* two consoles: console0 and console1 would both have this terminal\n/,
  ],
  [
    ["--console", "pty", "--grant", "console0.port1=unix:pty:listen"],
    /^Error: .* console0\.port1: nobody connects to a pseudo-terminal; .* is \.\/pty\n/,
  ],
];

for (const [args, expected] of MISTAKES) {
  test(`${args.join(" ")} is told, with exit status 2`, () => {
    const { status, stderr } = bulkhead(["run", GUEST, ...args]);
    assert.is(status, 2, stderr);
    assert.match(stderr, expected);
  });
}

test.run();
