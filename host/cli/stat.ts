// bulkhead stat: what each device of a VM has done since it was started.

import { percentileUs } from "../machine/latency.js";
import type { JsonOption } from "./control.js";
import { ControlClient } from "./control-client.js";
import { bytes, count, duration, plural, uptime } from "./figures.js";
import { printable, STDOUT, say, sayJson } from "./output.js";
import { formatSize } from "./size.js";
import { table } from "./table.js";

const HEAD = ["DEVICE", "STATE", "REQUESTS", "TO", "FROM", "P50", "P99", "KICKS", "RESTARTS"];

/** Prints the figures of the VM called `name`; returns the exit status. */
export async function stat(name: string, { json }: JsonOption): Promise<number> {
  const vm = await ControlClient.open(name);
  const [status, counters] = await Promise.all([vm.status(), vm.counters()]);
  vm.close();
  const devices = counters.map((each, index) => ({
    ...each,
    state: String(status.devices[index]?.state),
    p50Us: percentileUs(each.latency, 0.5),
    p99Us: percentileUs(each.latency, 0.99),
  }));
  if (json === true) {
    sayJson({ ...status, devices });
    return 0;
  }
  const { pid, state, cpus, memoryBytes, startedAt, transport, seccomp } = status;
  const size = formatSize(Number(memoryBytes));
  const machine = `${plural(cpus, "CPU")}, ${size}, ${transport}`;
  const what = `${state}, process ${pid}, ${machine}, seccomp ${seccomp}`;
  say(STDOUT, printable(`${status.name}: ${what}, up ${uptime(startedAt)}\n\n`));
  const rows = devices.map((each) => [
    String(each.id),
    each.state,
    count(each.requests),
    bytes(each.bytesToDevice),
    bytes(each.bytesFromDevice),
    duration(each.p50Us),
    duration(each.p99Us),
    count(each.kicks),
    `${each.restarts}`,
  ]);
  say(STDOUT, await table(HEAD, rows));
  return 0;
}
