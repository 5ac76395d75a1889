// Whole machines through the API that the command line uses, with every event kept.

import { fileURLToPath } from "node:url";
import type { DeviceConfig, GuestExit, VmConfig, VmEvent } from "../../host/machine/config.js";
import { createVm, type Vm } from "../../host/machine/vm.js";
import { ENTROPY_GUEST } from "./bulkhead.js";

/** The module of virtio-rng. */
export const RNG = fileURLToPath(new URL("../../devices/rng.wasm", import.meta.url));

/** An rng device whose entropy comes from the file `what`. */
export function rng(id: string, what = "/dev/urandom"): DeviceConfig {
  const source = { kind: "file" as const, what, rights: ["read" as const] };
  return { id, module: RNG, grants: { source }, isolation: "process", seccomp: "enforce" };
}

/** The entropy guest on one rng device, with `changes`. */
export function config(cmdline: string, changes: Partial<VmConfig> = {}): VmConfig {
  return {
    kernel: ENTROPY_GUEST,
    cmdline,
    memoryBytes: 64 * 1024 * 1024,
    cpuCount: 1,
    devices: [rng("rng0")],
    debugExit: false,
    serialFd: -1,
    allowWeakSandbox: false,
    seccomp: "off", // a test makes several VMs in one process
    onDeviceFailure: "continue",
    ...changes,
  };
}

/** A VM and everything that it told. */
export class Run {
  readonly events: VmEvent[] = [];
  vm!: Vm;

  static async create(vmConfig: VmConfig): Promise<Run> {
    const run = new Run();
    run.vm = await createVm(vmConfig, (event) => run.events.push(event));
    return run;
  }

  all<E extends VmEvent["event"]>(name: E): Extract<VmEvent, { event: E }>[] {
    return this.events.filter((e): e is Extract<VmEvent, { event: E }> => e.event === name);
  }

  get text(): string {
    return this.all("serial")
      .map((event) => event.text)
      .join("");
  }

  /** Resolves when `condition` holds; each event may be what makes it so. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Creates a VM and runs its guest to the end. */
export async function runToEnd(vmConfig: VmConfig): Promise<{ run: Run; exit: GuestExit }> {
  const run = await Run.create(vmConfig);
  return { run, exit: await run.vm.run() };
}
