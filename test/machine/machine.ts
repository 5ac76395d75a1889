// Runs commands where KVM is a real one: on this machine when its CPU has hardware virtualisation,
// and otherwise on Debian's kernel in QEMU, which emulates a CPU that has it (AMD SVM). The
// emulated host is made by build/machine.ts, and what goes on in it is in host-init.sh.
//
// The emulation is not perfect: about one emulated host in thirty vanishes with all that is in it.
// What had not ended by then runs again in a fresh one, and the test log says so.

import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Cpio } from "../../build/cpio.js";
import { guestPath } from "../../build/guest.js";
import { buildMachine, HOST_PATHS, type MachineImages } from "../../build/machine.js";
import { missing } from "../support/debian.js";
import { note } from "../support/skip.js";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

/** Emulated hosts to try for one set of jobs. */
const HOSTS_MAX = 3;
/** From starting QEMU to the first job, on a slow and busy machine. */
const HOST_BOOT_MS = 120_000;
/** Added to a job's own limit, which the emulated host watches: then the host itself is gone. */
const HOST_GRACE_MS = 30_000;
const HOST_MEMORY_MB = 3000;
const JOB_OUTPUT_BYTES_MAX = 8 * 1024 * 1024;

/** Where things are on the machine that a job runs on. */
export interface Place {
  /** Whether the machine is an emulated one: only ratios of times mean anything there. */
  emulated: boolean;
  node: string;
  /** The checkout's root: `dist/bundle/cli/main.js` is below it. */
  checkout: string;
  /** Debian's kernel, a bzImage, and an initramfs that tests virtio-rng (guest-init.sh). */
  kernel: string;
  initrd: string;
  /** The polling guest of test/guest/, an ELF. */
  guest: string;
}

/** One command to run. */
export interface Job {
  /** Program and arguments. */
  command: (place: Place) => string[];
  timeoutMs: number;
}

export interface JobResult {
  /** Exit status; 137 when the time was over. */
  status: number;
  /** What it wrote to stdout and stderr. */
  output: string;
  seconds: number;
}

/** A job that runs `bulkhead` with these arguments. */
export function bulkhead(args: (place: Place) => string[], timeoutMs = 300_000): Job {
  const command = (place: Place) => {
    return [place.node, path.join(place.checkout, "dist/bundle/cli/main.js"), ...args(place)];
  };
  return { command, timeoutMs };
}

