// bulkhead list, stop, pause, resume and debug: what is done to VMs that run.

import type { VmStatus } from "../machine/control.js";
import { ControlClient, withVms } from "./control-client.js";
import { uptime } from "./figures.js";
import { printable, STDOUT, say, sayJson } from "./output.js";
import { formatSize } from "./size.js";
import { table } from "./table.js";

/** A VM that was asked to end is killed by nobody: it says that it does not end. */
const STOP_MS_MAX = 30_000;

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

/** Ends the VM and waits until it is gone. */
export function stop(name: string): Promise<number> {
  return withVm(name, async (vm) => {
    await vm.ask("stop");
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(resolve, STOP_MS_MAX, "late");
    });
    const ended = await Promise.race([vm.closed, late]);
    clearTimeout(timer);
    say(STDOUT, printable(ended === "late" ? `${name}: stopping\n` : `${name}: stopped\n`));
    return ended === "late" ? 1 : 0;
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
