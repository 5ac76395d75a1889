// npm run bench: what a confined device costs, measured here and now. Medians of several runs;
// where QEMU is installed, its microvm runs the same guest in the same minutes.
//
//   npm run bench -- --json     one object instead of tables

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { STDERR, STDOUT, say, sayJson } from "../host/cli/output.js";
import { table } from "../host/cli/table.js";
import { firstLightGuest } from "./bench/first-light.js";
import { hostDriver } from "./bench/host-driver.js";
import { median, processorPercent, start, time, versionOf } from "./bench/processes.js";

const BULKHEAD = fileURLToPath(new URL("../bundle/cli/main.js", import.meta.url));
const GUEST = fileURLToPath(new URL("../guest/entropy.elf", import.meta.url));
const RNG = fileURLToPath(new URL("../devices/rng.wasm", import.meta.url));

/** Differences below a third are noise on a shared machine, whatever the number of runs. */
const RUNS = 7;
const THROUGHPUT_RUNS = 5;
const SECONDS = 1;
const IDLE_SECONDS = 5;

const QEMU = "qemu-system-x86_64";
const MICROVM = [
  ...["-M", "microvm,x-option-roms=off", "-enable-kvm", "-m", "128", "-nodefaults"],
  ...["-no-user-config", "-nographic", "-serial", "stdio", "-no-reboot"],
  ...["-object", "rng-random,filename=/dev/urandom,id=r", "-device", "virtio-rng-device,rng=r"],
  ...["-global", "virtio-mmio.force-legacy=false", "-device", "isa-debug-exit,iobase=0x501"],
];
/** Where microvm puts its virtio-mmio windows: base, step, count. */
const MICROVM_WINDOWS = "mmio=0xfeb00000,512,24";

/** One line of the result: a number that matters, its unit, and QEMU's where it has one. */
interface Result {
  name: string;
  unit: string;
  bulkhead: number;
  qemu?: number | undefined;
  /** What was aimed at, for a reader. */
  target?: string;
}

function bulkhead(kernel: string, ...options: string[]): string[] {
  return [process.execPath, BULKHEAD, "run", kernel, "-m", "128M", "--rng", ...options];
}

function qemu(kernel: string, cpu: string, parameters: string): string[] {
  return [QEMU, ...MICROVM, "-cpu", cpu, "-kernel", kernel, "-append", parameters];
}

/** A software KVM offers a bit of the host's CPU that it cannot virtualise. */
async function qemuCpu(kernel: string): Promise<string | undefined> {
  if (versionOf(QEMU, "--version") === undefined) return undefined;
  for (const cpu of ["host", "host,-arch-capabilities"]) {
    if ((await time(qemu(kernel, cpu, ""))).stdout !== "") return cpu;
  }
  return undefined;
}

function progress(text: string): void {
  say(STDERR, `bench: ${text}\n`);
}

/** Medians of `runs` rounds in which every command has a turn, so that all see the same noise. */
async function medians(
  commands: (string[] | undefined)[],
  runs: number,
  measure: (command: string[]) => Promise<number>,
): Promise<(number | undefined)[]> {
  const values: number[][] = commands.map(() => []);
  for (let run = 0; run < runs; run++) {
    for (const [index, command] of commands.entries()) {
      if (command !== undefined) values[index]!.push(await measure(command));
    }
  }
  return values.map((each) => (each.length === 0 ? undefined : median(each)));
}

async function benchStart(kernel: string, cpu: string | undefined): Promise<Result[]> {
  progress("start of the process to the guest's first instruction");
  const ours = bulkhead(kernel, "--debug-exit");
  const theirs = cpu === undefined ? undefined : qemu(kernel, cpu, "");
  const bare = [process.execPath, "-e", "process.stdout.write('!')"];
  const firstByte = async (command: string[]) => (await time(command)).firstByteMs;
  const [first, other, node] = await medians([ours, theirs, bare], RUNS, firstByte);
  const name = "exec → first guest instruction";
  return [
    { name, unit: "ms", bulkhead: first!, qemu: other, target: "≤ 250" },
    { name: "  of that, node until it runs a script", unit: "ms", bulkhead: node! },
  ];
}

/** MB/s that the guest itself has measured. */
async function guestSpeed(command: string[]): Promise<number> {
  const { stdout } = await time(command);
  const match = /(\d+) kB\/s/.exec(stdout);
  if (match === null) throw new Error(`no measurement from ${command[0]}:\n${stdout}`);
  return Number(match[1]) / 1000;
}