function mayUseKvm(): boolean {
  try {
    fs.accessSync("/dev/kvm", fs.constants.R_OK | fs.constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Whether /dev/kvm here is backed by hardware; without that flag it is a software one. */
function hasHardwareKvm(): boolean {
  if (!mayUseKvm()) return false;
  return /^flags\s*:.*\b(svm|vmx)\b/m.test(fs.readFileSync("/proc/cpuinfo", "utf8"));
}

let images: MachineImages | undefined;

/** Whether jobs run on an emulated host: BULKHEAD_TEST_MACHINE=emulated has it so anywhere. */
export function emulationWanted(): boolean {
  return process.env.BULKHEAD_TEST_MACHINE === "emulated" || !hasHardwareKvm();
}

/** Why jobs cannot run here, or undefined when they can. In CI a failed download is an error. */
export function machineUnavailable(): string | undefined {
  const lacking =
    missing("dpkg", "dpkg") ??
    (emulationWanted() ? missing("qemu-system-x86_64", "qemu-system-x86") : undefined);
  if (lacking !== undefined) return lacking;
  try {
    images ??= buildMachine();
    return undefined;
  } catch (error) {
    if (process.env.CI === "true") throw error;
    return `no test machine: ${(error as Error).message}; see: node dist/build/machine.js`;
  }
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** The initramfs of the emulated host with these jobs in it. */
function hostWithJobs(jobs: Map<number, Job>, directory: string): string {
  const place: Place = { ...HOST_PATHS, emulated: true };
  const cpio = new Cpio();
  for (const [index, { command, timeoutMs }] of jobs) {
    const line = command(place).map(quoted).join(" ");
    const seconds = Math.ceil(timeoutMs / 1000);
    cpio.file(
      path.join(HOST_PATHS.jobs, String(index)),
      `exec timeout -s KILL ${seconds} ${line}\n`,
    );
  }
  const part = path.join(directory, "jobs.cpio");
  const whole = path.join(directory, "initrd");
  cpio.write(part);
  fs.copyFileSync(images!.hostInitrd, whole);
  fs.appendFileSync(whole, fs.readFileSync(part));
  return whole;
}

function qemuArguments(initrd: string, consoleFile: string): string[] {
  return [
    ["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"],
    ["-m", String(HOST_MEMORY_MB), "-nodefaults", "-no-user-config", "-display", "none"],
    ["-no-reboot", "-kernel", images!.kernel, "-initrd", initrd],
    ["-append", "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable clocksource=tsc"],
    ["-serial", `file:${consoleFile}`, "-serial", "stdio"],
  ].flat();
}

/** Reads `@@start`, output and `@@end` of jobs from the emulated host's second serial port. */
export class JobReader {
  readonly results = new Map<number, JobResult>();
  /** Whether the host said that all jobs are done. */
  complete = false;
  #current: { index: number; start: number; output: string } | undefined;
  #line = "";

  push(text: string): void {
    const lines = (this.#line + text).split("\n");
    this.#line = lines.pop()!;
    for (const line of lines) this.#take(line);
  }

  #take(line: string): void {
    const [, word, index, status] = /^@@(start|end|off) ?(\d*) ?(\d*)\r?$/.exec(line) ?? [];
    if (word === "off") this.complete = true;
    else if (word === "start") {
      this.#current = { index: Number(index), start: performance.now(), output: "" };
    } else if (word === "end") this.#end(Number(status));
    else if (this.#current && this.#current.output.length < JOB_OUTPUT_BYTES_MAX) {
      this.#current.output += `${line}\n`;
    }
  }

  #end(status: number): void {
    const { index, start, output } = this.#current!;
    const seconds = (performance.now() - start) / 1000;
    // host-init.sh puts a line break before its @@end, whether there was one or not.
    this.results.set(index, { status, output: output.slice(0, -1), seconds });
    this.#current = undefined;
  }
}

/** Boots one emulated host; resolves to what it got done before it ended or vanished. */
async function runHost(jobs: Map<number, Job>): Promise<JobReader> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-machine-"));
  const reader = new JobReader();
  const consoleFile = path.join(directory, "console");
  try {
    const args = qemuArguments(hostWithJobs(jobs, directory), consoleFile);
    const qemu = spawn("qemu-system-x86_64", args, { stdio: ["ignore", "pipe", "pipe"] });
    qemu.stdout.setEncoding("utf8").on("data", (text: string) => reader.push(text));
    let errors = "";
    qemu.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
    const limits = [...jobs.values()].map((job) => job.timeoutMs + HOST_GRACE_MS);
    const limit = limits.reduce((sum, ms) => sum + ms, HOST_BOOT_MS);
    const timer = setTimeout(() => qemu.kill("SIGKILL"), limit);
    await new Promise((resolve) => qemu.once("close", resolve));
    clearTimeout(timer);
    if (!reader.complete) {
      const last = fs.existsSync(consoleFile) ? fs.readFileSync(consoleFile, "latin1") : "";
      note(`the emulated host vanished; its last words:\n${errors}${last.slice(-2000)}`);
    }
    return reader;
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

async function runEmulated(jobs: Job[]): Promise<JobResult[]> {
  const results = new Map<number, JobResult>();
  for (let host = 0; host < HOSTS_MAX && results.size < jobs.length; host++) {
    const left = [...jobs.entries()].filter(([index]) => !results.has(index));
    if (host > 0) note(`a fresh emulated host for ${left.length} of ${jobs.length} jobs`);
    const reader = await runHost(new Map(left));
    for (const [index, result] of reader.results) results.set(index, result);
  }
  return jobs.map((_, index) => {
    const result = results.get(index);
    if (!result) throw new Error(`job ${index} never ended: ${HOSTS_MAX} emulated hosts vanished`);
    return result;
  });
}

function runHere(job: Job): Promise<JobResult> {
  const place: Place = {
    emulated: false,
    node: process.execPath,
    checkout: ROOT,
    kernel: images!.kernel,
    initrd: images!.guestInitrd,
    guest: guestPath("entropy"),
  };
  const [program, ...args] = job.command(place);
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(program!, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => (output += text));
    }
    const timer = setTimeout(() => child.kill("SIGKILL"), job.timeoutMs);
    child.once("error", reject);
    child.once("close", (status) => {
      clearTimeout(timer);
      resolve({ status: status ?? 137, output, seconds: (performance.now() - start) / 1000 });
    });
  });
}

/**
 * Runs `jobs` one after the other on a machine with a real KVM; call machineUnavailable() first.
 * All jobs share one boot of an emulated host, which takes 10 s: pass several.
 */
export async function runInMachine(jobs: Job[]): Promise<JobResult[]> {
  if (emulationWanted()) return runEmulated(jobs);
  const results: JobResult[] = [];
  for (const job of jobs) results.push(await runHere(job));
  return results;
}
