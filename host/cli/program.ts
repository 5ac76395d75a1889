// The commands and options of `bulkhead`, in lkvm's words where lkvm has one. What a command does
// comes from its own file, loaded when it is called.

import { readFileSync } from "node:fs";
import { Command, Option } from "commander";
import { type ControlCommands, controlCommands } from "./control-commands.js";
import { consoleSpec } from "./device.js";
import { KINDS, keyForm } from "./kinds.js";
import type { ConfinementOptions, RunOptions } from "./options.js";

export interface DemoOptions extends ConfinementOptions {
  json?: boolean;
}

export interface InspectOptions {
  json?: boolean;
  wat?: boolean;
}

export interface BuildOptions {
  out?: string;
  json?: boolean;
}

export interface NewOptions {
  json?: boolean;
}

export interface PolicyOptions {
  grant: string[];
  json?: boolean;
}

/** What each command does; each returns the exit status. */
export interface Commands extends ControlCommands {
  run(kernel: string | undefined, options: RunOptions): Promise<number>;
  demo(options: DemoOptions): Promise<number>;
  inspect(target: string, options: InspectOptions): Promise<number>;
  policy(spec: string, options: PolicyOptions): Promise<number>;
  build(files: string[], options: BuildOptions): Promise<number>;
  create(name: string, options: NewOptions): Promise<number>;
}

const RUN_EXAMPLES = `
Devices:
${Object.entries(KINDS).map(kindHelp).join("\n")}
  ./mine.wasm              a module of your own (bulkhead build); its first instance is mine0

Examples:
  bulkhead run vmlinux -p "console=ttyS0" --rng
  bulkhead run -k bzImage -i initrd.img -m 512M -c 2 --device rng,source=/dev/hwrng
  bulkhead run -k vmlinuz -i initrd.img -d disk.img -p "root=/dev/vda1 console=ttyS0"
  bulkhead run -k vmlinux --device ./mine.wasm --grant mine0.image=file:data.bin:ro

Ctrl-A x ends the guest, Ctrl-A a sends Ctrl-A, Ctrl-A h shows help.
Exit status: 0 guest powered off or rebooted, 1 internal error, 2 bad arguments, 3 KVM not
usable, 4 guest crashed, 5 a device failed for good, 6 sandbox could not be set up.`;

function kindHelp([name, { summary, keys }]: [string, (typeof KINDS)[string]]): string {
  const lines = Object.entries(keys).map(([word, key]) => {
    const { fallback } = key as { fallback?: string };
    const otherwise = fallback === undefined ? "" : ` (default: ${fallback})`;
    return `    ${keyForm(word, key).padEnd(22)} ${key.summary}${otherwise}`;
  });
  return [`  ${name.padEnd(24)} ${summary}`, ...lines].join("\n");
}

