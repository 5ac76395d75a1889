// The test runner: `npm test`, or `npm test -- virtio cli` for the files whose names contain a
// word.
//
// One process a file, because a seccomp filter or a dead worker must not reach the next file; fast
// files first. A file fails when a test in it fails, when it crashes, hangs or runs no test at all.
// The last line is always `N passed, N failed, N skipped`.

import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** Folders of test/ in the order they run; others come after the pure ones. */
const ORDER = {
  pure: ["", "build", "ffi", "boot", "wire", "virtio", "wit", "runtime", "testing", "devices-as"],
  heavy: ["fuzz", "sandbox", "kvm", "guest", "cli", "machine", "breach"],
};

/** Against hangs only: many times what a file takes on a slow machine. */
const TIME_LIMIT_MS = 600_000;
/** These boot whole kernels on an emulated CPU, and again when it fails, below MACHINE_MS_MAX. */
const SLOW_TIME_LIMIT_MS = 1_200_000;
const SLOW_FOLDERS = new Set(["machine", "breach"]);

/** Output of one file that is kept to be shown when it fails. */
const OUTPUT_BYTES_MAX = 4 * 1024 * 1024;

/** What is shown of the command line of a process that hangs. */
const COMMAND_MAX = 2000;
/** After a file's process is gone: how long its pipes may stay open, held by a grandchild. */
const PIPES_CLOSE_MS = 1000;

export interface RunOptions {
  /** The checkout: sources in `test/`, compiled to `dist/test/`. */
  root: string;
  /** Only files whose name contains one of these words; empty: all. */
  filters: string[];
  /** Limit for every file, instead of the built-in ones. */
  timeLimitMs?: number;
  /** Shows the output of files that pass, too. */
  verbose?: boolean;
}

export interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

interface FileResult extends Totals {
  name: string;
  seconds: number;
  /** What is wrong with the file as a whole: it crashed, hung, or ran nothing. */
  trouble: string | undefined;
  skips: string[];
  notes: string[];
  output: string;
}

/** How the process of one file ended. */
interface Ending {
  status: number | null;
  signal: string | null;
  hung: boolean;
  output: string;
}

/** Names of all test sources under `root`/test, without `.test.ts`: `virtio/queue`. */
function findTests(root: string): string[] {
  const directory = path.join(root, "test");
  const entries = fs.readdirSync(directory, { recursive: true, encoding: "utf8" });
  const suffix = ".test.ts";
  return entries.filter((e) => e.endsWith(suffix)).map((e) => e.slice(0, -suffix.length));
}

function folderOf(name: string): string {
  return name.includes("/") ? name.slice(0, name.indexOf("/")) : "";
}

function rank(name: string): number {
  const folder = folderOf(name);
  const pure = ORDER.pure.indexOf(folder);
  if (pure !== -1) return pure;
  return ORDER.pure.length + 1 + ORDER.heavy.indexOf(folder);
}

/** The tests to run, in order. */
export function selectTests(root: string, filters: string[]): string[] {
  const wanted = (name: string) => filters.length === 0 || filters.some((f) => name.includes(f));
  return findTests(root)
    .filter(wanted)
    .sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: terminal colours start with one
const COLOURS = /\u001b\[[0-9;]*m/g;

/** Texts of the lines that start with `word`, also behind the dots that uvu prints. */
function linesOf(output: string, word: string): string[] {
  const lines = output.matchAll(new RegExp(`^(?:[•✘] )*${word} (.*)$`, "gmu"));
  return [...lines].map((match) => match[1]!.trimEnd());
}

function total(output: string, label: string): number | undefined {
  const matches = [...output.matchAll(new RegExp(`^  ${label}: +([0-9]+)$`, "gm"))];
  return matches.length === 0 ? undefined : matches.reduce((sum, m) => sum + Number(m[1]), 0);
}

function troubleOf(ending: Ending, totals: Totals & { ran: boolean }): string | undefined {
  if (ending.hung) return "hung";
  if (ending.signal !== null) return `crashed: killed by ${ending.signal}`;
  if (totals.failed > 0) return undefined;
  if (ending.status !== 0) return `crashed: exit status ${ending.status}`;
  if (!totals.ran && totals.skipped === 0) return "ran no test";
  return undefined;
}

/** Adds up what uvu printed, and finds what it could not say. */
function judge(name: string, ending: Ending, seconds: number): FileResult {
  const output = ending.output.replaceAll(COLOURS, "");
  const skips = linesOf(output, "SKIP");
  const ran = total(output, "Total") ?? 0;
  const passed = total(output, "Passed") ?? 0;
  const skipped = skips.length + (total(output, "Skipped") ?? 0);
  const failed = ran - passed;
  const trouble = troubleOf(ending, { passed, failed, skipped, ran: ran > 0 });
  return {
    name,
    seconds,
    trouble,
    skips,
    notes: linesOf(output, "NOTE"),
    output: ending.output,
    passed,
    failed: failed + (trouble === undefined ? 0 : 1),
    skipped,
  };
}

/** Where the threads of a process that hangs, and of all below it, are: a line each. */
function whereabouts(pid: number): string {
  const at = `/proc/${pid}/task`;
  const read = (file: string) => fs.readFileSync(file, "utf8").trim();
  try {
    const command = read(`/proc/${pid}/cmdline`).split("\0").join(" ").trim().slice(0, COMMAND_MAX);
    const lines = fs.readdirSync(at).map((tid) => {
      const state = read(`${at}/${tid}/stat`).replace(/^.*\) (.).*$/, "$1");
      return `  ${tid} ${state} ${read(`${at}/${tid}/wchan`)}: ${read(`${at}/${tid}/syscall`)}`;
    });
    const children = fs.readdirSync(at).flatMap((tid) => {
      const pids = read(`${at}/${tid}/children`).split(" ");
      return pids.filter((child) => child !== "").map((child) => whereabouts(Number(child)));
    });
    return [`${pid}: ${command}`, ...lines, ...children].join("\n");
  } catch (error) {
    return `${pid}: ${error}`; // it ended meanwhile
  }
}

/** Ends what a file left running in its process group; nothing may be there any more. */
function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // ESRCH: all of it has ended.
  }
}

