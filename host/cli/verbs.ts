// All verbs of `bulkhead`, in the order in which they are listed.

import type { BuildOptions } from "./build.js";
import { CONTROL_VERBS } from "./control-verbs.js";
import type { DemoOptions } from "./demo.js";
import type { InspectOptions } from "./inspect.js";
import type { ManOptions } from "./man.js";
import type { NewOptions } from "./new.js";
import type { PolicyOptions } from "./policy.js";
import { RUN } from "./run-verb.js";
import { CONFINEMENT, JSON_LINES, type OptionRow, type Verb, verb } from "./verb.js";

const JSON_OBJECT: OptionRow = { flags: "--json", summary: "print one JSON object" };

const DEMO = verb<undefined, DemoOptions>({
  name: "demo",
  summary: "boot the built-in guest and show how its devices are confined",
  description: "Boot the built-in guest with two rng devices, and show what confines each.",
  options: [...CONFINEMENT, JSON_LINES],
  examples: [{ line: "demo --isolation inline", what: "what is left without processes" }],
  details: ["The figures are read from /proc while the guest runs. Any KVM will do."],
  action: async (_, options) => (await import("./demo.js")).demo(options),
});

const INSPECT = verb<string, InspectOptions>({
  name: "inspect",
  summary: "show what is in a device's module",
  description:
    "Show a module's manifest, imports and exports, what it asks for, and its policy.\n" +
    "Nothing of it is compiled or run.",
  argument: {
    form: "<FILE|KIND>",
    summary: "a .wasm, or the kind of a device",
    values: "device",
  },
  options: [{ flags: "--wat", summary: "print the module in text format instead" }, JSON_OBJECT],
  examples: [
    { line: "inspect ./mine.wasm", what: "a module of somebody's" },
    { line: "inspect rng --wat", what: "the code of a device" },
  ],
  action: async (target, options) => (await import("./inspect.js")).inspect(target, options),
});

const POLICY = verb<string, Partial<PolicyOptions>>({
  name: "policy",
  summary: "show the system calls that a device, or the VMM, may make",
  description: "Show the system calls that a device, or the VMM, may make, each with its reason.",
  argument: {
    form: "<SPEC>",
    summary: "a device as for run --device, whose id ends in 0; or vmm",
    values: "device",
  },
  options: [
    {
      flags: "--grant <grant>",
      summary: "grant what it asks for: ID.NAME=KIND:WHAT[:RIGHTS]",
      repeats: true,
      values: "grant",
    },
    JSON_OBJECT,
  ],
  examples: [
    { line: "policy blk,image=disk.img,ro", what: "a disk that is only read" },
    { line: "policy vmm", what: "the VMM itself, while a guest runs" },
  ],
  action: async (spec, { grant = [], ...options }) => {
    return (await import("./policy.js")).policy(spec, { ...options, grant });
  },
});

const NEW = verb<string, NewOptions>({
  name: "new",
  summary: "make a folder with a device of your own to begin with",
  description: "Make the folder NAME with a small device in it that builds, is tested and runs.",
  argument: { form: "<NAME>", summary: "small letters, digits and hyphens", values: [] },
  options: [JSON_OBJECT],
  examples: [{ line: "new coin && cd coin && npm install && npm test", what: "from nothing" }],
  action: async (name, options) => (await import("./new.js")).create(name, options),
});

const BUILD = verb<string[], BuildOptions>({
  name: "build",
  summary: "build devices of your own from their sources",
  description: "Build a module from each file, and show what it asks for and how to run it.",
  argument: {
    form: "<FILE.ts...>",
    summary: "AssemblyScript, one device a file, and its name",
    values: "file",
  },
  options: [
    {
      flags: "--out <dir>",
      summary: "write to this directory instead of beside the source",
      values: "directory",
    },
    { flags: "--json", summary: "print one JSON object a file" },
  ],
  examples: [
    { line: "build coin.ts", what: "coin.wasm, and coin.debug.wasm with a source map" },
    { line: "build *.ts --out dist", what: "several, in a folder of their own" },
  ],
  details: [
    "NAME.wasm is the device, for run --device ./NAME.wasm. NAME.debug.wasm and its .map are the " +
      "same, not optimised: a trap in it is told by file, line and column.",
    'A device imports "bulkhead/sdk" and other files of its author\'s, none of which may touch ' +
      "raw memory. The status is 2 when a file has mistakes; stderr has the place of each.",
  ],
  action: async (files, options) => (await import("./build.js")).build(files, options),
});

const MAN = verb<string | undefined, ManOptions>({
  name: "man",
  summary: "show the reference, of which --help is a part",
  description: "Show the reference: on a terminal with man(1), else as text; in a pipe as roff.",
  argument: { form: "[VERB]", summary: "the part of this verb alone", values: "verb" },
  options: [
    { flags: "--roff", summary: "print the source of the manual page" },
    { flags: "--text", summary: "print plain text" },
  ],
  examples: [
    { line: "man run", what: "one verb" },
    { line: "man --roff > bulkhead.1", what: "a manual page to install" },
  ],
  action: async (name, options) => (await import("./man.js")).man(name, options),
});

const COMPLETION = verb<string, object>({
  name: "completion",
  summary: "print what completes a command line in bash or zsh",
  description: "Print a script with which a shell completes verbs, options, devices and grants.",
  argument: { form: "<SHELL>", summary: "bash or zsh", values: ["bash", "zsh"] },
  options: [],
  examples: [
    { line: "completion bash > /etc/bash_completion.d/bulkhead", what: "bash" },
    { line: "completion zsh > ~/.zfunc/_bulkhead", what: "zsh, with ~/.zfunc in its fpath" },
  ],
  details: ['For one shell alone: eval "$(bulkhead completion bash)".'],
  action: async (shell) => (await import("./completion.js")).completion(shell),
});

const HELP = verb<string | undefined, object>({
  name: "help",
  summary: "show the options of a verb",
  description: "Show the options of a verb, as VERB --help does, or all verbs.",
  argument: { form: "[VERB]", summary: "all of them when left out", values: "verb" },
  options: [],
  examples: [{ line: "help run", what: "on one screen" }],
  action: async (name) => (await import("./man.js")).help(name),
});

export const VERBS: readonly Verb[] = [
  RUN,
  ...CONTROL_VERBS,
  DEMO,
  INSPECT,
  POLICY,
  NEW,
  BUILD,
  MAN,
  COMPLETION,
  HELP,
];
