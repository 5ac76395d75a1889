// Runs commands where KVM is a real one: on this machine when its CPU has hardware virtualisation,
// and otherwise on Debian's kernel in QEMU, which emulates a CPU that has it (AMD SVM). The
// emulated host is made by build/machine.ts, and what goes on in it is in host-init.sh.
//
// The emulation is not perfect: a host may vanish or hang with all that is in it, and a guest may
// die of it. What runs again, and how often, is in tries.ts; the test log says so each time.

import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Cpio } from "../../build/cpio.js";
import type { Distribution } from "../../build/distribution.js";
import { guestPath } from "../../build/guest.js";
import { buildMachine, HOST_PATHS, type MachineImages } from "../../build/machine.js";
import { callAt, mprotect } from "../../host/ffi/libc.js";
import { Mapping, PROT_EXEC, PROT_READ } from "../../host/ffi/memory.js";
import { missing } from "../support/debian.js";
import { note } from "../support/skip.js";
import { HostWatch, withoutHostSigns } from "./host-watch.js";
import { type HostReport, type JobResult, Tries } from "./tries.js";

export type { JobResult } from "./tries.js";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

/** A job: more than three times what one takes with its host, 70 s (control-linux). */
const JOB_MS = 240_000;
/** All jobs of a test with all their repetitions: less than the test runner's limit. */
const MACHINE_MS_MAX = 1_080_000;
/** For a guest that has RAM above 4 GiB; what nobody touches costs nothing. */
const HOST_MEMORY_MB = 6500;
const JOB_OUTPUT_BYTES_MAX = 8 * 1024 * 1024;
/** Of the host's console, shown when it vanishes: one oops with a deep call trace. */
const CONSOLE_BYTES = 32 * 1024;

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
  /** An initramfs that uses the devices of devices-as/examples/ (examples-init.sh). */
  examplesInitrd: string;
  /** The polling guest of test/guest/, an ELF. */
  guest: string;
  /** Where the disks of RunOptions are. */
  disks: string;
}

/** What jobs need besides what is always there. */
export interface RunOptions {
  /** Its files are in Place.disks. On an emulated host they are as new, whoever wrote to them. */
  disks?: Distribution | undefined;
  /** CPUs of an emulated host; more are as fast as the machine allows, and repeat more (CPUS). */
  cpus?: number;
  /** A cpio archive that an emulated host unpacks over its own files. */
  archive?: string | undefined;
  /** For all jobs with their repetitions; a test has less than the runner gives it. */
  limitMs?: number;
  /** Told when a job has ended, on an emulated host. */
  ended?: () => void;
  /** Told what the emulator did and what runs again; the test log, unless it is something else. */
  note?: ((text: string) => void) | undefined;
}

/** One command to run. */
export interface Job {
  /** Program and arguments. */
  command: (place: Place) => string[];
  timeoutMs?: number;
  /** Whether its output, however it ended, shows a wrong result; then it never runs again. */
  isWrong?: (output: string) => boolean;
}

