// The answer to `debug`: what vCPUs and queues are in the middle of.

import type { DeviceStatus, VmState } from "./control.js";
import type { VcpuRegisters } from "./vcpu-worker.js";
import { describeRegisters } from "./x86/describe.js";

export interface Debugged {
  state: VmState;
  /** Of each vCPU; undefined for one that is busy outside of the guest. */
  registers: readonly (VcpuRegisters | undefined)[];
  devices: readonly DeviceStatus[];
  /** Lines about each device; undefined when the I/O worker does not get to it. */
  described: readonly string[][] | undefined;
}

function block(head: string, lines: readonly string[]): string {
  return [head, ...lines.map((line) => `  ${line}`)].map((line) => `${line}\n`).join("");
}

export function debugText({ state, registers, devices, described }: Debugged): string {
  const vcpus = registers.map((each, index) => {
    if (each === undefined)
      return block(`vCPU ${index}: waits for something outside the guest`, []);
    return block(`vCPU ${index}:`, describeRegisters(each));
  });
  const parts = devices.map(({ id, state: how, isolation, pid }, index) => {
    const where = isolation === "inline" ? "inside the VMM" : `process ${pid}`;
    const unknown = ["the I/O worker is busy and does not tell"];
    return block(`${id}: ${how}, ${where}`, described?.[index] ?? unknown);
  });
  return [`The VM is ${state}.\n`, ...vcpus, ...parts].join("");
}
