// A guest that plays every class of bug at random against its first rng device, on a real KVM: see
// test/guest/hostile.c, which checks what the devices do to its memory. Here is the host's side.
// BULKHEAD_TEST_SEED and BULKHEAD_TEST_OPERATIONS choose another run, and `from=N` on the guest's
// command line begins with the play that failed.

import { type ChildProcess, spawn } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileGuest, findCompiler, guestPath } from "../../../build/guest.js";
import type { Isolation, VmEvent } from "../../../host/machine/config.js";
import { LINES_BURST_MAX, LINES_PER_SECOND_MAX } from "../../../host/wire/line-log.js";
import { BULKHEAD, whyNoKvm } from "../../support/bulkhead.js";
import { note, skip } from "../../support/skip.js";
import { OPERATIONS, SEED } from "../../virtio/random.js";

const MIB = 1024 * 1024;

/** Exit status of a guest that leaves by the debug exit with 0: it passed. */
const PASSED = 1;

/**
 * How much more memory a process may have in the last tenth of a run than in the first: V8 sizes
 * its heaps by what it saw, while a leak of 64 bytes an operation would be 60 MB.
 */
const GROWTH_BYTES_MAX = 32 * MIB;

/** Of the operations, those that leave the guest. */
const EXITS_SHARE_MIN = 0.2;

/** With fewer some class may not be played. */
const OPERATIONS_MIN = 50_000;

/** Each device has two logs, for what its driver and what it itself gets wrong. */
const LOGS_PER_DEVICE = 2;

/** What the kernel says of a process. */
interface Sample {
  state: string;
  /** Memory that is the process's own; guest RAM is shared memory and not in it. */
  bytes: number;
  fds: number;
}

function sampleOf(pid: number): Sample {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  const word = (name: string) => new RegExp(`^${name}:\\s+(\\S+)`, "m").exec(status)?.[1] ?? "";
  const fds = readdirSync(`/proc/${pid}/fd`).length;
  return { state: word("State"), bytes: Number(word("RssAnon")) * 1024, fds };
}

type Event<E extends VmEvent["event"]> = Extract<VmEvent, { event: E }>;

interface AttackOptions {
  elf?: string;
  isolation?: Isolation;
}

/** One run of the guest, and what was seen of it. */
class Attack {
  readonly events: VmEvent[] = [];
  /** For each percent of the operations, a sample of every process, the VMM first. */
  readonly samples: Sample[][] = [];
  text = "";
  status: number | null = null;
  readonly #vmm: ChildProcess;
  #rest = "";

  private constructor(params: string, { elf, isolation }: Required<AttackOptions>) {
    const guest = ["run", elf, "-m", "128M", "--debug-exit", "--json", "-p", params];
    const devices = ["--rng", "--device", "rng", "--isolation", isolation];
    const command = [BULKHEAD, ...guest, ...devices];
    this.#vmm = spawn(process.execPath, command, { stdio: ["pipe", "pipe", "inherit"] });
  }

  static async run(operations: number, options: AttackOptions = {}): Promise<Attack> {
    const { elf = guestPath("hostile"), isolation = "process" } = options;
    const params = `seed=${SEED} operations=${operations} ram=128 step exit=debug`;
    const attack = new Attack(params, { elf, isolation });
    await attack.#watch();
    return attack;
  }

  all<E extends VmEvent["event"]>(name: E): Event<E>[] {
    return this.events.filter((event): event is Event<E> => event.event === name);
  }