/** Version of this package; package.json is in every installation. */
function version(): string {
  const path = new URL("../../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
}

/** An option with a value that it has when it is not given. */
function withDefault(flags: string, description: string, value: string): Option {
  return new Option(flags, description).default(value, value);
}

/** An option that may be given several times. */
function repeated(flags: string, description: string): Option {
  const collect = (value: string, previous: string[] | undefined) => [...(previous ?? []), value];
  return new Option(flags, description).argParser(collect);
}

function addConfinement(command: Command): Command {
  return command
    .optionsGroup("Confinement options:")
    .addOption(withDefault("--isolation <where>", "run devices in a process or inline", "process"))
    .addOption(
      withDefault(
        "--seccomp <mode>",
        "on a forbidden call, of devices and VMM: enforce, log, off",
        "enforce",
      ),
    )
    .option("--allow-weak-sandbox", "start even if this kernel lacks a part of the sandbox");
}

/** `run`, whose devices keep the order in which --device and --rng were written. */
function runCommand(commands: Commands, onStatus: (status: number) => void): Command {
  const device: string[] = [];
  const command = new Command("run")
    .summary("run a guest")
    .description("Run a guest, with each of its devices in a confined process of its own.")
    .argument("[KERNEL]", "kernel image, ELF or bzImage")
    .optionsGroup("Basic options:")
    .option("--name <name>", "what the VM is called (default: guest-PID), see: bulkhead list")
    .addOption(withDefault("-c, --cpus <n>", "number of CPUs", "1"))
    .addOption(withDefault("-m, --mem <size>[B|K|M|G|T]", "guest memory, measured in M", "256M"))
    .optionsGroup("Kernel options:")
    .option("-k, --kernel <kernel>", "kernel to boot in the guest")
    .option("-i, --initrd <initrd>", "initial RAM disk image")
    .addOption(repeated("-p, --params <params>", "kernel command line arguments"))
    .optionsGroup("Device options:")
    .option("--device <spec>", "add a device: KIND[,key=value]... or the path of a .wasm")
    .addOption(repeated("--grant <grant>", "grant what it asks for: ID.NAME=KIND:WHAT[:RIGHTS]"))
    .option("-d, --disk <spec>", "add a virtio-blk disk, IMAGE[,ro][,key=value]...")
    .option("--rng", "add a virtio-rng device, as --device rng does")
    .option(
      "--console <spec>",
      "add a virtio console: virtio (here), pty, unix:PATH or FILE, [,key=value]...",
    )
    .option("--transport <name>", "virtio transport: pci (default for a bzImage) or mmio (ELF)")
    .addOption(
      withDefault("--on-device-failure <what>", "that fails for good: continue, stop", "continue"),
    );
  command.on("option:device", (spec: string) => device.push(spec));
  command.on("option:disk", (spec: string) => device.push(`blk,image=${spec}`));
  command.on("option:console", (spec: string) => device.push(consoleSpec(spec)));
  command.on("option:rng", () => device.push("rng"));
  return addConfinement(command)
    .optionsGroup("Output options:")
    .option("--serial <file>", "write the guest's serial output to a file")
    .option("-q, --quiet", "do not say what was granted to which device")
    .option("--json", "print events as JSON, one object a line")
    .option("--api-socket <path>", "path of its control socket, instead of one by its name")
    .option("--debug-exit", "let a write to port 0x501 end the guest, as in QEMU")
    .addHelpText("after", RUN_EXAMPLES)
    .action(async (kernel: string | undefined, options: Partial<RunOptions>) => {
      const { params = [], grant = [], ...given } = options;
      onStatus(await commands.run(kernel, { ...given, params, grant, device } as RunOptions));
    });
}

function demoCommand(commands: Commands, onStatus: (status: number) => void): Command {
  const command = new Command("demo")
    .summary("boot the built-in guest and show how its devices are confined")
    .description(
      "Boot the built-in guest with two rng devices and show what confines each of them.",
    )
    .option("--json", "print events and measurements as JSON, one object a line");
  return addConfinement(command).action(async (options: DemoOptions) => {
    onStatus(await commands.demo(options));
  });
}

function inspectCommand(commands: Commands, onStatus: (status: number) => void): Command {
  return new Command("inspect")
    .summary("show what is in a device's module")
    .description("Show a module's manifest, imports and exports, what it asks for and its policy.")
    .argument("<FILE|KIND>", "a .wasm, or the kind of a device")
    .option("--wat", "print the module in text format instead")
    .option("--json", "print one JSON object")
    .action(async (target: string, options: InspectOptions) => {
      onStatus(await commands.inspect(target, options));
    });
}

function policyCommand(commands: Commands, onStatus: (status: number) => void): Command {
  return new Command("policy")
    .summary("show the system calls that a device, or the VMM, may make")
    .description("Show the system calls that a device, or the VMM, may make, each with its reason.")
    .argument("<SPEC>", "a device as for run --device, whose id ends in 0; or vmm")
    .addOption(repeated("--grant <grant>", "grant what it asks for: ID.NAME=KIND:WHAT[:RIGHTS]"))
    .option("--json", "print one JSON object")
    .action(async (spec: string, { grant = [], ...options }: Partial<PolicyOptions>) => {
      onStatus(await commands.policy(spec, { ...options, grant }));
    });
}

const BUILD_HELP = `
Writes beside each source, or to the directory of --out:
  NAME.wasm                the device, for: bulkhead run --device ./NAME.wasm
  NAME.debug.wasm, .map    the same, not optimised, with names and a source map: for tests

A device imports "bulkhead/sdk" and other files of its author's, none of which may touch raw memory.
Exit status: 0 all are built, 2 a file has mistakes: FILE:LINE:COLUMN of each is on stderr.`;

function buildCommand(commands: Commands, onStatus: (status: number) => void): Command {
  return new Command("build")
    .summary("build devices of your own from their sources")
    .description("Build a module from each file, and show what it asks for and how to run it.")
    .argument("<FILE.ts...>", "AssemblyScript, one device a file; its name becomes the device's")
    .option("--out <dir>", "write to this directory instead of beside the source")
    .option("--json", "print one JSON object a file")
    .addHelpText("after", BUILD_HELP)
    .action(async (files: string[], options: BuildOptions) => {
      onStatus(await commands.build(files, options));
    });
}

function newCommand(commands: Commands, onStatus: (status: number) => void): Command {
  return new Command("new")
    .summary("make a folder with a device of your own to begin with")
    .description("Make the folder NAME with a small device in it that builds, is tested and runs.")
    .argument("<NAME>", "small letters, digits and hyphens, as the device will be called")
    .option("--json", "print one JSON object")
    .action(async (name: string, options: NewOptions) => {
      onStatus(await commands.create(name, options));
    });
}

/**
 * The whole command line. The status of the command that was called goes to `onStatus`; help,
 * version and mistakes are thrown as commander's CommanderError.
 */
export function programOf(commands: Commands, onStatus: (status: number) => void): Command {
  const program = new Command("bulkhead")
    .description("A virtual machine monitor whose devices are confined, one process each.")
    .version(version(), "-V, --version")
    .addCommand(runCommand(commands, onStatus));
  for (const command of controlCommands(commands, onStatus)) program.addCommand(command);
  program
    .addCommand(demoCommand(commands, onStatus))
    .addCommand(inspectCommand(commands, onStatus))
    .addCommand(policyCommand(commands, onStatus))
    .addCommand(newCommand(commands, onStatus))
    .addCommand(buildCommand(commands, onStatus));
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({ outputError: () => {} });
  }
  return program;
}
