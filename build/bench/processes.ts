// Starting processes and watching them from outside, with the clock of this one.

import { type ChildProcess, execFileSync, type StdioOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";

/** Far beyond what any run here takes. */
const TIMEOUT_MS = 60_000;

/** USER_HZ: /proc counts processor time in these, on every x86-64 Linux. */
const TICKS_PER_SECOND = 100;

export interface Finished {
  /** From before the start to the first byte on stdout; NaN if there was none. */
  firstByteMs: number;
  totalMs: number;
  stdout: string;
  /** What it said on stderr, and the signal that ended it, if one did. */
  complaint: string;
}

/**
 * What is measured sees nothing of this user's settings: with NODE_EXTRA_CA_CERTS alone, as some
 * machines set it for everybody, node takes twice as long to start.
 */
const ENVIRONMENT = { PATH: process.env.PATH ?? "" };

/** Starts `command`; the caller ends it, and reads stderr if that is to be a pipe. */
export function start(
  command: readonly string[],
  stderr: "ignore" | "pipe" = "ignore",
): ChildProcess {
  const [file, ...args] = command;
  const stdio: StdioOptions = ["ignore", "pipe", stderr];
  return spawn(file!, args, { stdio, env: ENVIRONMENT, timeout: TIMEOUT_MS });
}

/** Runs `command` to its end. */
export async function time(command: readonly string[]): Promise<Finished> {
  const begin = performance.now();
  const child = start(command, "pipe");
  let complaint = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => (complaint += text));
  let firstByteMs = Number.NaN;
  let stdout = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => {
    if (stdout === "") firstByteMs = performance.now() - begin;
    stdout += text;
  });
  const [, signal] = (await once(child, "close")) as [number | null, string | null];
  if (signal !== null) complaint += `ended by ${signal}\n`;
  return { firstByteMs, totalMs: performance.now() - begin, stdout, complaint };
}

/** The process `pid` and all below it. */
function family(pid: number): number[] {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const children = tasks.flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean),
  );
  return [pid, ...children.map(Number).flatMap(family)];
}

/** Processor time that `pid` and its children have used, in ms. */
function processorMs(pid: number): number {
  const ticks = family(pid).map((member) => {
    const stat = readFileSync(`/proc/${member}/stat`, "latin1");
    const [user, system] = stat
      .slice(stat.lastIndexOf(")") + 2)
      .split(" ")
      .slice(11, 13);
    return Number(user) + Number(system);
  });
  return (ticks.reduce((a, b) => a + b, 0) * 1000) / TICKS_PER_SECOND;
}

/** Percent of one core that `pid` and its children use over `seconds`. */
export async function processorPercent(pid: number, seconds: number): Promise<number> {
  const before = processorMs(pid);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  return (processorMs(pid) - before) / (seconds * 10);
}

/** Memory of a process, or of several. */
export interface Memory {
  /** What would be free without it. */
  privateBytes: number;
  /** Pages that others have mapped as well: mostly the text of programs and libraries. */
  sharedBytes: number;
  /** Private, and its share of what it shares (PSS). */
  proportionalBytes: number;
}

/** A process of a family. */
export interface Member {
  pid: number;
  /** Its arguments. */
  command: string;
  memory: Memory;
}

function memberOf(pid: number): Member {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "latin1");
  const bytes = (...names: string[]) => {
    const sizes = names.map((name) => new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(rollup)?.[1]);
    return sizes.reduce((sum, size) => sum + Number(size) * 1024, 0);
  };
  return {
    pid,
    command: readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " "),
    memory: {
      privateBytes: bytes("Private_Clean", "Private_Dirty"),
      sharedBytes: bytes("Shared_Clean", "Shared_Dirty"),
      proportionalBytes: bytes("Pss"),
    },
  };
}

/** Memory of `pid` and all below it, measured now; `pid` comes first. */
export function memoryOf(pid: number): Member[] {
  return family(pid).map(memberOf);
}

export function total(members: readonly Member[]): Memory {
  const sum = (part: keyof Memory) => members.reduce((all, { memory }) => all + memory[part], 0);
  return {
    privateBytes: sum("privateBytes"),
    sharedBytes: sum("sharedBytes"),
    proportionalBytes: sum("proportionalBytes"),
  };
}

/** The middle of `values`, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2;
}

/** First line of what `command` prints; undefined where it is not installed. */
export function versionOf(command: string, ...args: string[]): string | undefined {
  try {
    return execFileSync(command, args, { encoding: "utf8" }).split("\n")[0];
  } catch {
    return undefined;
  }
}
