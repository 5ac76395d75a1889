// What a VM tells a collector, in Prometheus's text format 0.0.4: names with their unit, counters
// that only grow, and latencies as a histogram.

import type { VmStatus } from "./control.js";
import type { DeviceCounters } from "./counters.js";
import { bucketEndUs } from "./latency.js";

type Labels = Readonly<Record<string, string>>;
type Sample = [labels: Labels, value: number, suffix?: string];

interface Metric {
  name: string;
  type: "counter" | "gauge" | "histogram";
  help: string;
  samples: Sample[];
}

function labelled(labels: Labels): string {
  const escaped = (value: string) => value.replace(/[\\"]/g, "\\$&").replaceAll("\n", "\\n");
  const parts = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return `{${parts.join(",")}}`;
}

function lines({ name, type, help, samples }: Metric): string[] {
  return [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} ${type}`,
    ...samples.map(
      ([labels, value, suffix = ""]) => `${name}${suffix}${labelled(labels)} ${value}`,
    ),
  ];
}

/** Buckets as Prometheus has them: each counts the ones before it, too. */
function histogram(labels: Labels, { latency, latencySumUs, requests }: DeviceCounters): Sample[] {
  const buckets: Sample[] = [];
  let below = 0;
  for (const [index, count] of latency.slice(0, -1).entries()) {
    below += count;
    buckets.push([{ ...labels, le: `${bucketEndUs(index) / 1e6}` }, below, "_bucket"]);
  }
  return [
    ...buckets,
    [{ ...labels, le: "+Inf" }, requests, "_bucket"],
    [labels, latencySumUs / 1e6, "_sum"],
    [labels, requests, "_count"],
  ];
}

function vmMetrics({ name, pid, state, cpus, memoryBytes, startedAt }: VmStatus): Metric[] {
  const vm = { vm: name };
  const gauge = (what: string, help: string, samples: Sample[]): Metric => {
    return { name: `bulkhead_vm_${what}`, type: "gauge", help, samples };
  };
  return [
    gauge("info", "The VM, and the process that it runs in.", [[{ ...vm, pid: `${pid}` }, 1]]),
    gauge("paused", "Whether its vCPUs are halted.", [[vm, state === "paused" ? 1 : 0]]),
    gauge("cpus", "Its virtual CPUs.", [[vm, cpus]]),
    gauge("memory_bytes", "Its guest memory.", [[vm, memoryBytes]]),
    gauge("start_time_seconds", "When it was started, Unix time.", [[vm, startedAt / 1000]]),
  ];
}

/** All metrics of a VM; `counters` in the order of its devices. */
export function metricsText(status: VmStatus, counters: readonly DeviceCounters[]): string {
  const devices = status.devices.map(({ id, state }, index) => {
    return { state, labels: { vm: status.name, device: id }, counters: counters[index]! };
  });
  const counted = (what: string, help: string, key: keyof DeviceCounters): Metric => {
    const samples = devices.map((each): Sample => [each.labels, each.counters[key] as number]);
    return { name: `bulkhead_device_${what}_total`, type: "counter", help, samples };
  };
  const directed = (what: string, help: string, unit: "bytes" | "messages"): Metric => {
    const samples = devices.flatMap(({ labels, counters: each }): Sample[] => [
      [{ ...labels, direction: "to_device" }, each[`${unit}ToDevice`]],
      [{ ...labels, direction: "from_device" }, each[`${unit}FromDevice`]],
    ]);
    return { name: `bulkhead_device_${what}_total`, type: "counter", help, samples };
  };
  const up = devices.map(({ labels, state }): Sample => [labels, state === "running" ? 1 : 0]);
  return [
    ...vmMetrics(status),
    {
      name: "bulkhead_device_up",
      type: "gauge" as const,
      help: "Whether its code runs, confined.",
      samples: up,
    },
    counted("requests", "Requests of the driver that were answered.", "requests"),
    directed("bytes", "Bytes of answered requests.", "bytes"),
    counted("kicks", "Notifications by the driver.", "kicks"),
    directed("messages", "Messages over the device's socket.", "messages"),
    counted("restarts", "Times that its code was started again.", "restarts"),
    {
      name: "bulkhead_device_request_duration_seconds",
      type: "histogram" as const,
      help: "From when a request was found to when its answer was shown.",
      samples: devices.flatMap((each) => histogram(each.labels, each.counters)),
    },
  ]
    .flatMap(lines)
    .map((line) => `${line}\n`)
    .join("");
}
