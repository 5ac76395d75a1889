// A guest whose serial console is read and typed at by a program, as expect(1) does.

import { type ChildProcess, spawn } from "node:child_process";
import fs from "node:fs";
import type { ReadStream } from "node:tty";
import { fileURLToPath } from "node:url";
import { Pty, type TerminalSize } from "../../host/machine/pty.js";
import { emulatorSymptom } from "./tries.js";
import { threadsInKvm } from "./vcpu-threads.js";

const BULKHEAD = fileURLToPath(new URL("../../bundle/cli/main.js", import.meta.url));

/**
 * A guest that says nothing for so long hangs. A Debian is silent from its kernel to its first
 * program, 51 s beside three other programs for each processor. Its kernel complains of a task that
 * waits for a disk before that, when it is told to (HUNG_TASK_SECONDS).
 */
const SILENT_MS = 180_000;
/** For sysctl.kernel.hung_task_timeout_secs; a complaint comes within twice that. */
export const HUNG_TASK_SECONDS = 40;
/** A guest that is alive writes to its other console every few seconds. */
const SIGN_MS_MAX = 60_000;

/** What a terminal is told beside text: colours, positions, modes. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence starts with one
const ESCAPES = /\u001b(?:\[[0-9;?]*[A-Za-z]|[=>])/g;
/** Back to the start of a line, for what is written over it, as a shell does at a new size. */
const RETURNS = /\r(?=[^\r\n])/g;

/** A kernel that is alive says so when somebody waits for a disk (khungtaskd). */
const HUNG_TASK = /INFO: task .* blocked for more than/;
/**
 * Another of its processors does nothing at all (RCU's stall warning): so said a second time, after
 * 84 s, it is not because the machine is busy.
 */
const STALL = /rcu: INFO: \w+ detected stalls/g;
const STALLS_MAX = 2;
/**
 * How often its threads are looked at, 0.6 s each: one that writes that very complaint is out of
 * KVM for each byte, and one that waits for bulkhead never is in it.
 */
const STALL_LOOKS = 20;
/** It has come up and does not sign yet: then it is the console read here that lacks something. */
const BOOTED = /login: (?!.*alive)/s;

/** One run of bulkhead. */
export class GuestConsole {
  /** Exit status; 137 when it was killed. */
  readonly exit: Promise<number>;
  /** What guest and bulkhead have said. */
  text = "";
  readonly #start = performance.now();
  readonly #signs: string | undefined;
  readonly #process: ChildProcess;
  #type: (keys: string) => void = () => {};
  #pty: Pty | undefined;
  #reader: ReadStream | undefined;
  #seen = 0;
  #wake: () => void = () => {};
  #status: number | undefined;
  #isSilent = false;
  /** Its kernel lives, when it is silent: then a device or a wake-up of ours hangs. */
  #isAlive = false;
  #timer: NodeJS.Timeout | undefined;
  readonly #cpus: number;
  #isStalled = false;
  /** Of a processor that does nothing: whether bulkhead is what it waits for. */
  #waitsForUs = true;

  /**
   * @param args of `bulkhead run`
   * @param terminal size of a terminal that it runs on; without one there are pipes
   * @param signs file that grows as long as the guest's kernel lives, whatever becomes of the
   *   console that is read here
   */
  constructor(args: string[], terminal?: TerminalSize, signs?: string) {
    this.#signs = signs;
    this.#cpus = args.includes("-c") ? Number(args[args.indexOf("-c") + 1]) : 1;
    const command = [BULKHEAD, "run", ...args];
    if (terminal === undefined) this.#process = this.#onPipes(command);
    else this.#process = this.#onTerminal(command, terminal);
    this.exit = new Promise((resolve) => {
      this.#process.once("close", (status) => {
        clearTimeout(this.#timer);
        this.#leaveTerminal();
        this.#status = status ?? 137;
        this.#wake();
        resolve(this.#status);
      });
    });
    this.#said("");
  }

