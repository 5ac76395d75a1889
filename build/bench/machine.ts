// A stock Debian kernel under Bulkhead and under QEMU microvm, in the test machine: on hardware
// with KVM that is this one; elsewhere it is emulated, and only ratios mean anything.

import { machineUnavailable, type Place, runInMachine } from "../../test/machine/machine.js";
import type { Figures, RoundSettings } from "./machine-host.js";
import { type BenchFiles, buildBenchFiles, EMULATED, packBenchFiles } from "./machine-images.js";
import { median } from "./processes.js";
import { progress, ROUNDS } from "./rounds.js";
import type { Row } from "./rows.js";

/** Both guests, with tries that the emulator spoils. */
const ROUND_MS = 480_000;
/** All rounds, on a machine that is so busy that each takes that long. */
const LIMIT_MS = ROUNDS * ROUND_MS;
/** Of an emulated host: one for a guest, and one for what serves it. */
const CPUS = 2;

/** Numbers of one guest in each round. */
type Column = Figures[];

/** The lines that machine-host.ts printed. */
export function takeFigures(output: string): Figures[] {
  const lines = output.matchAll(/^figures (\{.*\})\r?$/gm);
  return [...lines].map(([, json]) => JSON.parse(json!) as Figures);
}

function command(place: Place, here: BenchFiles, round: number): string[] {
  const files = place.emulated ? EMULATED : here;
  const settings: RoundSettings = { files, kernel: place.kernel, oursFirst: round % 2 === 0 };
  const program = `${place.checkout}/dist/build/bench/machine-host.js`;
  return [place.node, program, JSON.stringify(settings)];
}

function row(what: Omit<Row, "ours" | "theirs">, of: keyof Figures, columns: Column[]): Row {
  const [ours, theirs] = columns.map((column) => median(column.map((each) => Number(each[of]))));
  return { ...what, ours: ours!, theirs: theirs! };
}

function rowsOf(figures: readonly Figures[]): Row[] {
  const columns = (["ours", "theirs"] as const).map((name) => {
    return figures.filter(({ who }) => who === name);
  });
  const boot = { name: "kernel → init, by its own clock", unit: "s", target: "≤ 1.2 ×" };
  const start = { name: "exec → init", unit: "s", target: "≤ 1.2 ×" };
  const dd = { name: "dd, 1 MiB at a time", unit: "MB/s", target: "≥ 0.8 ×" };
  const name = "fio, 4 KiB random reads, 16 in flight";
  const fio = { name, unit: "requests/s", target: "≥ 0.8 ×" };
  return [
    row(boot, "kernelS", columns),
    row(start, "execToInitS", columns),
    row(dd, "dd", columns),
    row(fio, "fio", columns),
  ];
}

/** Says which round it is, when it is called at the end of each. */
function roundCounter(): () => void {
  let done = 0;
  const tell = () => {
    if (done < ROUNDS) progress(`a stock kernel in the test machine, round ${++done} of ${ROUNDS}`);
  };
  tell();
  return tell;
}

/** Rounds of both guests; medians of their figures. */
export async function benchMachine(): Promise<Row[]> {
  const unavailable = machineUnavailable();
  if (unavailable !== undefined) throw new Error(unavailable);
  const here = buildBenchFiles();
  const jobs = Array.from({ length: ROUNDS }, (_, round) => ({
    command: (place: Place) => command(place, here, round),
    timeoutMs: ROUND_MS,
  }));
  const archive = packBenchFiles(here);
  const ended = roundCounter();
  const options = { cpus: CPUS, archive, note: progress, limitMs: LIMIT_MS, ended };
  const results = await runInMachine(jobs, options);
  const figures = results.flatMap(({ output }) => takeFigures(output));
  if (figures.length < 2 * ROUNDS) {
    throw new Error(`rounds without figures:\n${results.map(({ output }) => output).join("\n")}`);
  }
  return rowsOf(figures);
}
