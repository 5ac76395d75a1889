// Starting processes and watching them from outside, with the clock of this one.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
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
}

/** Starts `command`; the caller ends it. */
export function start(command: readonly string[]): ChildProcess {
  const [file, ...args] = command;
  return spawn(file!, args, { stdio: ["ignore", "pipe", "ignore"], timeout: TIMEOUT_MS });
}

/** Runs `command` to its end. */
export async function time(command: readonly string[]): Promise<Finished> {
  const begin = performance.now();
  const child = start(command);
  let firstByteMs = Number.NaN;
  let stdout = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => {
    if (stdout === "") firstByteMs = performance.now() - begin;
    stdout += text;
  });
  await once(child, "close");
  return { firstByteMs, totalMs: performance.now() - begin, stdout };
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
