// The user's side of the serial console. A terminal is switched to raw mode, so that Ctrl-C reaches
// the guest, and put back on every way out that this process sees (terminal-guard.ts has the
// others); Ctrl-A is the escape key, as in lkvm and QEMU. Anything else on stdin (a pipe, a file)
// is fed to the guest as it is.

import { fstatSync } from "node:fs";
import tty, { type ReadStream } from "node:tty";
import { STDERR, say } from "./output.js";

const CTRL_A = 1;
const HELP =
  "Ctrl-A x  end the guest\r\nCtrl-A a  send Ctrl-A to the guest\r\nCtrl-A h  this help\r\n";

/** What the user asked of the terminal itself. */
export type TerminalCommand = "quit" | "help";

/** Takes the escape sequences out of a stream of keystrokes, across chunks. */
export class EscapeKeys {
  #escaped = false;

  /** What of `keys` the guest gets, and what was asked for in between; nothing follows `quit`. */
  feed(keys: Uint8Array): { bytes: Uint8Array; commands: TerminalCommand[] } {
    const bytes: number[] = [];
    const commands: TerminalCommand[] = [];
    for (const key of keys) {
      if (!this.#escaped) {
        this.#escaped = key === CTRL_A;
        if (!this.#escaped) bytes.push(key);
        continue;
      }
      this.#escaped = false;
      const command = this.#commandOf(key);
      if (command !== undefined) commands.push(command);
      if (command === "quit") break;
      if (key === CTRL_A || key === 0x61) bytes.push(CTRL_A);
    }
    return { bytes: Uint8Array.from(bytes), commands };
  }

  #commandOf(key: number): TerminalCommand | undefined {
    const letter = String.fromCharCode(key).toLowerCase();
    return letter === "x" ? "quit" : letter === "h" ? "help" : undefined;
  }
}

export interface TerminalTarget {
  /** Takes input for the guest; the next chunk of a pipe waits for the promise. */
  input(bytes: Uint8Array): void | Promise<void>;
  quit(): void;
}

/** stat(2) of /dev/null: major number 1, minor number 3 (admin-guide/devices.txt). */
const NULL_RDEV = 0x103;
const STDIN = 0;

/** Whether anything can come from stdin: for /dev/null Node would load 3 ms of streams. */
export function hasInput(): boolean {
  return fstatSync(STDIN).rdev !== NULL_RDEV;
}

/** stdin, connected to a guest's serial console until `close()`. */
export class Terminal {
  readonly #stdin: ReadStream;
  readonly #target: TerminalTarget;
  readonly #keys = new EscapeKeys();
  #sent: Promise<void> = Promise.resolve();
  #isOpen = true;
  readonly #onExit = () => this.#raw(false);
  readonly #onStop = () => {
    // A shell that takes the terminal over must find it as it was; SIGSTOP cannot be handled.
    this.#raw(false);
    process.kill(process.pid, "SIGSTOP");
  };
  readonly #onContinue = () => this.#raw(true);

  private constructor(stdin: ReadStream, target: TerminalTarget) {
    this.#stdin = stdin;
    this.#target = target;
  }

  /** Connects this process's stdin to `target`. */
  static open(target: TerminalTarget): Terminal {
    const terminal = new Terminal(process.stdin, target);
    if (process.stdin.isTTY) terminal.#openTty();
    else terminal.#openPipe();
    // It hung up, so there is nothing to put back: trying would be the next such error.
    process.stdin.on("error", () => terminal.#letGo());
    return terminal;
  }

  #openTty(): void {
    process.on("exit", this.#onExit);
    process.on("SIGTSTP", this.#onStop);
    process.on("SIGCONT", this.#onContinue);
    this.#raw(true);
    this.#stdin.on("data", (keys: Uint8Array) => this.#typed(keys));
  }

  #openPipe(): void {
    this.#stdin.on("data", (bytes: Uint8Array) => {
      const taken = this.#target.input(bytes);
      if (taken === undefined) return;
      this.#stdin.pause();
      taken.then(() => this.#stdin.resume());
    });
  }

  #typed(keys: Uint8Array): void {
    const { bytes, commands } = this.#keys.feed(keys);
    // One after the other: a guest slow to read must not get a later key before an earlier one.
    if (bytes.length > 0) this.#sent = this.#sent.then(() => this.#target.input(bytes));
    for (const command of commands) {
      if (command === "help") say(STDERR, `\r\n${HELP}`);
      else this.#target.quit();
    }
  }

  #raw(on: boolean): void {
    if (!this.#isOpen || !this.#stdin.isTTY || this.#stdin.destroyed) return;
    this.#stdin.setRawMode(on);
  }

  /** Puts the terminal back and lets go of stdin. */
  close(): void {
    this.#raw(false);
    this.#letGo();
  }

  #letGo(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    process.off("exit", this.#onExit);
    process.off("SIGTSTP", this.#onStop);
    process.off("SIGCONT", this.#onContinue);
    this.#stdin.removeAllListeners("data");
    this.#stdin.destroy();
  }
}

/**
 * Where a terminal hung up, has this process end by `leave`, with its own status. Node would put
 * back the modes that stdin, stdout and stderr had at its start, and abort where that fails:
 * node::ResetStdio() takes EIO for a bug.
 */
export function surviveHangUp(leave: (status: number) => never): void {
  const terminals = [0, 1, 2].filter((fd) => tty.isatty(fd));
  process.on("exit", (status) => {
    if (!terminals.every((fd) => tty.isatty(fd))) leave(status);
  });
}
