// One machine from start to end on the user's terminal: signals, serial input, exit status.

import os from "node:os";
import tty from "node:tty";
import type { VmConfig } from "../machine/config.js";
import type { Vm } from "../machine/vm.js";
import type { ConsoleTerminal } from "./console.js";
import type { EventSink } from "./events.js";
import { clearProgress, remark, shareTerminal, showProgress, tellFailures } from "./output.js";
import type { TerminalGuard } from "./terminal-guard.js";

/** What ends a machine from outside; a guest on a terminal gets Ctrl-C as a keystroke instead. */
const STOP_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/** Exit status of a process that a signal ended, as a shell counts it. */
const SIGNAL_STATUS_FIRST = 128;

/** Asks for a clean end on the first signal and leaves at once on the second. */
class StopSignals {
  #received: NodeJS.Signals | undefined;
  readonly #onSignal: (signal: NodeJS.Signals) => void;

  constructor(vm: Vm) {
    this.#onSignal = (signal) => {
      if (this.#received !== undefined) {
        remark(`left at once: ${signal} after ${this.#received}`);
        process.exit(this.status);
      }
      this.#received = signal;
      vm.stop(signal);
    };
    for (const signal of STOP_SIGNALS) process.on(signal, this.#onSignal);
  }

  /** Exit status that says which signal came; undefined when none did. */
  get status(): number | undefined {
    if (this.#received === undefined) return undefined;
    return SIGNAL_STATUS_FIRST + os.constants.signals[this.#received];
  }

  close(): void {
    for (const signal of STOP_SIGNALS) process.off(signal, this.#onSignal);
  }
}

export interface SessionOptions {
  onEvent: EventSink;
  /** Whether stdin is the guest's serial input. */
  input: boolean;
  /** The console that has the terminal, if it is not the serial one. */
  console?: ConsoleTerminal;
  /** Called when every device is confined and the guest is about to run. */
  beforeRun?: (vm: Vm) => void | Promise<void>;
}

const STDIN = 0;

/** A start that takes longer is one that somebody waits for. */
const PROGRESS_AFTER_MS = 300;

function startingText({ devices }: VmConfig): string {
  const ids = devices.map(({ id }) => id).join(", ");
  return ids === "" ? "starting" : `starting ${ids}`;
}

/** Watches over a terminal that is about to become the guest's. */
async function guardOf({ input }: SessionOptions): Promise<TerminalGuard | undefined> {
  if (!input || !tty.isatty(STDIN)) return undefined;
  const { TerminalGuard } = await import("./terminal-guard.js");
  return TerminalGuard.start();
}

/** Builds the machine, runs it to its end and returns the exit status for the process. */
export async function runSession(config: VmConfig, options: SessionOptions): Promise<number> {
  tellFailures("the guest");
  // Loaded only now: a mistake in the options is told without loading what talks to the kernel.
  const [{ createVm }, { leaveAtOnce }] = await Promise.all([
    import("../machine/vm.js"),
    import("../machine/exit.js"),
  ]);
  // The terminal's code is loaded while the devices' processes start, which takes them longer.
  const creating = createVm(config, options.onEvent);
  const starting = Promise.all([import("./terminal.js"), guardOf(options)]);
  const timer = setTimeout(() => showProgress(startingText(config)), PROGRESS_AFTER_MS);
  const vm = await creating.finally(() => clearTimeout(timer));
  const [{ Terminal, hasInput, surviveHangUp }, guard] = await starting;
  await guard?.ready;
  guard?.watch();
  const signals = new StopSignals(vm);
  const terminal =
    options.input && hasInput()
      ? Terminal.open({
          input: (bytes) => options.console?.input(bytes) ?? vm.serialInput(bytes),
          quit: () => vm.stop("Ctrl-A x"),
        })
      : undefined;
  surviveHangUp(leaveAtOnce); // behind what puts a terminal back
  try {
    options.console?.connect(vm);
    // Both are asked: a line of one of them ends that of the other.
    shareTerminal(() => [vm.breakLine(), options.console?.breakLine()].includes(true));
    await options.beforeRun?.(vm);
    clearProgress(); // what the guest writes goes past this thread
    const exit = await vm.run();
    return exit.reason === "stopped" ? (signals.status ?? exit.status) : exit.status;
  } finally {
    options.console?.close();
    terminal?.close();
    guard?.close();
    signals.close();
  }
}