  async #watch(): Promise<void> {
    const vmm = this.#vmm;
    vmm.stdin?.on("error", () => {}); // it has ended, and says why
    vmm.stdout?.setEncoding("utf8").on("data", (text: string) => this.#take(text));
    await new Promise((resolve) => vmm.once("close", resolve));
    this.status = vmm.exitCode;
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const event = JSON.parse(line) as VmEvent;
      this.events.push(event);
      if (event.event === "serial") this.#read(event.text);
    }
  }

  /** The guest waits after each percent, so what is sampled is at rest. */
  #read(text: string): void {
    this.text += text.replaceAll("\r", "");
    const percents = this.text.match(/^hostile: \d+ %$/gm)?.length ?? 0;
    if (percents === this.samples.length) return;
    const devices = this.all("device-ready").map(({ pid }) => pid);
    const pids = new Set([this.#vmm.pid ?? 0, ...devices]);
    this.samples.push([...pids].map(sampleOf));
    this.#vmm.stdin?.write(".");
  }

  /** A number that the guest reported. */
  number(pattern: RegExp): number {
    return Number(pattern.exec(this.text)?.[1] ?? Number.NaN);
  }
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Bytes by which a process has grown from its first tenth of samples to the last one. */
function growth(samples: Sample[]): number {
  const tenth = Math.ceil(samples.length / 10);
  const bytes = samples.map((sample) => sample.bytes);
  return median(bytes.slice(-tenth)) - median(bytes.slice(0, tenth));
}

function checkGuest(attack: Attack, operations: number): void {
  const last = attack.text.trimEnd().split("\n").slice(-3).join("\n");
  assert.match(attack.text, /^hostile guest: 1 passed, 0 failed: PASS$/m, last);
  assert.is(attack.status, PASSED);
  assert.is(attack.all("guest-exit")[0]?.reason, "debug-exit");
  const exits =
    attack.number(/(\d+) register accesses, \d+ kicks/) + attack.number(/accesses, (\d+) kicks/);
  assert.ok(attack.number(/^hostile: (\d+) operations:/m) >= operations);
  assert.ok(exits >= operations * EXITS_SHARE_MIN, `${exits} exits`);
  const total = attack.number(/^hostile: (\d+) plays, \d+ proofs/m);
  assert.ok(attack.number(/rng0 and (\d+) of rng1 answered/) >= total, "the neighbour starved");
  const classes = [...attack.text.matchAll(/^hostile: .*: (\d+) plays, (\d+) operations/gm)];
  assert.ok(classes.length > 0);
  for (const [line, plays] of classes) assert.ok(Number(plays) > 0, `not played: ${line}`);
}

function checkProcesses(attack: Attack, count: number): void {
  assert.is(attack.all("device-ready").length, 2, "a device was started again");
  assert.equal(attack.all("device-exit"), []);
  assert.equal(attack.all("device-restart"), []);
  assert.ok(attack.samples.length >= 20, `${attack.samples.length} samples`);
  for (let process = 0; process < count; process += 1) {
    const samples = attack.samples.map((each) => each[process]!);
    const name = process === 0 ? "the VMM" : `device ${process}`;
    const grown = growth(samples);
    assert.ok(
      samples.every(({ state }) => /^[RSD]$/.test(state)),
      `${name} is not alive`,
    );
    assert.ok(grown <= GROWTH_BYTES_MAX, `${name} grew by ${grown} bytes`);
    assert.equal([...new Set(samples.map(({ fds }) => fds))].length, 1, `descriptors of ${name}`);
  }
}

function checkLog(attack: Attack): void {
  const logs = attack.all("log");
  const seconds = (attack.events.at(-1)!.time - attack.events[0]!.time) / 1000;
  const linesMax = LOGS_PER_DEVICE * 2 * (LINES_BURST_MAX + LINES_PER_SECOND_MAX * seconds);
  assert.ok(logs.length > LINES_BURST_MAX, "the guest was not complained about");
  assert.ok(logs.length <= linesMax, `${logs.length} lines in ${seconds} s`);
  for (const { text } of logs) assert.match(text, /driver bug: /);
}

/** What the guest decided: plays and operations of each class. */
function playsOf({ text }: Attack): string[] {
  const lines = text.matchAll(/^hostile: (.*: \d+ plays, \d+ operations), .*ignored$/gm);
  return [...lines].map(([, line]) => line!);
}

function tell(attack: Attack): void {
  const grown = attack.samples[0]!.map((_, process) =>
    growth(attack.samples.map((each) => each[process]!)),
  );
  const kib = grown.map((bytes) => `${Math.round(bytes / 1024)} KiB`).join(", ");
  const seconds = (attack.events.at(-1)!.time - attack.events[0]!.time) / 1000;
  const [operations] = /^hostile: \d+ operations:.*$/m.exec(attack.text) ?? [];
  note(`seed ${SEED}: ${operations}; grown by ${kib}; ${seconds.toFixed(0)} s`);
}

async function attack(operations: number, isolation: Isolation): Promise<void> {
  const run = await Attack.run(operations, { isolation });
  checkGuest(run, operations);
  checkProcesses(run, isolation === "process" ? 3 : 1);
  checkLog(run);
  tell(run);
}

const noKvm = whyNoKvm();
if (noKvm === undefined) {
  test("a hostile guest harms no device and no VMM, and no device harms its memory", () =>
    attack(Math.max(OPERATIONS_MIN, OPERATIONS), "process"));

  test("a hostile guest plays the same from the same seed, also when it is rebuilt", async () => {
    const committed = await Attack.run(OPERATIONS_MIN);
    const directory = mkdtempSync(path.join(os.tmpdir(), "bulkhead-hostile-"));
    try {
      const elf = path.join(directory, "hostile.elf");
      if (findCompiler() === undefined) copyFileSync(guestPath("hostile"), elf);
      else compileGuest("hostile", elf);
      const rebuilt = await Attack.run(OPERATIONS_MIN, { elf });
      assert.equal(playsOf(rebuilt), playsOf(committed));
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("a hostile guest does no more to devices inside the VMM's process", () =>
    attack(Math.max(OPERATIONS_MIN, OPERATIONS / 10), "inline"));
} else skip(noKvm);

test.run();
