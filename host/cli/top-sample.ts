// One look at a VM, and what two of them say about the time between.

import type { DeviceStatus, NamedCounters, VmStatus } from "../machine/control.js";
import { histogramSince, percentileUs } from "../machine/latency.js";
import type { ControlClient } from "./control-client.js";
import { type ProcessUsage, usageOf } from "./process-usage.js";

/** What a VM said, and what /proc says of its processes. */
export interface Look {
  /** Milliseconds of a clock that never goes back. */
  atMs: number;
  status: VmStatus;
  counters: NamedCounters[];
  vmm: ProcessUsage | undefined;
  /** Of each device that has a process of its own. */
  devices: (ProcessUsage | undefined)[];
}

/** What one device did between two looks; undefined for what nobody can know. */
export interface DeviceRates {
  id: string;
  state: string;
  requestsPerSecond: number;
  bytesToDevicePerSecond: number;
  bytesFromDevicePerSecond: number;
  p50Us: number | undefined;
  p99Us: number | undefined;
  restarts: number;
  cpuPercent: number | undefined;
  rssBytes: number | undefined;
}

export interface VmRates {
  name: string;
  state: string;
  pid: number;
  cpuPercent: number | undefined;
  rssBytes: number | undefined;
  devices: DeviceRates[];
}

export async function lookAt(vm: ControlClient): Promise<Look> {
  const [status, counters] = await Promise.all([vm.status(), vm.counters()]);
  const usage = ({ isolation, pid }: DeviceStatus) =>
    isolation === "inline" ? undefined : usageOf(pid);
  return {
    atMs: performance.now(),
    status,
    counters,
    vmm: usageOf(status.pid),
    devices: status.devices.map(usage),
  };
}

interface Used {
  cpuPercent: number | undefined;
  rssBytes: number | undefined;
}

/** A process that is another one by now used what it used since its start. */
function used(before: ProcessUsage | undefined, now: ProcessUsage | undefined, ms: number): Used {
  if (now === undefined) return { cpuPercent: undefined, rssBytes: undefined };
  const since = before === undefined || before.cpuMs > now.cpuMs ? 0 : before.cpuMs;
  return { cpuPercent: ((now.cpuMs - since) / ms) * 100, rssBytes: now.rssBytes };
}

function ratesOfDevice(index: number, before: Look, now: Look): DeviceRates {
  const ms = now.atMs - before.atMs;
  const counters = now.counters[index]!;
  const old = before.counters[index] ?? counters;
  const perSecond = (key: "requests" | "bytesToDevice" | "bytesFromDevice") =>
    ((counters[key] - old[key]) / ms) * 1000;
  const latency = histogramSince(counters.latency, old.latency);
  return {
    id: String(counters.id),
    state: String(now.status.devices[index]?.state),
    requestsPerSecond: perSecond("requests"),
    bytesToDevicePerSecond: perSecond("bytesToDevice"),
    bytesFromDevicePerSecond: perSecond("bytesFromDevice"),
    p50Us: percentileUs(latency, 0.5),
    p99Us: percentileUs(latency, 0.99),
    restarts: counters.restarts,
    ...used(before.devices[index], now.devices[index], ms),
  };
}

/** What a VM did between two looks at it. */
export function ratesOf(before: Look, now: Look): VmRates {
  const { name, state, pid } = now.status;
  return {
    name: String(name),
    state: String(state),
    pid,
    ...used(before.vmm, now.vmm, now.atMs - before.atMs),
    devices: now.counters.map((_, index) => ratesOfDevice(index, before, now)),
  };
}
