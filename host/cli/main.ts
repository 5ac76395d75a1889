#!/usr/bin/env node
// Entry of `bulkhead`: reads the arguments, calls the command, reports what went wrong.

// The order counts: threads start while the rest is loaded.
import "./early.js";

import { CommanderError } from "commander";
import { EXIT } from "../errors.js";
import { dismissThreads } from "../machine/thread.js";
import { isMachine } from "./early.js";
import { checkNode } from "./node-version.js";
import { checkOutput, sayError } from "./output.js";
import { programOf } from "./program.js";
import { usageError } from "./usage.js";
import type { Verb } from "./verb.js";
import { VERBS } from "./verbs.js";

const json = process.argv.includes("--json");

/** The verb that the command line begins with, if there is one of this name. */
function verbGiven(): Verb | undefined {
  return VERBS.find(({ name }) => name === process.argv[2]);
}

/** Commander's errors say "error: problem", and sometimes "(Did you mean …?)" on the next line. */
function fromCommander(error: CommanderError): unknown {
  const [problem = "", meant] = error.message.replace(/^error: /, "").split("\n");
  const known = verbGiven();
  const help = known === undefined ? "bulkhead --help" : `bulkhead ${known.name} --help`;
  const advice = meant?.replace(/^\(Did (.*)\)$/, "did $1") ?? `see: ${help}`;
  return usageError(`Cannot parse the command line: ${problem}`, advice);
}

/** Ends the process: a handle or a thread that is left must not keep a finished VMM alive. */
async function leave(status: number): Promise<void> {
  await dismissThreads();
  process.exit(status);
}

async function main(): Promise<number> {
  let status: number = EXIT.usage;
  try {
    if (isMachine) checkNode(process.versions.node);
    const given = verbGiven(); // the options of the others need not be put together
    await programOf(given === undefined ? VERBS : [given], (value) => {
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