  #onPipes(command: string[]): ChildProcess {
    const child = spawn(process.execPath, command, { stdio: "pipe" });
    child.stdin.on("error", () => {}); // it has ended, which `exit` says
    this.#type = (keys) => child.stdin.write(keys);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("latin1").on("data", (text: string) => this.#said(text));
    }
    return child;
  }

  #onTerminal(command: string[], size: TerminalSize): ChildProcess {
    const pty = Pty.open();
    this.#pty = pty;
    pty.resize(size);
    const slave = fs.openSync(pty.path, fs.constants.O_RDWR | fs.constants.O_NOCTTY);
    const child = spawn(process.execPath, command, { stdio: [slave, slave, slave] });
    fs.closeSync(slave);
    this.#reader = pty.reader().on("data", (bytes) => this.#said(bytes.toString("latin1")));
    this.#type = (keys) => pty.write(Buffer.from(keys));
    return child;
  }

  /** What was said last, and then nothing more. */
  #leaveTerminal(): void {
    this.#reader?.destroy();
    this.#pty?.drain((bytes) => this.#said(Buffer.from(bytes).toString("latin1")));
    this.#pty?.close();
    this.#pty = undefined;
  }

  /** Its terminal has another size, and it is told as the kernel tells it. */
  resize(size: TerminalSize): void {
    this.#pty?.resize(size);
    this.#process.kill("SIGWINCH");
  }

  /** Since the start. */
  get seconds(): string {
    return ((performance.now() - this.#start) / 1000).toFixed(1);
  }

  /** The emulator's fault that ended the guest, if it was one; see tries.ts. */
  get symptom(): string | undefined {
    return this.symptomIn(this.text);
  }

  /** The same where a part of what was said, all but `output`, is not held against a device. */
  symptomIn(output: string): string | undefined {
    if (this.#isSilent) return this.#isAlive ? undefined : "the guest fell silent";
    if (this.#isStalled) return this.#waitsForUs ? undefined : "a virtual CPU hangs in KVM";
    const seconds = Number(this.seconds);
    return emulatorSymptom({ status: this.#status ?? 137, output, seconds });
  }

  /** The text without what only a terminal understands; what is written over has its own line. */
  get plain(): string {
    return this.text.replaceAll(ESCAPES, "").replaceAll(RETURNS, "\n").replaceAll("\r", "");
  }

  type(line: string): void {
    this.#type(`${line}\n`);
  }

  /** Waits until the console says something like `pattern` after what was expected before. */
  async expect(pattern: RegExp): Promise<string[]> {
    for (;;) {
      const found = pattern.exec(this.plain.slice(this.#seen));
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
    if (text !== "") void this.#lookForStalls();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#silent(), SILENT_MS);
  }

  get #signed(): string {
    return this.#signs === undefined ? "" : fs.readFileSync(this.#signs, "latin1");
  }

  /** Ends a guest of which a processor does nothing; returns whether it is one. */
  async #lookForStalls(): Promise<boolean> {
    const stalls = `${this.text}${this.#signed}`.match(STALL)?.length ?? 0;
    if (this.#isStalled || stalls < STALLS_MAX) return this.#isStalled;
    this.#isStalled = true;
    for (let look = 0; look < STALL_LOOKS && this.#waitsForUs; look++) {
      this.#waitsForUs = (await threadsInKvm(this.#process.pid!)) < this.#cpus;
    }
    this.kill();
    return true;
  }

  /** Nothing was said for so long; a guest that comes up may have said it on its other console. */
  async #silent(): Promise<void> {
    if (await this.#lookForStalls()) return;
    const signs = this.#signed;
    const hasSigned = this.#signs !== undefined && isRecent(this.#signs);
    if (hasSigned && !signs.includes("login: ")) {
      this.#said("");
      return;
    }
    this.#isAlive = HUNG_TASK.test(this.text) || hasSigned || BOOTED.test(signs);
    this.#isSilent = true;
    this.kill();
  }
}

/** Whether somebody wrote to a file just now. */
function isRecent(file: string): boolean {
  return Date.now() - fs.statSync(file).mtimeMs < SIGN_MS_MAX;
}
