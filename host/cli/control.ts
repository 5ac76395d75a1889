// bulkhead list, stop, pause, resume and debug: what is done to VMs that run.

import { VmmError } from "../errors.js";
import type { VmStatus } from "../machine/control.js";
import { ControlClient, withVms } from "./control-client.js";
import { uptime } from "./figures.js";
import { printable, STDOUT, say, sayJson } from "./output.js";
import { formatSize } from "./size.js";
import { table } from "./table.js";

/**
 * What a guest may take to shut down. Nobody is killed then; and a VM ends a conversation in which
 * nothing is said for a little longer.
 */
const STOP_MS_MAX = 50_000;

export interface StopOptions {
  force?: boolean;
}

export interface JsonOption {
  json?: boolean;
}

const LIST_HEAD = ["NAME", "PID", "STATE", "CPUS", "MEMORY", "UPTIME", "DEVICES"];

function row({ name, pid, state, cpus, memoryBytes, startedAt, devices }: VmStatus): string[] {
  const ids = devices.map(({ id }) => String(id)).join(" ");
  const size = formatSize(Number(memoryBytes));
  return [name, `${pid}`, state, `${cpus}`, size, uptime(startedAt), ids].map(String);
}

/** Prints every VM of this user; returns the exit status. */
export async function list({ json }: JsonOption): Promise<number> {
  // Loaded only now: it talks to the kernel by itself.
  const { removeStaleSockets } = await import("../machine/control-socket.js");
  removeStaleSockets();
  const found = await withVms((vm) => vm.status());
  if (json === true) for (const status of found) sayJson(status);
  else if (found.length === 0) say(STDOUT, "No VM runs.\n");
  else say(STDOUT, await table(LIST_HEAD, found.map(row)));
  return 0;
}

/** Runs `body` with a conversation with the VM called `name`. */
async function withVm<T>(name: string, body: (vm: ControlClient) => Promise<T>): Promise<T> {
  const vm = await ControlClient.open(name);
  try {
    return await body(vm);
  } finally {
    vm.close();
  }
}

/** Asks for `request` and prints the state that the VM is in then. */
function change(name: string, request: "pause" | "resume"): Promise<number> {
  return withVm(name, async (vm) => {
    const { state } = await vm.ask(request);
    say(STDOUT, printable(`${name}: ${state}\n`));
    return 0;
  });
}

export function pause(name: string): Promise<number> {
  return change(name, "pause");
}

export function resume(name: string): Promise<number> {
  return change(name, "resume");
}

/** Whether the conversation ended in time, as it does with the VM. */
async function closesInTime(vm: ControlClient): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimeout(resolve, STOP_MS_MAX, "late");
  });
  const first = await Promise.race([vm.closed, late]);
  clearTimeout(timer);
  return first !== "late";
}

/** Asks the guest to shut down, or takes the power from it, and waits until the VM is gone. */
export function stop(name: string, { force = false }: StopOptions): Promise<number> {
  return withVm(name, async (vm) => {
    const { asked } = await vm.ask("stop", { force });
    if (!(await closesInTime(vm))) {
      const seconds = STOP_MS_MAX / 1000;
      const what = asked === true ? "its guest was asked to shut down" : "it was told to end";
      const advice = `bulkhead stop --force ${name} takes the power from it`;
      const problem = `Cannot stop VM "${name}": ${what}, and has not in ${seconds} s\n${advice}`;
      throw new VmmError("ERR_CONTROL", problem);
    }
    say(STDOUT, printable(`${name}: ${asked === true ? "shut down" : "stopped"}\n`));
    return 0;
  });
}

/** Prints registers and queue states. */
export function debug(name: string): Promise<number> {
  return withVm(name, async (vm) => {
    const { text } = await vm.ask("debug");
    say(STDOUT, printable(String(text)));
    return 0;
  });
}