/** Runs one compiled test file in a process of its own. */
function execute(file: string, timeLimitMs: number, onOutput: (text: string) => void) {
  return new Promise<Ending>((resolve) => {
    const child = spawn(process.execPath, [file], {
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, BULKHEAD_TEST: "1" },
    });
    const stop = () => {
      killGroup(child.pid);
      process.exit(130);
    };
    process.once("SIGINT", stop);
    const ending: Ending = { status: null, signal: null, hung: false, output: "" };
    const collect = (text: string) => {
      if (ending.output.length < OUTPUT_BYTES_MAX) ending.output += text;
      onOutput(text);
    };
    child.stdout.setEncoding("utf8").on("data", collect);
    child.stderr.setEncoding("utf8").on("data", collect);
    const limit = setTimeout(() => {
      ending.hung = true;
      if (child.pid !== undefined) collect(`\nhung:\n${whereabouts(child.pid)}\n`);
      killGroup(child.pid);
    }, timeLimitMs);
    child.once("error", (error) => collect(String(error)));
    child.once("exit", (status, signal) => {
      clearTimeout(limit);
      process.off("SIGINT", stop);
      Object.assign(ending, { status, signal });
      killGroup(child.pid);
      setTimeout(() => child.stdout.destroy() && child.stderr.destroy(), PIPES_CLOSE_MS).unref();
    });
    child.once("close", () => resolve(ending));
  });
}

const terminal = process.stdout.isTTY === true;

function colour(code: number, text: string): string {
  return terminal ? `\u001b[${code}m${text}\u001b[0m` : text;
}

/** The line that a terminal shows while a file runs, and that the next line replaces. */
function showProgress(text: string): void {
  if (terminal) process.stdout.write(`\r\u001b[2K${text}`);
}

function counts({ passed, failed, skipped }: Totals): string {
  const parts = [`${passed} passed`];
  if (failed > 0) parts.push(`${failed} failed`);
  if (skipped > 0) parts.push(`${skipped} skipped`);
  return parts.join(", ");
}

function showResult(result: FileResult, verbose: boolean): void {
  const { name, seconds, failed, trouble, output } = result;
  showProgress("");
  const mark = failed === 0 ? colour(32, "ok  ") : colour(31, "FAIL");
  const why = trouble === undefined ? "" : ` (${trouble})`;
  console.log(`${mark} ${name}: ${counts(result)}${why}, ${seconds.toFixed(2)} s`);
  if (verbose) return;
  if (failed > 0) console.log(`${output.trimEnd().replaceAll(/^/gm, "     | ")}\n`);
  else for (const text of result.notes) console.log(`     ${text}`);
}

async function runFile(name: string, options: RunOptions): Promise<FileResult> {
  const file = path.join(options.root, "dist", "test", `${name}.test.js`);
  const slow = SLOW_FOLDERS.has(folderOf(name));
  const timeLimitMs = options.timeLimitMs ?? (slow ? SLOW_TIME_LIMIT_MS : TIME_LIMIT_MS);
  const echo = (text: string) => void (options.verbose === true && process.stdout.write(text));
  const start = performance.now();
  const ending = await execute(file, timeLimitMs, echo);
  return judge(name, ending, (performance.now() - start) / 1000);
}

/** Runs the tests one file after the other and prints a line for each; resolves to the sums. */
export async function runTests(options: RunOptions): Promise<Totals> {
  const names = selectTests(options.root, options.filters);
  const sums: Totals = { passed: 0, failed: 0, skipped: 0 };
  const skips: string[] = [];
  for (const [index, name] of names.entries()) {
    showProgress(`     ${name} (${index + 1} of ${names.length}, ${counts(sums)})`);
    const result = await runFile(name, options);
    showResult(result, options.verbose === true);
    for (const key of ["passed", "failed", "skipped"] as const) sums[key] += result[key];
    skips.push(...result.skips.map((reason) => `${name}: ${reason}`));
  }
  if (skips.length > 0) console.log(`\nSkipped:\n${skips.map((s) => `  ${s}`).join("\n")}`);
  return sums;
}

async function main(): Promise<void> {
  const root = process.env.BULKHEAD_TEST_ROOT ?? fileURLToPath(new URL("../..", import.meta.url));
  const words = process.argv.slice(2);
  const options: RunOptions = {
    root,
    filters: words.filter((word) => !word.startsWith("-")),
    verbose: words.includes("--verbose"),
  };
  const limit = process.env.BULKHEAD_TEST_TIMEOUT_MS;
  if (limit !== undefined) options.timeLimitMs = Number(limit);
  const { passed, failed, skipped } = await runTests(options);
  if (passed + failed + skipped === 0) console.log(`No test matches ${words.join(" ")}`);
  console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`);
  process.exitCode = failed > 0 || passed + skipped === 0 ? 1 : 0;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) await main();
