// npm run bench: Bulkhead's numbers, and those of others in the same minutes on the same machine.
// Rounds in which everybody has a turn, medians of at least five, ratios. What it takes, and what
// is left out unless it is named, says --help.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { STDERR, STDOUT, say } from "../host/cli/output.js";
import { table } from "../host/cli/table.js";
import { chart } from "./bench/chart.js";
import { QEMU, qemuCpu } from "./bench/commands.js";
import { firstLightGuest } from "./bench/first-light.js";
import { versionOf } from "./bench/processes.js";
import {
  CHART,
  columns,
  finished,
  HEAD,
  merged,
  type Results,
  type SectionResult,
  withNumbers,
} from "./bench/report.js";
import { progress, ROUNDS } from "./bench/rounds.js";
import { type Context, runSection, SECTIONS, type Section } from "./bench/sections.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const README = path.join(ROOT, "README.md");
/** What README shows; other runs leave it alone. */
const CHECKED_IN = path.join(ROOT, "build/bench/results.json");
const OUTPUT = path.join(ROOT, "dist/bench.json");

const USAGE = `Usage: npm run bench -- [SECTION...] [--readme | --render]

Measures, prints a table and writes dist/bench.json. Sections, with what they take here:
${SECTIONS.map(usageOf).join("\n")}

  --readme   writes build/bench/results.json, too, and from it README's table and the chart;
             sections that were not measured stay as they are there
  --render   makes README's table and the chart of build/bench/results.json, and measures nothing
`;

function usageOf({ name, title, minutes, onlyByName }: Section): string {
  const when = onlyByName ? "; only when it is named" : "";
  return `  ${name.padEnd(12)} ${title}: ${minutes} min${when}`;
}

/** What the numbers were measured on. */
function machine(): Record<string, string> {
  const hardware = /^flags.*\b(vmx|svm)\b/m.test(readFileSync("/proc/cpuinfo", "utf8"));
  const [version = "none"] = /[\d.]+/.exec(versionOf(QEMU, "--version") ?? "") ?? [];
  return {
    Processor: `${os.cpus()[0]?.model.trim() ?? "unknown"}, ${os.cpus().length} cores`,
    KVM: hardware ? "hardware" : "software, without vmx or svm",
    Linux: os.release().replace(/^(\d+\.\d+).*/, "$1"),
    Node: process.version.slice(1),
    QEMU: version,
  };
}

/** Runs `body` with what sections need, which is gone afterwards. */
async function withContext(body: (context: Context) => Promise<void>): Promise<void> {
  const scratch = mkdtempSync(path.join(os.tmpdir(), "bulkhead-bench-"));
  const at = (name: string, then: "leave" | "sleep") => {
    const file = path.join(scratch, name);
    writeFileSync(file, firstLightGuest(then));
    return file;
  };
  try {
    const [kernel, sleepingKernel] = [at("leave.elf", "leave"), at("sleep.elf", "sleep")];
    await body({ kernel, sleepingKernel, cpu: await qemuCpu(kernel), rounds: ROUNDS });
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** `work`, which fails when nothing is left that could bring it to an end. */
async function unlessStuck<T>(work: Promise<T>): Promise<T> {
  let stuck = () => {};
  const never = new Promise<never>((_, reject) => {
    stuck = () => reject(new Error("waits for something that never comes, did a guest not start?"));
    process.once("beforeExit", stuck);
  });
  try {
    return await Promise.race([work, never]);
  } finally {
    process.off("beforeExit", stuck);
  }
}

async function measure(section: Section, context: Context): Promise<SectionResult> {
  const { name, title, peer } = section;
  const load = Number(os.loadavg()[0]!.toFixed(2));
  const date = new Date().toISOString().replace(/\.\d+/, "");
  const rows = (await unlessStuck(runSection(section, context))).map(finished);
  progress("");
  return { name, title, peer, date, load, rows };
}

async function print({ title, peer, load, rows }: SectionResult): Promise<void> {
  const [, ours = "", , ...rest] = HEAD;
  const head = [title, ours, peer, ...rest];
  say(STDOUT, `${await table(head, rows.map(columns))}load before: ${load}\n\n`);
}

function checkedIn(): Results | undefined {
  try {
    return JSON.parse(readFileSync(CHECKED_IN, "utf8")) as Results;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function write(file: string, results: Results): void {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(results, null, 2)}\n`);
}

function render(results: Results): void {
  writeFileSync(README, withNumbers(readFileSync(README, "utf8"), results));
  writeFileSync(path.join(ROOT, CHART), chart(results));
}

/** Writes what there is so far: numbers are not lost because a later section fails. */
function keep(results: Results, toReadme: boolean): void {
  write(OUTPUT, results);
  if (!toReadme) return;
  const names = SECTIONS.map(({ name }) => name);
  const all = merged(results, checkedIn(), names);
  write(CHECKED_IN, all);
  render(all);
}

async function bench(sections: readonly Section[], toReadme: boolean, context: Context) {
  const results: Results = { machine: machine(), sections: [] };
  for (const section of sections) {
    try {
      const result = await measure(section, context);
      results.sections.push(result);
      await print(result);
      keep(results, toReadme);
    } catch (error) {
      progress("");
      say(STDERR, `bench: ${section.name}: ${(error as Error).message}\n`);
      process.exitCode = 1;
    }
  }
  for (const [name, value] of Object.entries(results.machine)) {
    say(STDOUT, `${name.padEnd(10)} ${value}\n`);
  }
}

/** The sections with these names, or all but those that are left out unless they are named. */
function chosen(names: readonly string[]): Section[] {
  const unknown = names.filter((word) => !SECTIONS.some(({ name }) => name === word));
  if (unknown.length > 0) throw new Error(`unknown section: ${unknown.join(", ")}\n\n${USAGE}`);
  if (names.length === 0) return SECTIONS.filter(({ onlyByName }) => onlyByName !== true);
  return SECTIONS.filter(({ name }) => names.includes(name));
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: {
      help: { type: "boolean", short: "h" },
      readme: { type: "boolean" },
      render: { type: "boolean" },
    },
    allowPositionals: true,
  });
  if (values.help) {
    say(STDOUT, USAGE);
    return;
  }
  const sections = chosen(positionals);
  const toReadme = values.readme === true;
  if (!values.render) return withContext((context) => bench(sections, toReadme, context));
  const results = checkedIn();
  if (results === undefined) throw new Error(`there is no ${CHECKED_IN} yet: --readme makes it`);
  render(results);
}

try {
  await main();
} catch (error) {
  say(STDERR, `bench: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
// The descriptors of the data path would keep the event loop; there is nothing left to wait for.
process.exit();
