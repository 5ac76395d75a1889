// Our own polling guest on this machine's KVM, at CPL 3 and so at full speed on a software KVM,
// too: the same ELF under Bulkhead, every device confined, and under QEMU. It measures itself, by
// KVM's clock, which is the same in both.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { guestPath } from "../guest.js";
import { processorPercent, start, time } from "./processes.js";
import { microvm, QEMU_RNG, qemuDisk, VhostDisk } from "./qemu.js";
import { type Measured, rounds } from "./rounds.js";
import type { Row } from "./rows.js";
import type { Context } from "./sections.js";

const BULKHEAD = fileURLToPath(new URL("../../bundle/cli/main.js", import.meta.url));

const IDLE_SECONDS = 5;
/** It is the same each time. */
const IDLE_ROUNDS = 3;
const MIB = 1024 * 1024;
/** More than the caches of a processor, and less than anybody's page cache. */
const DISK_BYTES = 256 * MIB;

function bulkhead(kernel: string, ...options: string[]): string[] {
  return [process.execPath, BULKHEAD, "run", kernel, "-m", "128M", ...options];
}

/** What a guest of test/guest/ says of its measurement. */
async function measure(command: string[]): Promise<Measured> {
  const { stdout, complaint } = await time(command);
  const said = /(\d+) kB\/s, (\d+) requests\/s, p50 (\d+) ns, p99 (\d+) ns/.exec(stdout);
  if (said === null) {
    throw new Error(`no measurement from ${command.join(" ")}:\n${complaint}${stdout}`);
  }
  const [kilobytes = 0, requests = 0, p50 = 0, p99 = 0] = said.slice(1).map(Number);
  return { megabytes: kilobytes / 1000, requests, p50: p50 / 1000, p99: p99 / 1000 };
}

/** A number that the guest gives, as a row of the report. */
interface Figure {
  what: string;
  of: "megabytes" | "requests" | "p50" | "p99";
  target?: string;
}

/** One run of a guest, and what of it is reported. */
interface Load {
  name: string;
  parameters: string;
  figures: Figure[];
}

const UNITS = { megabytes: "MB/s", requests: "requests/s", p50: "µs", p99: "µs" };

const DISK_LOADS: readonly Load[] = [
  {
    name: "4 KiB random reads, one at a time",
    parameters: "bench random seconds=1 depth=1 request=4096",
    figures: [
      { what: "p50", of: "p50", target: "≤ 1.5 ×" },
      { what: "p99", of: "p99" },
    ],
  },
  {
    name: "4 KiB random reads, 16 in flight",
    parameters: "bench random seconds=1 depth=16 request=4096",
    figures: [{ what: "", of: "requests", target: "≥ 1.5 ×" }],
  },
  {
    name: "64 KiB sequential reads, one at a time",
    parameters: "bench seconds=1 depth=1 request=65536",
    figures: [{ what: "", of: "megabytes", target: "≥ 0.8 ×" }],
  },
];

function rngLoad(request: number, depth: number, target?: string): Load {
  const size = request >= 1024 ? `${request / 1024} KiB` : `${request} B`;
  return {
    name: `rng, ${size} × ${depth} in flight`,
    parameters: `bench seconds=1 depth=${depth} request=${request}`,
    figures: [
      { what: "", of: "megabytes", ...(target === undefined ? {} : { target }) },
      ...(depth === 1 ? [{ what: "p50", of: "p50" } as const] : []),
    ],
  };
}

const RNG_LOADS = [rngLoad(4096, 1, "≥ 0.8 ×"), rngLoad(4096, 32), rngLoad(64, 1)];

/** Who can run a load: the numbers of one run. */
type Contender = (load: Load) => Promise<Measured>;

async function benchLoads(
  loads: readonly Load[],
  contenders: readonly [ours: Contender, theirs: Contender | undefined],
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const load of loads) {
    const turns = contenders.map((who) => who && (() => who(load)));
    const [first, other] = await rounds(load.name, turns);
    for (const { what, of, target } of load.figures) {
      const name = what === "" ? load.name : `${load.name}, ${what}`;
      rows.push({ name, unit: UNITS[of], ours: first![of]!, theirs: other?.[of], target });
    }
  }
  return rows;
}

/** A disk with something on it while `body` runs, in a directory that it may use. */
async function withDisk<T>(body: (image: string, directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(path.join(os.tmpdir(), "bulkhead-bench-"));
  const image = path.join(directory, "disk.img");
  // No holes: what is read is in the page cache, and was written.
  writeFileSync(image, Buffer.alloc(DISK_BYTES, "bulkhead"));
  try {
    return await body(image, directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
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

async function benchIdle({ sleepingKernel: kernel, cpu }: Context): Promise<Row> {
  const name = "an idle VM, of one core";
  const idle = (command: string[]) => async () => ({ percent: await idlePercent(command) });
  const theirs = cpu === undefined ? undefined : idle(microvm(cpu, { kernel }, QEMU_RNG));
  const [first, other] = await rounds(name, [idle(bulkhead(kernel, "--rng")), theirs], IDLE_ROUNDS);
  return { name, unit: "%", ours: first!.percent!, theirs: other?.percent };
}

function ourRng({ parameters }: Load): Promise<Measured> {
  return measure(bulkhead(guestPath("entropy"), "--rng", "-p", parameters));
}

function ourDisk(image: string): Contender {
  return ({ parameters }) => measure(bulkhead(guestPath("disk"), "-d", image, "-p", parameters));
}

/** A guest on QEMU with `options`; undefined where there is no QEMU. */
function theirs(kernel: string, cpu: string | undefined, options: string[]): Contender | undefined {
  if (cpu === undefined) return undefined;
  return ({ parameters }) => measure(microvm(cpu, { kernel, parameters }, options));
}

/** Bulkhead beside QEMU microvm, whose devices are in its own process. */
export async function benchNative(context: Context): Promise<Row[]> {
  const { cpu } = context;
  const rng = theirs(guestPath("entropy"), cpu, QEMU_RNG);
  return withDisk(async (image) => [
    ...(await benchLoads(DISK_LOADS, [
      ourDisk(image),
      theirs(guestPath("disk"), cpu, qemuDisk(image)),
    ])),
    ...(await benchLoads(RNG_LOADS, [ourRng, rng])),
    await benchIdle(context),
  ]);
}

/** Bulkhead beside QEMU microvm whose disk is in a process that maps all of the guest's RAM. */
export async function benchVhost({ cpu }: Context): Promise<Row[]> {
  return withDisk(async (image, directory) => {
    const shared: Contender = async (load) => {
      const disk = await VhostDisk.start(image, directory);
      try {
        return await theirs(guestPath("disk"), cpu, disk.options)!(load);
      } finally {
        await disk.close();
      }
    };
    const hasBoth = cpu !== undefined && VhostDisk.isAvailable;
    return benchLoads(DISK_LOADS, [ourDisk(image), hasBoth ? shared : undefined]);
  });
}
