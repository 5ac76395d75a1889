// What Bulkhead says: text and JSON lines on descriptors 1 and 2, written at once. process.stdout
// is not used: opening it would make a pipe non-blocking under the serial console, which writes to
// the same descriptor from another thread.

import fs from "node:fs";
import os from "node:os";
import tty from "node:tty";
import { styleText } from "node:util";
import { errnoName, VmmError, writeFailure } from "../errors.js";

export const STDOUT = 1;
export const STDERR = 2;

type Style = Parameters<typeof styleText>[0];

/** Somebody else may have made the descriptor non-blocking: pause between two tries to write. */
const RETRY_MS = 1;
const pause = new Int32Array(new SharedArrayBuffer(4));

/** A line of progress is on the terminal, and the next that is said takes its place. */
let isProgressShown = false;
/** Columns of the narrowest terminal, less the one that a cursor needs. */
const PROGRESS_COLUMNS_MAX = 79;
/** Back to the first column; erase the line (ECMA-48: EL). */
const ERASE_LINE = "\r\x1b[K";

/** Shows what takes a while, on a terminal alone, until something else is said. */
export function showProgress(text: string): void {
  if (!tty.isatty(STDERR) || process.env.TERM === "dumb") return;
  const line = printable(text).slice(0, PROGRESS_COLUMNS_MAX);
  clearProgress();
  say(STDERR, paint(STDERR, "dim", line));
  isProgressShown = true;
}

/** Takes the line of progress away, before somebody else writes to the terminal. */
export function clearProgress(): void {
  if (!isProgressShown) return;
  isProgressShown = false;
  say(STDERR, ERASE_LINE);
}

/** Whether somebody else's output on this terminal is in the middle of a line. */
let breaksLine = () => false;

/**
 * From now on a remark begins a line of its own, where stdout and stderr are a terminal.
 *
 * @param breaks whether what others wrote is in the middle of a line, which is ended now
 */
export function shareTerminal(breaks: () => boolean): void {
  if (tty.isatty(STDOUT) && tty.isatty(STDERR)) breaksLine = breaks;
}

/** Says a line about the VM on stderr: `# text`. */
export function remark(text: string, style: Style = "dim"): void {
  const line = `# ${printable(text).replaceAll("\n", "\n  ")}`;
  say(STDERR, `${breaksLine() ? "\n" : ""}${paint(STDERR, style, line)}\n`);
}

/** Descriptors that could not be written, each with the first errno. */
const failures = new Map<number, number>();
/** What goes on when stdout fails, while that is to be told at once. */
let going: string | undefined;

/** From now on a failure to write to stdout is told on stderr at once, and that `who` goes on. */
export function tellFailures(who: string): void {
  going = who;
}

/**
 * Throws ERR_FILE where stdout could not be written and nobody was told; whoever only wanted the
 * first lines (`| head`) need not be.
 */
export function checkOutput(): void {
  const errno = failures.get(STDOUT);
  if (errno === undefined || errno === os.constants.errno.EPIPE || going !== undefined) return;
  const message = `Cannot write to stdout: ${writeFailure(errno)}`;
  throw new VmmError("ERR_FILE", message, { errno, syscall: "write" });
}

/** What cannot be written is lost: a guest must not end because of a full disk under a log. */
function fail(fd: number, error: NodeJS.ErrnoException): void {
  const isFirst = !failures.has(fd);
  const errno = -(error.errno ?? 0);
  if (isFirst) failures.set(fd, errno);
  if (!isFirst || fd !== STDOUT || going === undefined) return;
  remark(`cannot write to stdout: ${writeFailure(errno)}; ${going} goes on`, "yellow");
}

/**
 * Writes all of `text`, or of bytes as they are, as far as it can be written.
 *
 * @returns how many bytes were written
 */
export function say(fd: number, text: string | Uint8Array): number {
  clearProgress();
  const bytes = Buffer.from(text);
  let done = 0;
  while (done < bytes.length) {
    try {
      done += fs.writeSync(fd, bytes, done);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") {
        fail(fd, error as NodeJS.ErrnoException);
        break;
      }
      Atomics.wait(pause, 0, 0, RETRY_MS);
    }
  }
  return done;
}

