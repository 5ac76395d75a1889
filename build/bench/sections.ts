// What `npm run bench` measures, in the order of its report.

import type { Row } from "./rows.js";

/** What belongs together: measured in the same minutes, beside the same monitor. */
export interface Section {
  /** On the command line. */
  name: string;
  title: string;
  /** Who `theirs` is. */
  peer: string;
  /** File beside this one, and the function in it that measures. */
  module: string;
  run: string;
  /** Minutes that it takes where this was written: two shared cores, without hardware KVM. */
  minutes: number;
  /** Whether it is left out unless it is named. */
  onlyByName?: boolean;
  /** Targets of rows by name, where the module has none of its own. */
  targets?: Readonly<Record<string, string>>;
}

/** What a section is given to measure with. */
export interface Context {
  /** A kernel that says one byte and leaves, and one that sleeps instead: see first-light.ts. */
  kernel: string;
  sleepingKernel: string;
  /** QEMU's; undefined where there is no QEMU that runs. */
  cpu: string | undefined;
  rounds: number;
}

export const SECTIONS: readonly Section[] = [
  {
    name: "device-path",
    title: "A confined disk, driven from the host",
    peer: "qemu-storage-daemon, vhost-user",
    module: "./device-path.js",
    run: "benchDevicePath",
    minutes: 1,
  },
  {
    name: "native",
    title: "A small polling guest on this machine's KVM",
    peer: "QEMU microvm",
    module: "./native.js",
    run: "benchNative",
    minutes: 4,
  },
  {
    name: "vhost",
    title: "The same guest, beside a disk in another process",
    peer: "QEMU microvm + vhost-user-blk",
    module: "./native.js",
    run: "benchVhost",
    minutes: 2,
  },
  {
    name: "machine",
    title: "A stock Debian kernel in the test machine",
    peer: "QEMU microvm",
    module: "./machine.js",
    run: "benchMachine",
    minutes: 15,
    onlyByName: true,
  },
  {
    name: "start",
    title: "From exec to the guest, one rng device",
    peer: "QEMU microvm",
    module: "./start.js",
    run: "benchStart",
    minutes: 1,
    targets: { "exec → first guest instruction": "≤ 2 ×" },
  },
  {
    name: "memory",
    title: "Memory of a machine with two rng devices",
    peer: "QEMU microvm",
    module: "./many.js",
    run: "benchMemory",
    minutes: 1,
  },
  {
    name: "many",
    title: "Machines with 1 to 32 rng devices",
    peer: "QEMU microvm",
    module: "./many.js",
    run: "benchMany",
    minutes: 2,
  },
  {
    name: "rng",
    title: "One confined rng, driven from the host",
    peer: "",
    module: "./rng.js",
    run: "benchRng",
    minutes: 1,
  },
];

/** Measures; modules are loaded when they are wanted, because each needs something else. */
export async function runSection(section: Section, context: Context): Promise<Row[]> {
  const { name, module, run, targets = {} } = section;
  const exports = (await import(new URL(module, import.meta.url).href)) as Record<string, unknown>;
  const measure = exports[run];
  if (typeof measure !== "function") throw new Error(`no ${run}() in ${module}, for ${name}`);
  const rows = (await measure(context)) as Row[];
  return rows.map((row) => ({ ...row, target: row.target ?? targets[row.name] }));
}
