// bulkhead top: what the devices of VMs do just now, once a second on a terminal, or once for a
// pipe.

import { setTimeout as sleep } from "node:timers/promises";
import { ControlClient, isGone, socketsOfVms } from "./control-client.js";
import { bytes, count, duration } from "./figures.js";
import { STDOUT, say, sayJson } from "./output.js";
import { table } from "./table.js";
import { type DeviceRates, type Look, lookAt, ratesOf, type VmRates } from "./top-sample.js";
import { Screen } from "./top-screen.js";
import { usageError } from "./usage.js";

export interface TopOptions {
  interval: string;
  json?: boolean;
}

/** Shorter, and most of what is measured is the measuring; longer, and a VM ends the talk. */
const INTERVAL_S_MIN = 0.1;
const INTERVAL_S_MAX = 30;

const HEAD = [
  ...["VM", "DEVICE", "STATE", "REQ/S", "TO/S", "FROM/S"],
  ...["P50", "P99", "RESTARTS", "CPU%", "RSS"],
];

function percent(value: number | undefined): string {
  return value === undefined ? "-" : value.toFixed(1);
}

function memory(value: number | undefined): string {
  return value === undefined ? "-" : bytes(value);
}

function deviceRow(vm: string, device: DeviceRates): string[] {
  return [
    vm,
    device.id,
    device.state,
    count(Math.round(device.requestsPerSecond)),
    bytes(Math.round(device.bytesToDevicePerSecond)),
    bytes(Math.round(device.bytesFromDevicePerSecond)),
    duration(device.p50Us),
    duration(device.p99Us),
    `${device.restarts}`,
    percent(device.cpuPercent),
    memory(device.rssBytes),
  ];
}

function vmRow({ name, state, cpuPercent, rssBytes }: VmRates): string[] {
  const none = new Array<string>(6).fill("");
  return [name, "(vmm)", state, ...none, percent(cpuPercent), memory(rssBytes)];
}

function tableOf(vms: readonly VmRates[]): Promise<string> {
  const rows = vms.flatMap((vm) => [
    vmRow(vm),
    ...vm.devices.map((device) => deviceRow(vm.name, device)),
  ]);
  return table(HEAD, rows);
}

function intervalMs(text: string): number {
  const seconds = Number(text);
  if (seconds >= INTERVAL_S_MIN && seconds <= INTERVAL_S_MAX) return seconds * 1000;
  const range = `give seconds from ${INTERVAL_S_MIN} to ${INTERVAL_S_MAX}`;
  throw usageError(`Cannot look every "${text}" seconds: ${range}`);
}

/** The VMs that are looked at, with the last look at each. */
class Watch {
  readonly #only: string | undefined;
  readonly #vms = new Map<string, { vm: ControlClient; last: Look }>();

  constructor(only: string | undefined) {
    this.#only = only;
  }

  /** Looks at every VM; what each did since the last look, of those that there was one at. */
  async look(): Promise<VmRates[]> {
    await this.#find();
    const rates = await Promise.all([...this.#vms.keys()].map((name) => this.#lookAt(name)));
    return rates.flat();
  }

  async #lookAt(name: string): Promise<VmRates[]> {
    const { vm, last } = this.#vms.get(name)!;
    try {
      const now = await lookAt(vm);
      this.#vms.set(name, { vm, last: now });
      return now.atMs - last.atMs > 0 ? [ratesOf(last, now)] : [];
    } catch {
      vm.close();
      this.#vms.delete(name); // it has ended, or is about to
      return [];
    }
  }

  /** Connects to VMs that were started in the meantime. */
  async #find(): Promise<void> {
    if (this.#only !== undefined) {
      if (!this.#vms.has(this.#only)) await this.#add(this.#only, ControlClient.open(this.#only));
      return;
    }
    for (const { name, file } of socketsOfVms()) {
      if (this.#vms.has(name)) continue;
      try {
        await this.#add(name, ControlClient.connect(name, file));
      } catch (error) {
        if (!isGone(error)) throw error;
      }
    }
  }

  async #add(name: string, connecting: Promise<ControlClient>): Promise<void> {
    const vm = await connecting;
    this.#vms.set(name, { vm, last: await lookAt(vm) });
  }

  close(): void {
    for (const { vm } of this.#vms.values()) vm.close();
  }
}

async function once(watch: Watch, options: { ms: number; json: boolean }): Promise<number> {
  await watch.look();
  await sleep(options.ms);
  const vms = await watch.look();
  if (options.json) for (const vm of vms) sayJson(vm);
  else if (vms.length === 0) say(STDOUT, "No VM runs.\n");
  else say(STDOUT, await tableOf(vms));
  return 0;
}

/** Shows VMs until the user has seen enough, or the one that is watched has ended. */
async function live(watch: Watch, ms: number): Promise<number> {
  await watch.look();
  const screen = Screen.open();
  try {
    while (!screen.left) {
      await Promise.race([sleep(ms), screen.leaving]);
      if (screen.left) break;
      const vms = await watch.look();
      screen.show(vms.length === 0 ? "No VM runs.\n" : await tableOf(vms));
    }
  } catch (error) {
    if (!isGone(error)) throw error;
  } finally {
    screen.close();
  }
  return 0;
}

/** Shows what devices do, of one VM or of all; returns the exit status. */
export async function top(name: string | undefined, options: TopOptions): Promise<number> {
  const ms = intervalMs(options.interval);
  const json = options.json === true;
  const watch = new Watch(name);
  try {
    if (json || !Screen.isPossible()) return await once(watch, { ms, json });
    return await live(watch, ms);
  } finally {
    watch.close();
  }
}