/** The last line of JSON is there in part: the disk became full in the middle of it. */
let isTorn = false;

/** Writes one JSON object and a newline to stdout. */
export function sayJson(value: object): void {
  const line = Buffer.from(`${isTorn ? "\n" : ""}${JSON.stringify(value)}\n`);
  const count = say(STDOUT, line);
  if (count > 0) isTorn = count < line.length;
}

function hasColors(fd: number): boolean {
  const { NO_COLOR, TERM } = process.env;
  return tty.isatty(fd) && (NO_COLOR ?? "") === "" && TERM !== "dumb";
}

/** Terminals that show colours; found out at once, for when a guest runs the VMM may not ask. */
const COLORFUL = new Set([STDOUT, STDERR].filter(hasColors));

/** `text` in colour where `fd` is a terminal that shows colours. */
export function paint(fd: number, style: Style, text: string): string {
  return COLORFUL.has(fd) ? styleText(style, text, { validateStream: false }) : text;
}

/**
 * `text` without what could drive a terminal: a module, a guest or a device wrote parts of it, and
 * an escape sequence in a log line can retitle, repaint or answer for the user's terminal.
 */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  return text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/g, (character) => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
}

/** Milliseconds since the Unix epoch, with a fraction. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}

/** What to do about an error whose message does not say it, by code; `CODE ERRNO` comes first. */
const WHAT_TO_DO: Readonly<Record<string, string>> = {
  "ERR_KVM_UNAVAILABLE ENOENT":
    "load it (modprobe kvm-intel or kvm-amd) and enable virtualization in the firmware;\n" +
    "a container needs --device /dev/kvm, a virtual machine a host with nested virtualization",
  "ERR_KVM_UNAVAILABLE EACCES":
    "sudo usermod -aG kvm $USER, then log in again; a container needs --group-add as well",
  ERR_KVM_UNAVAILABLE: "a guest needs /dev/kvm: a processor with virtualization, and Linux's KVM",
  ERR_KVM_CAPABILITY: "a newer host kernel has what is missing",
  ERR_KERNEL_IMAGE: "a kernel is an ELF64 vmlinux or a bzImage, such as /boot/vmlinuz-*",
  ERR_MEMORY_LAYOUT: "give the guest more memory, as in: -m 1G",
  ERR_GRANT: "what a device asks for and under which name: bulkhead inspect KIND|FILE.wasm",
  ERR_MODULE: "what is in a module: bulkhead inspect FILE.wasm",
  ERR_DEVICE_FAILED:
    "its code ended itself: the lines above may say why, and a debug build says where;\n" +
    "does it have the options that it needs? bulkhead inspect FILE.wasm",
  ERR_SANDBOX:
    "Bulkhead starts no device with less confinement than was asked for;\n" +
    "where a kernel lacks a piece, --allow-weak-sandbox starts without it, and says so",
};

function whatToDo({ code, errno }: VmmError): string | undefined {
  const name = errno === undefined ? "" : errnoName(errno);
  return WHAT_TO_DO[`${code} ${name}`] ?? WHAT_TO_DO[code];
}

/** Prints an error as "Error: action: value, cause" and below it what to do; returns the status. */
export function sayError(error: unknown, json: boolean): number {
  if (!(error instanceof VmmError)) return sayBug(error, json);
  const [problem = "", ...advice] = printable(error.message).split("\n");
  if (advice.length === 0) advice.push(...(whatToDo(error)?.split("\n") ?? []));
  const head = paint(STDERR, "red", "Error:");
  say(STDERR, `${[`${head} ${problem}`, ...advice.map((line) => `  ${line}`)].join("\n")}\n`);
  const { code, message, exitStatus } = error;
  if (json) sayJson({ event: "error", time: now(), code, message, exitStatus });
  return exitStatus;
}

/** Prints what only a mistake of ours can have thrown. */
function sayBug(error: unknown, json: boolean): number {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const bug = new VmmError("ERR_INTERNAL", "Internal error, this is a bug in Bulkhead");
  const status = sayError(bug, json);
  say(STDERR, `${printable(text)}\n`);
  return status;
}
