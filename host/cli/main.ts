#!/usr/bin/env node
// Entry of `bulkhead`: reads the arguments, calls the command, reports what went wrong.

// The order counts: threads start while the rest is loaded.
import "./early.js";

import { CommanderError } from "commander";
import { EXIT } from "../errors.js";
import { dismissThreads } from "../machine/thread.js";
import { checkOutput, sayError } from "./output.js";
import { type Commands, programOf } from "./program.js";
import { usageError } from "./usage.js";

/** Each command's file is loaded when it is called: `run` must not wait for the code of others. */
const COMMANDS: Commands = {
  run: async (kernel, options) => (await import("./run.js")).run(kernel, options),
  demo: async (options) => (await import("./demo.js")).demo(options),
  inspect: async (target, options) => (await import("./inspect.js")).inspect(target, options),
  policy: async (spec, options) => (await import("./policy.js")).policy(spec, options),
  create: async (name, options) => (await import("./new.js")).create(name, options),
  build: async (files, options) => (await import("./build.js")).build(files, options),
  list: async (options) => (await import("./control.js")).list(options),
  stop: async (name, options) => (await import("./control.js")).stop(name, options),
  pause: async (name) => (await import("./control.js")).pause(name),
  resume: async (name) => (await import("./control.js")).resume(name),
  debug: async (name) => (await import("./control.js")).debug(name),
  stat: async (name, options) => (await import("./stat.js")).stat(name, options),
  top: async (name, options) => (await import("./top.js")).top(name, options),
};

/** The commands that have help of their own. */
const NAMES = [
  ...["run", "list", "stop", "pause", "resume", "stat", "debug", "top"],
  ...["demo", "inspect", "policy", "new", "build"],
];

const json = process.argv.includes("--json");

/** Commander's errors say "error: problem" and sometimes "(Did you mean …?)" on the next line. */
function fromCommander(error: CommanderError): unknown {
  const [problem = "", advice] = error.message.replace(/^error: /, "").split("\n");
  const command = process.argv[2];
  const known = NAMES.find((name) => name === command);
  const help = known === undefined ? "bulkhead --help" : `bulkhead ${known} --help`;
  return usageError(`Cannot parse the command line: ${problem}`, advice ?? `see: ${help}`);
}

/** Ends the process: a handle or a thread that is left must not keep a finished VMM alive. */
async function leave(status: number): Promise<void> {
  await dismissThreads();
  process.exit(status);
}

async function main(): Promise<number> {
  let status: number = EXIT.usage;
  try {
    await programOf(COMMANDS, (value) => {
      status = value;
    }).parseAsync();
    checkOutput();
    return status;
  } catch (error) {
    if (!(error instanceof CommanderError)) return sayError(error, json);
    // Help that was asked for has exit code 0; `bulkhead` alone prints it as a mistake.
    if (error.exitCode === 0) return EXIT.ok;
    if (error.code === "commander.help") return EXIT.usage;
    return sayError(fromCommander(error), json);
  }
}

process.on("uncaughtException", (error) => leave(sayError(error, json)));

void main().then(leave);
