// How long a user waits: from exec to the first instruction of the guest, whose device is confined
// and verified by then.

import { bulkheadCommand, medians, qemuCommand } from "./commands.js";
import { time } from "./processes.js";
import { type Row, rowOf } from "./rows.js";

export interface StartOptions {
  /** A kernel whose first instructions write to the serial port, and that leaves (first-light). */
  kernel: string;
  /** QEMU's, if there is one (qemuCpu() of commands.ts). */
  cpu: string | undefined;
  rounds: number;
}

/** From exec to the first byte on stdout, in ms. */
export async function firstByteMs(command: readonly string[]): Promise<number> {
  return (await time(command)).firstByteMs;
}

/** One rng device, beside QEMU's microvm; and what of it is node's own start. */
export async function benchStart({ kernel, cpu, rounds }: StartOptions): Promise<Row[]> {
  const machine = { kernel, rngs: 1 };
  const ours = bulkheadCommand(machine);
  const theirs = cpu === undefined ? undefined : qemuCommand(cpu, machine);
  const node = [process.execPath, "-e", "process.stdout.write('!')"];
  const [first, other, bare] = await medians([ours, theirs, node], rounds, firstByteMs);
  return [
    rowOf("exec → first guest instruction", "ms", [first, other]),
    rowOf("  of that, node until it runs a script", "ms", [bare]),
  ];
}