/** A job that runs `bulkhead` with these arguments. */
export function bulkhead(args: (place: Place) => string[]): Job {
  const command = (place: Place) => {
    return [place.node, path.join(place.checkout, "dist/bundle/cli/main.js"), ...args(place)];
  };
  return { command };
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

function limitOf({ timeoutMs }: Job): number {
  return timeoutMs ?? JOB_MS;
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** The initramfs of the emulated host with these jobs in it. */
function hostWithJobs(jobs: Map<number, Job>, directory: string, archive?: string): string {
  const place: Place = { ...HOST_PATHS, emulated: true };
  const cpio = new Cpio();
  for (const [index, job] of jobs) {
    const line = job.command(place).map(quoted).join(" ");
    const seconds = Math.ceil(limitOf(job) / 1000);
    cpio.file(
      path.join(HOST_PATHS.jobs, String(index)),
      `exec timeout -s KILL ${seconds} ${line}\n`,
    );
  }
  const part = path.join(directory, "jobs.cpio");
  const whole = path.join(directory, "initrd");
  cpio.write(part);
  fs.copyFileSync(images!.hostInitrd, whole);
  for (const more of archive === undefined ? [part] : [archive, part]) {
    fs.appendFileSync(whole, fs.readFileSync(more));
  }
  return whole;
}

/** rdtsc; shl rdx, 32; or rax, rdx; ret */
const RDTSC = Uint8Array.from([0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0xc3]);
const TSC_SAMPLE_MS = 200;

/** Ticks of this machine's TSC in a millisecond, which an emulated one shares. */
async function tscKhz(): Promise<number> {
  const code = Mapping.anonymous(RDTSC.length);
  new Uint8Array(code.view.buffer).set(RDTSC);
  mprotect(code.address, code.bytes, PROT_READ | PROT_EXEC);
  const [ticks, start] = [callAt(code.address, 0), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, TSC_SAMPLE_MS));
  const khz = (callAt(code.address, 0) - ticks) / (performance.now() - start);
  code.close();
  return Math.round(khz);
}

/**
 * The host is told how fast its TSC is: measured on a busy machine, it takes it for several times
 * slower than it is, its clock then runs that much too fast, and time limits end good jobs.
 */
function clockParameters(khz: number): string {
  return `tsc=reliable clocksource=tsc tsc_early_khz=${khz}`;
}

/**
 * One CPU and a timer that ticks. The emulator loses an interrupt now and then: when a guest's run
 * ends it clears a flag of the CPU without the lock under which others set theirs. With one CPU
 * these others are its timer and the disk alone. And a timer that fires once is gone for good, with
 * all that waits for time there, while one that ticks is late, once.
 */
const CPUS = 1;
const TICKS = "nohz=off highres=off";

/** What is written to a disk of an emulated host goes into a file that is gone with the host. */
function diskArguments({ disks }: RunOptions): string[] {
  if (disks === undefined) return [];
  return ["-drive", `file=${disks.packed},format=raw,if=virtio,snapshot=on,cache=unsafe`];
}

/**
 * Without ERMS and FSRM: a kernel that sees them copies with `rep movsb`, which the emulator does a
 * byte at a time, ten times as slow as with `rep movsq`. On a processor it is the other way around.
 */
const CPU = "max,-erms,-fsrm";

interface Emulated {
  initrd: string;
  consoleFile: string;
  khz: number;
  cpus: number;
}

function qemuArguments({ initrd, consoleFile, khz, cpus }: Emulated): string[] {
  return [
    ["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", `${cpus}`],
    ["-m", String(HOST_MEMORY_MB), "-nodefaults", "-no-user-config", "-display", "none"],
    ["-no-reboot", "-kernel", images!.kernel, "-initrd", initrd],
    ["-append", `console=ttyS0 quiet panic=-1 mitigations=off ${TICKS} ${clockParameters(khz)}`],
    ["-serial", `file:${consoleFile}`, "-serial", "stdio"],
  ].flat();
}

/** Reads `@@start`, output and `@@end` of jobs from the emulated host's second serial port. */
export class JobReader implements HostReport {
  readonly results = new Map<number, JobResult>();
  /** Whether the host said that all jobs are done. */
  complete = false;
  #current: { index: number; start: number; output: string } | undefined;
  #line = "";

  get unfinished(): { index: number; output: string } | undefined {
    return this.#current && { index: this.#current.index, output: this.#current.output };
  }

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

/** Boots one emulated host; resolves to what it got done before it ended, vanished or hung. */
async function runHost(
  jobs: Map<number, Job>,
  deadline: number,
  options: RunOptions,
): Promise<JobReader> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-machine-"));
  const reader = new JobReader();
  const consoleFile = path.join(directory, "console");
  try {
    const initrd = hostWithJobs(jobs, directory, options.archive);
    const emulated = { initrd, consoleFile, khz: await tscKhz(), cpus: options.cpus ?? CPUS };
    const args = [...qemuArguments(emulated), ...diskArguments(options)];
    const qemu = spawn("qemu-system-x86_64", args, { stdio: ["ignore", "pipe", "pipe"] });
    const watch = new HostWatch(consoleFile, deadline, () => qemu.kill("SIGKILL"));
    qemu.stdout.setEncoding("utf8").on("data", (text: string) => {
      const [count, index] = [reader.results.size, reader.unfinished?.index];
      reader.push(text);
      const hasEnded = reader.results.size !== count;
      const job = reader.unfinished && jobs.get(reader.unfinished.index);
      if (hasEnded || reader.unfinished?.index !== index) watch.progress(job && limitOf(job));
      if (hasEnded) options.ended?.();
    });
    let errors = "";
    qemu.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
    await new Promise((resolve) => qemu.once("close", resolve));
    watch.close();
    if (!reader.complete) {
      const said = fs.existsSync(consoleFile) ? fs.readFileSync(consoleFile, "latin1") : "";
      const last = withoutHostSigns(said).slice(-CONSOLE_BYTES);
      const how = qemu.signalCode === null ? "vanished" : "hung";
      (options.note ?? note)(`the emulated host ${how}; its last words:\n${errors}${last}`);
    }
    return reader;
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

async function runEmulated(jobs: Job[], options: RunOptions): Promise<JobResult[]> {
  const tell = options.note ?? note;
  const tries = new Tries(jobs.length, (index, output) => jobs[index]!.isWrong?.(output) ?? false);
  const deadline = performance.now() + (options.limitMs ?? MACHINE_MS_MAX);
  for (let left = tries.left(); left.length > 0; left = tries.left()) {
    if (performance.now() >= deadline) break;
    if (tries.hosts > 0) tell(`a fresh emulated host for ${left.length} of ${jobs.length} jobs`);
    const these = new Map(left.map((index) => [index, jobs[index]!]));
    const reader = await runHost(these, deadline, options);
    for (const text of tries.take(reader)) tell(text);
  }
  return jobs.map((_, index) => {
    const result = tries.result(index);
    if (!result) throw new Error(`job ${index} never ended: ${tries.hosts} emulated hosts did not`);
    return result;
  });
}

function runHere(job: Job, { disks }: RunOptions): Promise<JobResult> {
  const place: Place = {
    emulated: false,
    node: process.execPath,
    checkout: ROOT,
    kernel: images!.kernel,
    initrd: images!.guestInitrd,
    examplesInitrd: images!.examplesInitrd,
    guest: guestPath("entropy"),
    disks: disks?.directory ?? "",
  };
  const [program, ...args] = job.command(place);
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(program!, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => (output += text));
    }
    const timer = setTimeout(() => child.kill("SIGKILL"), limitOf(job));
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
export async function runInMachine(jobs: Job[], options: RunOptions = {}): Promise<JobResult[]> {
  if (emulationWanted()) return runEmulated(jobs, options);
  const results: JobResult[] = [];
  for (const job of jobs) results.push(await runHere(job, options));
  return results;
}
