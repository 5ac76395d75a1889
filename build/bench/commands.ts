// The machines that are compared: `bulkhead run` and QEMU's microvm, with the same kernel, the same
// memory and the same devices.

import { fileURLToPath } from "node:url";
import { median, time, versionOf } from "./processes.js";

const BULKHEAD = fileURLToPath(new URL("../../bundle/cli/main.js", import.meta.url));

export const QEMU = "qemu-system-x86_64";
const MEMORY_MIB = 128;
const MICROVM = [
  ...["-M", "microvm,x-option-roms=off", "-enable-kvm", "-m", `${MEMORY_MIB}`, "-nodefaults"],
  ...["-no-user-config", "-nographic", "-serial", "stdio", "-no-reboot"],
  ...["-object", "rng-random,filename=/dev/urandom,id=r"],
  ...["-global", "virtio-mmio.force-legacy=false", "-device", "isa-debug-exit,iobase=0x501"],
];

/** A machine with `rngs` rng devices; the debug exit ends it. */
interface Wanted {
  kernel: string;
  rngs: number;
}

function repeated(count: number, ...words: string[]): string[] {
  return Array.from({ length: count }, () => words).flat();
}

export function bulkheadCommand({ kernel, rngs }: Wanted): string[] {
  const options = ["-m", `${MEMORY_MIB}M`, "--debug-exit", ...repeated(rngs, "--rng")];
  return [process.execPath, BULKHEAD, "run", kernel, ...options];
}

/** @param cpu what qemuCpu() found */
export function qemuCommand(cpu: string, { kernel, rngs }: Wanted): string[] {
  const devices = repeated(rngs, "-device", "virtio-rng-device,rng=r");
  return [QEMU, ...MICROVM, ...devices, "-cpu", cpu, "-kernel", kernel];
}

/**
 * The CPU with which QEMU runs `kernel` here: a software KVM offers a bit of the host's that it
 * cannot virtualise. Undefined where there is no QEMU that runs.
 */
export async function qemuCpu(kernel: string): Promise<string | undefined> {
  if (versionOf(QEMU, "--version") === undefined) return undefined;
  for (const cpu of ["host", "host,-arch-capabilities"]) {
    if ((await time(qemuCommand(cpu, { kernel, rngs: 1 }))).stdout !== "") return cpu;
  }
  return undefined;
}

/**
 * Medians of `rounds` rounds in which every command has a turn, so that all see the same noise;
 * undefined for a command that is not there.
 */
export async function medians(
  commands: readonly (string[] | undefined)[],
  rounds: number,
  measure: (command: string[]) => Promise<number>,
): Promise<(number | undefined)[]> {
  const values: number[][] = commands.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [index, command] of commands.entries()) {
      if (command !== undefined) values[index]!.push(await measure(command));
    }
  }
  return values.map((each) => (each.length === 0 ? undefined : median(each)));
}
