// A VMM in a process of its own, as a user starts it, with every event that it prints.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { BULKHEAD, ENTROPY_GUEST, jsonLines } from "./bulkhead.js";

/** `bulkhead run --json` with the entropy guest, and what it prints. */
export class VmmProcess {
  readonly process: ChildProcess;
  readonly exit: Promise<unknown[]>;
  #output = "";

  constructor(...args: string[]) {
    const command = [BULKHEAD, "run", ENTROPY_GUEST, "--json", ...args];
    this.process = spawn(process.execPath, command, { stdio: ["ignore", "pipe", "inherit"] });
    this.exit = once(this.process, "exit");
    this.process.stdout!.setEncoding("utf8").on("data", (text: string) => {
      this.#output += text;
    });
  }

  get pid(): number {
    return this.process.pid!;
  }

  events(name?: string): Record<string, unknown>[] {
    const all = jsonLines(this.#output.slice(0, this.#output.lastIndexOf("\n") + 1));
    return name === undefined ? all : all.filter(({ event }) => event === name);
  }

  get text(): string {
    return this.events("serial")
      .map((event) => event.text)
      .join("");
  }

  /** Resolves when `condition` holds; a machine that ended before is a failure. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      const { exitCode, signalCode } = this.process;
      if (exitCode !== null || signalCode !== null) {
        throw new Error(`the VMM has ended, ${signalCode ?? exitCode}:\n${this.#output}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Ends the machine by `signal`; returns the exit status. */
  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<unknown> {
    this.process.kill(signal);
    const [status, killedBy] = await this.exit;
    return status ?? killedBy;
  }
}

/** Runs `body` with a machine that is gone afterwards, whatever happens. */
export async function withVmm(
  args: string[],
  body: (machine: VmmProcess) => Promise<void>,
): Promise<void> {
  const machine = new VmmProcess(...args);
  try {
    await body(machine);
  } finally {
    machine.process.kill("SIGKILL");
    await machine.exit;
  }
}
