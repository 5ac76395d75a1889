// A guest whose serial console is read and typed at by a program, as expect(1) does.

import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { emulatorSymptom } from "./tries.js";

const BULKHEAD = fileURLToPath(new URL("../../bundle/cli/main.js", import.meta.url));

/**
 * A guest that says nothing for so long hangs: four times what one takes to log in on a busy
 * machine. Its kernel would have complained of a task that waits for a disk after 120 s.
 */
const SILENT_MS = 400_000;

/** What a terminal is told beside text: colours, positions, modes. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence starts with one
const ESCAPES = /\u001b(?:\[[0-9;?]*[A-Za-z]|[=>])|\r/g;

/** A kernel that is alive says so when somebody waits for a disk (khungtaskd). */
const HUNG_TASK = /INFO: task .* blocked for more than/;

/** One run of bulkhead. */
export class GuestConsole {
  /** Exit status; 137 when it was killed. */
  readonly exit: Promise<number>;
  /** What guest and bulkhead have said. */
  text = "";
  readonly #start = performance.now();
  readonly #process: ChildProcessByStdio<Writable, Readable, Readable>;
  #seen = 0;
  #wake: () => void = () => {};
  #status: number | undefined;
  #silent = false;
  #timer: NodeJS.Timeout | undefined;

  /** @param args of `bulkhead run` */
  constructor(args: string[]) {
    this.#process = spawn(process.execPath, [BULKHEAD, "run", ...args], { stdio: "pipe" });
    this.#process.stdin.on("error", () => {}); // it has ended, which `exit` says
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream.setEncoding("latin1").on("data", (text: string) => this.#said(text));
    }
    this.exit = new Promise((resolve) => {
      this.#process.once("close", (status) => {
        clearTimeout(this.#timer);
        this.#status = status ?? 137;
        this.#wake();
        resolve(this.#status);
      });
    });
    this.#said("");
  }

  /** Since the start. */
  get seconds(): string {
    return ((performance.now() - this.#start) / 1000).toFixed(1);
  }

  /** The emulator's fault that ended the guest, if it was one; see tries.ts. */
  get symptom(): string | undefined {
    if (this.#silent) return HUNG_TASK.test(this.text) ? undefined : "the guest fell silent";
    const seconds = Number(this.seconds);
    return emulatorSymptom({ status: this.#status ?? 137, output: this.text, seconds });
  }

  type(line: string): void {
    this.#process.stdin.write(`${line}\n`);
  }

  /** Waits until the console says something like `pattern` after what was expected before. */
  async expect(pattern: RegExp): Promise<string[]> {
    for (;;) {
      const plain = this.text.replaceAll(ESCAPES, "");
      const found = pattern.exec(plain.slice(this.#seen));
      if (found !== null) {
        this.#seen += found.index + found[0].length;
        return [...found];
      }
      if (this.#status !== undefined) throw new Error(`the guest ended before it said ${pattern}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  kill(): void {
    this.#process.kill("SIGKILL");
  }

  #said(text: string): void {
    this.text += text;
    this.#wake();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#silent = true;
      this.kill();
    }, SILENT_MS);
  }
}
