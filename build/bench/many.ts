// What each further device costs: time at the start, and memory while the guest runs. Both must
// grow in proportion, because a device is a process and knows nothing of the others.

import { once } from "node:events";
import { bulkheadCommand, medians, qemuCommand } from "./commands.js";
import { type Member, type Memory, memoryOf, start, total } from "./processes.js";
import { type Row, rowOf } from "./rows.js";
import { firstByteMs, type StartOptions } from "./start.js";

const COUNTS = [1, 2, 4, 8, 16, 32] as const;

/** A machine that has started is looked at when what happens once has happened. */
const SETTLE_MS = 500;

export interface ManyOptions extends StartOptions {
  /** A kernel that says its byte and then sleeps (first-light). */
  sleepingKernel: string;
}

/** A straight line through points, by least squares. */
export interface Line {
  slope: number;
  intercept: number;
  /** How much of the variance of y the line explains: 1 is a line. */
  r2: number;
}

export function lineThrough(points: readonly (readonly [x: number, y: number])[]): Line {
  const mean = (of: (point: readonly [number, number]) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [x, y] = [mean((point) => point[0]), mean((point) => point[1])];
  const xx = mean((point) => (point[0] - x) ** 2);
  const yy = mean((point) => (point[1] - y) ** 2);
  const xy = mean((point) => (point[0] - x) * (point[1] - y));
  return { slope: xy / xx, intercept: y - (xy / xx) * x, r2: xy ** 2 / (xx * yy) };
}

/** The processes of a machine whose guest sleeps, and their memory. */
async function membersOf(command: readonly string[]): Promise<Member[]> {
  const child = start(command);
  await once(child.stdout!, "data");
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const members = memoryOf(child.pid!);
  child.kill();
  await once(child, "close");
  return members;
}

const isDevice = ({ command }: Member) => command.includes("/runtime/main");
const isWarden = ({ command }: Member) => command.includes("/warden-main");

/** Memory of the VMM, its warden and one device, private and shared, beside QEMU's one process. */
export async function benchMemory(options: ManyOptions): Promise<Row[]> {
  const machine = { kernel: options.sleepingKernel, rngs: 2 };
  const ours = await membersOf(bulkheadCommand(machine));
  const { cpu } = options;
  const theirs = cpu === undefined ? undefined : await membersOf(qemuCommand(cpu, machine));
  const [vmm] = ours;
  const roles: [name: string, member: Member | undefined, other?: Member | undefined][] = [
    ["VMM", vmm, theirs?.[0]],
    ["a device", ours.find(isDevice)],
    ["warden", ours.find(isWarden)],
  ];
  const rows = roles.flatMap(([name, member, other]) => [
    mebibytes(`${name}, private memory`, "privateBytes", [member?.memory, other?.memory]),
    mebibytes(`${name}, shared memory`, "sharedBytes", [member?.memory, other?.memory]),
  ]);
  const all = [total(ours), theirs === undefined ? undefined : total(theirs)];
  return [...rows, mebibytes("a machine with two devices, PSS", "proportionalBytes", all)];
}

function mebibytes(name: string, part: keyof Memory, of: (Memory | undefined)[]): Row {
  const values = of.map((memory) => (memory === undefined ? undefined : memory[part] / 2 ** 20));
  return rowOf(name, "MiB", values);
}

async function startMs(options: ManyOptions): Promise<Row[]> {
  const { kernel, cpu, rounds } = options;
  const ours = COUNTS.map((rngs) => bulkheadCommand({ kernel, rngs }));
  const theirs = COUNTS.map((rngs) =>
    cpu === undefined ? undefined : qemuCommand(cpu, { kernel, rngs }),
  );
  const times = await medians([...ours, ...theirs], rounds, firstByteMs);
  const name = (count: number) => `exec → first guest instruction, ${count} rng`;
  const rows = COUNTS.map((count, i) => {
    const other = times[COUNTS.length + i];
    // Where there is no room for so many devices, QEMU says no word.
    return rowOf(name(count), "ms", [times[i], Number.isNaN(other) ? undefined : other]);
  });
  return [...rows, ...slopes("start of a further device", rows)];
}

async function privateBytes(options: ManyOptions): Promise<Row[]> {
  const rows: Row[] = [];
  for (const rngs of COUNTS) {
    const members = await membersOf(bulkheadCommand({ kernel: options.sleepingKernel, rngs }));
    rows.push(mebibytes(`memory of all processes, ${rngs} rng`, "privateBytes", [total(members)]));
  }
  return [...rows, ...slopes("memory of a further device", rows)];
}

/** What one more device costs, from `rows` of COUNTS. */
function slopes(name: string, rows: readonly Row[]): Row[] {
  const line = lineThrough(rows.map(({ ours }, i) => [COUNTS[i]!, ours] as const));
  return [
    rowOf(name, rows[0]!.unit, [line.slope]),
    rowOf(`  R² of a line through ${COUNTS[0]} to ${COUNTS.at(-1)}`, "", [line.r2]),
  ];
}

/** Start and memory of machines with 1 to 32 devices, and the lines through them. */
export async function benchMany(options: ManyOptions): Promise<Row[]> {
  return [...(await startMs(options)), ...(await privateBytes(options))];
}
