// The verbs for VMs that run, in the table of verbs: lkvm's, and top.

import type { JsonOption, StopOptions } from "./control.js";
import type { TopOptions } from "./top.js";
import { type ArgumentRow, type Verb, verb } from "./verb.js";

const NAME: ArgumentRow = {
  form: "<NAME>",
  summary: "a VM as bulkhead list shows it, or its control socket",
  values: "vm",
};

const LIST = verb<undefined, JsonOption>({
  name: "list",
  summary: "list the VMs that run",
  description: "List the VMs of this user that run.",
  options: [{ flags: "--json", summary: "print one JSON object for each VM" }],
  examples: [{ line: "list", what: "names, processes, and what they do" }],
  action: async (_, options) => (await import("./control.js")).list(options),
});

const STOP = verb<string, StopOptions>({
  name: "stop",
  summary: "shut a VM down, or end it",
  description: "Press the power button of a VM and wait until it has shut down.",
  argument: NAME,
  options: [{ flags: "-f, --force", summary: "do not ask the guest" }],
  examples: [
    { line: "stop web", what: "in order, if somebody in the guest listens" },
    { line: "stop web --force", what: "at once" },
  ],
  details: [
    "Where nobody in the guest listens to the button (a system without logind or acpid, say), or " +
      "with --force, it ends at once, as if its power was cut, and as Ctrl-A x does.",
  ],
  action: async (vm, options) => (await import("./control.js")).stop(vm, options),
});

const PAUSE = verb<string, object>({
  name: "pause",
  summary: "halt a VM",
  description: "Halt the CPUs of a VM, which stays in memory; its devices idle.",
  argument: NAME,
  options: [],
  examples: [{ line: "pause web", what: "until bulkhead resume web" }],
  action: async (vm) => (await import("./control.js")).pause(vm),
});

const RESUME = verb<string, object>({
  name: "resume",
  summary: "let a VM that was halted go on",
  description: "Let a VM go on that was halted by: bulkhead pause",
  argument: NAME,
  options: [],
  examples: [{ line: "resume web", what: "where it was halted" }],
  action: async (vm) => (await import("./control.js")).resume(vm),
});

const STAT = verb<string, JsonOption>({
  name: "stat",
  summary: "show what the devices of a VM have done",
  description: "Show what each device of a VM has done since the VM was started.",
  argument: NAME,
  options: [
    { flags: "--json", summary: "print one JSON object, with the whole histogram of latencies" },
  ],
  examples: [{ line: "stat web", what: "requests, bytes, latencies" }],
  action: async (vm, options) => (await import("./stat.js")).stat(vm, options),
});

const DEBUG = verb<string, object>({
  name: "debug",
  summary: "show registers and queues of a VM",
  description: "Show the registers of each CPU and the state of each device and queue.",
  argument: NAME,
  options: [],
  examples: [{ line: "debug web", what: "what it is in the middle of" }],
  action: async (vm) => (await import("./control.js")).debug(vm),
});

const TOP = verb<string | undefined, TopOptions>({
  name: "top",
  summary: "show what devices do just now",
  description:
    "Show requests, bytes and latencies of devices, and what their processes use:\n" +
    "live on a terminal, where q quits; once when the output is a pipe.",
  argument: { ...NAME, form: "[NAME]", summary: "one VM instead of all of this user" },
  options: [
    { flags: "-i, --interval <seconds>", summary: "time between two looks", fallback: "1" },
    { flags: "--json", summary: "print one JSON object for each VM, once" },
  ],
  examples: [
    { line: "top web", what: "one VM" },
    { line: "top --json | jq .devices", what: "for programs" },
  ],
  action: async (vm, options) => (await import("./top.js")).top(vm, options),
});

export const CONTROL_VERBS: readonly Verb[] = [LIST, STOP, PAUSE, RESUME, STAT, DEBUG, TOP];
