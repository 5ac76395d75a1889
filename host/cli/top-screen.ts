// The terminal while `bulkhead top` shows something that changes: another screen, which is gone
// afterwards, whatever the way out.

import os from "node:os";
import tty from "node:tty";
import { STDOUT, say } from "./output.js";

const STDIN = 0;
const CTRL_C = 3;
const Q = 0x71;
const COLUMNS_USUAL = 80;
const ROWS_USUAL = 24;

/** xterm's control sequences: the other screen, the cursor, and what is behind it. */
const ENTER = "\x1b[?1049h\x1b[?25l";
const LEAVE = "\x1b[?25h\x1b[?1049l";
const HOME = "\x1b[H";
const CLEAR_LINE = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** Exit status of a process that a signal ended, as a shell counts it. */
const SIGNAL_STATUS_FIRST = 128;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const STYLES = /\x1b\[[0-9;]*m/g;

/** `line` cut at `columns`, styles not counted. */
function cut(line: string, columns: number): string {
  return line.replace(STYLES, "").length <= columns
    ? line
    : line.replace(STYLES, "").slice(0, columns);
}

export class Screen {
  #left = false;
  #leave: () => void = () => {};
  /** Resolves when the user has seen enough. */
  readonly leaving = new Promise<void>((resolve) => {
    this.#leave = resolve;
  });
  readonly #onExit = () => this.#restore();
  readonly #onSignal = (signal: NodeJS.Signals) => {
    process.exit(SIGNAL_STATUS_FIRST + os.constants.signals[signal]);
  };

  private constructor() {
    say(STDOUT, ENTER);
    process.on("exit", this.#onExit);
    for (const signal of SIGNALS) process.on(signal, this.#onSignal);
    process.stdin.setRawMode(true);
    process.stdin.on("data", (keys: Uint8Array) => {
      if (keys.includes(CTRL_C) || keys.includes(Q)) this.#quit();
    });
    process.stdin.on("end", () => this.#quit()); // the terminal has gone away
    process.stdin.on("error", () => this.#quit());
  }

  /** Whether somebody looks, and can say that he has seen enough. */
  static isPossible(): boolean {
    return tty.isatty(STDOUT) && tty.isatty(STDIN) && process.env.TERM !== "dumb";
  }

  static open(): Screen {
    return new Screen();
  }

  get left(): boolean {
    return this.#left;
  }

  /** Shows `text` in the place of what was there. */
  show(text: string): void {
    // 0, 0 is what a terminal has whose size nobody has set.
    const columns = process.stdout.columns || COLUMNS_USUAL;
    const rows = process.stdout.rows || ROWS_USUAL;
    const lines = [
      ...text
        .trimEnd()
        .split("\n")
        .slice(0, rows - 2),
      "",
      "q quits",
    ];
    const shown = lines.map((line) => cut(line, columns) + CLEAR_LINE).join("\r\n");
    say(STDOUT, HOME + shown + CLEAR_BELOW);
  }

  #quit(): void {
    this.#left = true;
    this.#leave();
  }

  #restore(): void {
    process.stdin.setRawMode(false);
    say(STDOUT, LEAVE);
  }

  close(): void {
    this.#restore();
    process.off("exit", this.#onExit);
    for (const signal of SIGNALS) process.off(signal, this.#onSignal);
    process.stdin.removeAllListeners("data");
    process.stdin.destroy();
  }
}
