// The table of verbs → commander's parser of the command line.

import { readFileSync } from "node:fs";
import { Argument, Command, Option } from "commander";
import { helpOf, mainHelp } from "./help.js";
import { STDERR, STDOUT, say } from "./output.js";
import { usageError } from "./usage.js";
import type { OptionRow, Verb } from "./verb.js";

/** Version of this package; package.json is in every installation. */
export function version(): string {
  const path = new URL("../../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
}

function collect(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

/** Says that there is no such device, and what there is instead. */
function refuseMissing({ flags, missing = "" }: OptionRow): never {
  const option = flags.split(" ").find((word) => word.startsWith("--"));
  throw usageError(
    `Cannot take ${option}: Bulkhead has no ${missing} of its own yet`,
    "--device ./mine.wasm takes one of yours, see: bulkhead new --help",
  );
}

/** Options of one verb; what adds a device goes to `devices`, in the order of the command line. */
function addOptions(command: Command, { options }: Verb, devices: string[]): void {
  for (const row of options) {
    const option = new Option(row.flags, row.summary);
    if (row.fallback !== undefined) option.default(row.fallback);
    if (row.repeats === true) option.argParser(collect);
    // Not one to be proposed for a word that is like it.
    if (row.missing !== undefined) option.hideHelp();
    command.addOption(option);
    const { device, missing } = row;
    const event = `option:${option.name()}`;
    if (missing !== undefined) command.on(event, () => refuseMissing(row));
    if (device !== undefined) command.on(event, (value: string) => devices.push(device(value)));
  }
}

function commandOf(verb: Verb, onStatus: (status: number) => void): Command {
  const { name, argument, action } = verb;
  const devices: string[] = [];
  const command = new Command(name);
  if (argument !== undefined) command.addArgument(new Argument(argument.form, argument.summary));
  addOptions(command, verb, devices);
  command.helpInformation = () => helpOf(verb);
  return command.action(async (...given: unknown[]) => {
    // commander passes the argument, if there is one, the options, and the command.
    const value = argument === undefined ? undefined : given[0];
    const options = given.at(-2) as Record<string, unknown>;
    if (verb.options.some(({ device }) => device !== undefined)) options.device = devices;
    onStatus(await action(value as never, options as never));
  });
}

/**
 * The whole command line. The status of the verb that was called goes to `onStatus`; help, version
 * and mistakes are thrown as commander's CommanderError.
 */
export function programOf(verbs: readonly Verb[], onStatus: (status: number) => void): Command {
  const program = new Command("bulkhead").version(version(), "-V, --version");
  program.helpCommand(false); // it is a verb like the others
  program.helpInformation = () => mainHelp(verbs);
  for (const verb of verbs) program.addCommand(commandOf(verb, onStatus));
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({
      writeOut: (text) => void say(STDOUT, text),
      writeErr: (text) => void say(STDERR, text),
      outputError: () => {},
    });
  }
  return program;
}
