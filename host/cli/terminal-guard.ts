// Puts the user's terminal back when the VMM cannot: killed by SIGKILL, or by its own filter, it
// leaves a terminal in which nothing that is typed is shown. A shell outlives it, in a session of
// its own, which waits for the end of a pipe and does nothing else.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

/**
 * 0 is the pipe, 3 the terminal. Only a terminal that still hands Ctrl-C on as a key is put back: a
 * shell may have it again by then, with modes of its own.
 */
const SCRIPT = `
saved=$(stty -g <&3) || exit
echo ready
read -r taken || exit
read -r given_back && exit
case $(stty -a <&3) in *-isig*) stty "$saved" <&3 ;; esac
echo '# the VMM was killed, and the guest with it' >&2
`;

const ENVIRONMENT = { PATH: "/usr/local/bin:/usr/bin:/bin", LC_ALL: "C" };

/** Resolves when the shell has read the modes, or has ended, or could not be started. */
async function firstOf(shell: ChildProcess): Promise<void> {
  const failed = once(shell, "error");
  await Promise.race([once(shell.stdout!, "data"), once(shell.stdout!, "close"), failed]);
}

/** A shell that watches over stdin's terminal until `close()`. */
export class TerminalGuard {
  readonly #shell: ChildProcess;
  readonly #onExit = () => this.close();
  /** Resolves when the modes of the terminal are known, or cannot be. */
  readonly ready: Promise<void>;

  private constructor(shell: ChildProcess) {
    this.#shell = shell;
    shell.stdin?.on("error", () => {});
    this.ready = firstOf(shell).then(() => this.#letGo());
  }

  /** Starts it: before anything changes the terminal, and before a VMM may start no process. */
  static start(): TerminalGuard {
    const shell = spawn("/bin/sh", ["-c", SCRIPT], {
      stdio: ["pipe", "pipe", 2, 0],
      env: ENVIRONMENT,
      cwd: "/",
      detached: true,
    });
    return new TerminalGuard(shell);
  }

  #letGo(): void {
    this.#shell.stdout?.destroy();
    this.#shell.unref();
  }

  /** The terminal is taken from now on. */
  watch(): void {
    process.on("exit", this.#onExit);
    this.#shell.stdin?.write("taken\n");
  }

  /** The terminal was given back as it was: nothing is left to do. */
  close(): void {
    process.off("exit", this.#onExit);
    this.#shell.stdin?.end("given back\n");
  }
}
