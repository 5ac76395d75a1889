// Runs the real command line, as a user does.

import { spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { fileURLToPath } from "node:url";

/** The entry of `bulkhead`, as package.json's bin names it. */
export const BULKHEAD = fileURLToPath(new URL("../../bundle/cli/main.js", import.meta.url));

/** The guest of `bulkhead demo`. */
export const ENTROPY_GUEST = fileURLToPath(new URL("../../guest/entropy.elf", import.meta.url));

/** Far beyond what any of these runs takes: it only keeps a hang from stopping all tests. */
const TIMEOUT_MS = 60_000;

export interface RunResult {
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface RunSettings {
  /** What is on stdin; nothing when left out. */
  input?: string;
  /** A shell script that ends in `exec "$@"`: the command runs in what it prepares. */
  shell?: string;
  /** Words before the shell: what runs it in a namespace of its own. */
  launcher?: string[];
  /** The working directory; this process's when left out. */
  cwd?: string;
}

/** Runs `bulkhead` with `args` to its end. */
export function bulkhead(args: string[], settings: RunSettings = {}): RunResult {
  const { input = "", shell, launcher = [], cwd } = settings;
  const command = [process.execPath, BULKHEAD, ...args];
  const wrapped = shell === undefined ? command : ["sh", "-ec", shell, "sh", ...command];
  const [file, ...rest] = [...launcher, ...wrapped];
  const result = spawnSync(file!, rest, { cwd, input, encoding: "utf8", timeout: TIMEOUT_MS });
  return { status: result.status, stdout: result.stdout, stderr: result.stderr };
}

/** The objects that a `--json` run printed. */
export function jsonLines(stdout: string): Record<string, unknown>[] {
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Why no guest can run here; undefined where one can. */
export function whyNoKvm(): string | undefined {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return undefined;
  } catch {
    return "no guest can run here: /dev/kvm is missing or closed to this user";
  }
}
