// The commands for VMs that run: list, stop, pause, resume, stat, debug, top.

import { Command, Option } from "commander";
import type { JsonOption, StopOptions } from "./control.js";
import type { TopOptions } from "./top.js";

/** What each command does; each returns the exit status. */
export interface ControlCommands {
  list(options: JsonOption): Promise<number>;
  stop(name: string, options: StopOptions): Promise<number>;
  pause(name: string): Promise<number>;
  resume(name: string): Promise<number>;
  stat(name: string, options: JsonOption): Promise<number>;
  debug(name: string): Promise<number>;
  top(name: string | undefined, options: TopOptions): Promise<number>;
}

const NAME = "name of a VM, see: bulkhead list; or path of its control socket";

function example(...lines: string[]): string {
  return `\nExample:\n${lines.map((line) => `  ${line}`).join("\n")}`;
}

function command(name: string, summary: string): Command {
  return new Command(name).summary(summary);
}

/** A command about one VM, by its name. */
function named(name: string, summary: string, act: (vm: string) => Promise<void>): Command {
  return command(name, summary).argument("<NAME>", NAME).action(act);
}

function topCommand(commands: ControlCommands, onStatus: (status: number) => void): Command {
  return command("top", "show what devices do just now")
    .description(
      "Show requests, bytes and latencies of devices, and what their processes use:\n" +
        "live on a terminal, where q quits; once when the output is a pipe.",
    )
    .argument("[NAME]", "one VM instead of all of this user")
    .addOption(new Option("-i, --interval <seconds>", "time between two looks").default("1", "1"))
    .option("--json", "print one JSON object for each VM, once")
    .addHelpText("after", example("bulkhead top web", "bulkhead top --json | jq .devices"))
    .action(async (vm: string | undefined, options: TopOptions) => {
      onStatus(await commands.top(vm, options));
    });
}

/** Each of these commands, whose status goes to `onStatus`. */
export function controlCommands(
  commands: ControlCommands,
  onStatus: (status: number) => void,
): Command[] {
  const list = command("list", "list the VMs that run")
    .description("List the VMs of this user that run.")
    .option("--json", "print one JSON object for each VM")
    .addHelpText("after", example("bulkhead list"))
    .action(async (options: JsonOption) => onStatus(await commands.list(options)));
  const stop = command("stop", "shut a VM down, or end it")
    .description(
      "Press the power button of a VM and wait until it has shut down. Where nobody in\n" +
        "the guest listens to the button (a system without logind or acpid, say), or\n" +
        "with --force, it ends at once, as if its power was cut, and as Ctrl-A x does.",
    )
    .argument("<NAME>", NAME)
    .option("-f, --force", "do not ask the guest")
    .addHelpText("after", example("bulkhead stop web"))
    .action(async (vm: string, options: StopOptions) => onStatus(await commands.stop(vm, options)));
  const pause = named("pause", "halt a VM", async (vm) => onStatus(await commands.pause(vm)))
    .description("Halt the CPUs of a VM, which stays in memory; its devices idle.")
    .addHelpText("after", example("bulkhead pause web; bulkhead resume web"));
  const resume = named("resume", "let a VM that was halted go on", async (vm) =>
    onStatus(await commands.resume(vm)),
  )
    .description("Let a VM go on that was halted by: bulkhead pause")
    .addHelpText("after", example("bulkhead resume web"));
  const stat = command("stat", "show what devices have done")
    .description("Show what each device of a VM has done since the VM was started.")
    .argument("<NAME>", NAME)
    .option("--json", "print one JSON object, with the whole histogram of latencies")
    .addHelpText("after", example("bulkhead stat web"))
    .action(async (vm: string, options: JsonOption) => onStatus(await commands.stat(vm, options)));
  const debug = named("debug", "show registers and queues", async (vm) =>
    onStatus(await commands.debug(vm)),
  )
    .description("Show the registers of each CPU and the state of each device and queue.")
    .addHelpText("after", example("bulkhead debug web"));
  return [list, stop, pause, resume, stat, debug, topCommand(commands, onStatus)];
}