async function benchGuest(cpu: string | undefined): Promise<Result[]> {
  const results: Result[] = [];
  for (const [depth, request] of [
    [32, 4096],
    [1, 4096],
    [1, 64],
  ]) {
    progress(`guest reads ${request} bytes at a time, ${depth} in flight`);
    const work = `bench seconds=${SECONDS} depth=${depth} request=${request}`;
    const ours = bulkhead(GUEST, "-p", work);
    const exit = `${work} ${MICROVM_WINDOWS} exit=debug`;
    const theirs = cpu === undefined ? undefined : qemu(GUEST, cpu, exit);
    const [first, other] = await medians([ours, theirs], THROUGHPUT_RUNS, guestSpeed);
    const name = `rng in a guest, ${request} B × ${depth} in flight`;
    results.push({ name, unit: "MB/s", bulkhead: first!, qemu: other });
  }
  return results;
}

function benchHostDriver(): Result[] {
  progress("32 chains of 4 KiB from a confined process to a driver on the host");
  const { bytesPerSecond, startMs, proof } = hostDriver(RNG, THROUGHPUT_RUNS, SECONDS);
  const name = "rng to a driver on the host, 4096 B × 32 in flight";
  return [
    { name, unit: "MB/s", bulkhead: median(bytesPerSecond) / 1e6 },
    { name: "device process, spawn → confined", unit: "ms", bulkhead: startMs },
    {
      name: "device process, private memory",
      unit: "MB",
      bulkhead: proof.privateBytes / 1e6,
      target: "≤ 10",
    },
    {
      name: "  pages of node's text, unshared just now",
      unit: "MB",
      bulkhead: proof.privateFileBytes / 1e6,
    },
  ];
}

async function idlePercent(command: string[]): Promise<number> {
  const child = start(command);
  await new Promise((resolve) => child.stdout!.once("data", resolve));
  // What happens once after the start is not idling.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const percent = await processorPercent(child.pid!, IDLE_SECONDS);
  child.kill();
  await new Promise((resolve) => child.once("close", resolve));
  return percent;
}

async function benchIdle(kernel: string, cpu: string | undefined): Promise<Result[]> {
  progress("an idle machine");
  const theirs = cpu === undefined ? undefined : qemu(kernel, cpu, "");
  const [first, other] = await medians([bulkhead(kernel), theirs], 3, idlePercent);
  return [{ name: "idle machine, of one core", unit: "%", bulkhead: first!, qemu: other }];
}

function machine(cpu: string | undefined): Record<string, string> {
  const flags = readFileSync("/proc/cpuinfo", "utf8");
  const hardware = /^flags.*\b(vmx|svm)\b/m.test(flags);
  return {
    processor: `${os.cpus()[0]?.model ?? "unknown"}, ${os.cpus().length} cores`,
    kvm: hardware ? "hardware" : "without vmx or svm in /proc/cpuinfo",
    load: `${os.loadavg()[0]!.toFixed(1)} in the last minute, the benchmark's own included`,
    kernel: os.release(),
    node: process.version,
    qemu: cpu === undefined ? "none that runs" : (versionOf(QEMU, "--version") ?? "none"),
  };
}

function digits(value: number | undefined): string {
  if (value === undefined) return "";
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

async function report(results: Result[], about: Record<string, string>): Promise<void> {
  const rows = results.map(({ name, unit, bulkhead: ours, qemu: theirs, target = "" }) => [
    name,
    digits(ours),
    digits(theirs),
    unit,
    target,
  ]);
  say(STDOUT, `${await table(["", "Bulkhead", "QEMU microvm", "", "target"], rows)}\n`);
  for (const [name, value] of Object.entries(about)) say(STDOUT, `${name.padEnd(10)} ${value}\n`);
}

async function bench(scratch: string, json: boolean): Promise<void> {
  const leaving = path.join(scratch, "leave.elf");
  const sleeping = path.join(scratch, "sleep.elf");
  writeFileSync(leaving, firstLightGuest("leave"));
  writeFileSync(sleeping, firstLightGuest("sleep"));
  const cpu = await qemuCpu(leaving);
  const results = [
    ...(await benchStart(leaving, cpu)),
    ...benchHostDriver(),
    ...(await benchGuest(cpu)),
    ...(await benchIdle(sleeping, cpu)),
  ];
  if (json) sayJson({ machine: machine(cpu), results });
  else await report(results, machine(cpu));
}

const scratch = mkdtempSync(path.join(os.tmpdir(), "bulkhead-bench-"));
try {
  await bench(scratch, process.argv.includes("--json"));
} finally {
  rmSync(scratch, { recursive: true });
}
// The descriptors of the data path would keep the event loop; there is nothing left to wait for.
process.exit();
