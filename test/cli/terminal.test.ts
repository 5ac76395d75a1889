import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { guestPath } from "../../build/guest.js";
import { EscapeKeys } from "../../host/cli/terminal.js";
import { BULKHEAD, ENTROPY_GUEST, whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";

function feed(...chunks: string[]) {
  const keys = new EscapeKeys();
  const results = chunks.map((chunk) => keys.feed(Buffer.from(chunk, "latin1")));
  return {
    text: results.map(({ bytes }) => Buffer.from(bytes).toString("latin1")).join(""),
    commands: results.flatMap(({ commands }) => commands),
  };
}

test("EscapeKeys.feed() passes everything else on, Ctrl-C included", () => {
  assert.equal(feed("ls\r\x03\x1a\xff"), { text: "ls\r\x03\x1a\xff", commands: [] });
});

test("EscapeKeys.feed() quits on Ctrl-A x and drops what follows", () => {
  assert.equal(feed("a\x01xb"), { text: "a", commands: ["quit"] });
});

test("EscapeKeys.feed() sends Ctrl-A on Ctrl-A a and on Ctrl-A Ctrl-A", () => {
  assert.equal(feed("\x01a-\x01\x01-"), { text: "\x01-\x01-", commands: [] });
});

test("EscapeKeys.feed() shows help on Ctrl-A h", () => {
  assert.equal(feed("\x01h"), { text: "", commands: ["help"] });
});

test("EscapeKeys.feed() ignores Ctrl-A before any other key, and the key", () => {
  assert.equal(feed("\x01q."), { text: ".", commands: [] });
});

test("EscapeKeys.feed() remembers Ctrl-A across chunks", () => {
  assert.equal(feed("a\x01", "x"), { text: "a", commands: ["quit"] });
});

const CONSOLE_GUEST = guestPath("console");
const HARNESS = fileURLToPath(new URL("./terminal-harness.js", import.meta.url));

/**
 * What a loaded machine takes at most. Longer is a hang: then the terminal hangs up, and what runs
 * on it ends, too.
 */
const PRINT_MS_MAX = 60_000;

/** Resolves when what `child` prints contains `text`; returns all of it. */
async function printed(child: ChildProcess, log: string[], text: string): Promise<void> {
  const end = setTimeout(() => child.kill("SIGKILL"), PRINT_MS_MAX);
  while (!log.join("").includes(text)) {
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`no "${text}" in:\n${log.join("")}`);
    await Promise.race([once(child.stdout!, "data"), once(child, "exit")]);
  }
  clearTimeout(end);
}

interface Step {
  /** What must have been printed before the keys are typed. */
  after: string;
  keys: string;
  /** What happens before them; gets all that was printed. */
  act?: (log: string) => Promise<void>;
}

/** Runs `command` on a pseudo-terminal of its own and types at it; returns all that it printed. */
async function onTerminal(command: string, steps: Step[]): Promise<string> {
  const child = spawn("script", ["-qfec", command, "/dev/null"], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, SHELL: "/bin/sh" },
  });
  const log: string[] = [];
  child.stdout.setEncoding("utf8").on("data", (text: string) => log.push(text));
  for (const { after, keys, act } of steps) {
    await printed(child, log, after);
    await act?.(log.join(""));
    child.stdin.write(keys);
  }
  if (child.exitCode === null) await once(child, "exit");
  return log.join("");
}

/** Why there is no pseudo-terminal here. */
function whyNoTerminal(): string | undefined {
  const works = spawnSync("script", ["-qfec", "true", "/dev/null"]).status === 0;
  return works ? undefined : "no pseudo-terminal can be had here: apt install bsdutils";
}

/** Leaves by Ctrl-A x, which the harness turns into `way`; then says how the terminal was left. */
async function leave(way: string): Promise<string> {
  const check = "stty -a | grep -q -- -icanon && echo left raw || echo left cooked";
  const command = `"${process.execPath}" "${HARNESS}" ${way}; echo status $?; ${check}`;
  return onTerminal(command, [
    { after: "open", keys: "a\x03" },
    { after: "input 6103", keys: "\x01x" },
  ]);
}

for (const [way, status] of [
  ["close", 0],
  ["exit", 7],
  ["throw", 1],
  ["signal", 143],
] as const) {
  test(`Terminal is raw while open and put back on the way out: ${way}`, async () => {
    const reason = whyNoTerminal();
    if (reason !== undefined) return skip(reason);
    const log = await leave(way);
    assert.match(log, "open raw");
    assert.match(log, `status ${status}\r\nleft cooked`);
  });
}

test("Terminal puts the terminal back while it is stopped, then is raw again", async () => {
  const reason = whyNoTerminal();
  if (reason !== undefined) return skip(reason);
  // "set -m" makes the harness a job, as an interactive shell does, which sees it stop.
  const check = "stty -a | grep -q -- -icanon && echo stopped raw || echo stopped cooked";
  const command = `set -m; "${process.execPath}" "${HARNESS}" stop; ${check}; fg`;
  const log = await onTerminal(command, [{ after: "open raw", keys: "\x01x" }]);
  assert.match(log, "stopped cooked");
  assert.match(log, "continued raw");
});

/** State of a process in /proc/PID/stat: T is stopped. */
function stateOf(pid: number): string | undefined {
  return /\) (.)/.exec(readFileSync(`/proc/${pid}/stat`, "latin1"))?.[1];
}

/** Stops the process that said its pid, and lets it go on. */
async function stopAndContinue(log: string): Promise<void> {
  const pid = Number(/pid (\d+)/.exec(log)?.[1]);
  process.kill(pid, "SIGTSTP");
  while (stateOf(pid) !== "T") await new Promise((resolve) => setTimeout(resolve, 5));
  process.kill(pid, "SIGWINCH");
  process.kill(pid, "SIGCONT");
}

test("a confined VMM on a terminal takes keys, stops, goes on and puts it back", async () => {
  const reason = whyNoTerminal() ?? whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const run = `"${process.execPath}" "${BULKHEAD}" run "${ENTROPY_GUEST}" --rng -p exit=hang`;
  const check = "stty -a | grep -q -- -icanon && echo left raw || echo left cooked";
  const command = `sh -c 'echo pid $$; exec ${run}'; echo status $?; ${check}`;
  const log = await onTerminal(command, [
    { after: "hangs", keys: "abc\x01h" },
    { after: "this help", keys: "\x01x", act: stopAndContinue },
  ]);
  assert.match(log, "the guest was stopped (Ctrl-A x)");
  assert.match(log, "status 0\r\nleft cooked");
});

/** Ends the process that said its pid by `signal`, and waits until it is gone. */
function killedBy(signal: NodeJS.Signals) {
  return async (log: string) => {
    const pid = Number(/pid (\d+)/.exec(log)?.[1]);
    process.kill(pid, signal);
  };
}

for (const [signal, status, words] of [
  ["SIGTERM", 143, "# the guest was stopped (SIGTERM)"],
  ["SIGHUP", 129, "# the guest was stopped (SIGHUP)"],
  ["SIGINT", 130, "# the guest was stopped (SIGINT)"],
  ["SIGKILL", 137, "# the VMM was killed, and the guest with it"],
  ["SIGSYS", 159, "# the VMM was killed, and the guest with it"],
  ["SIGSEGV", 139, "# the VMM was killed, and the guest with it"],
  ["SIGALRM", 142, "# the VMM was killed, and the guest with it"],
] as const) {
  test(`a terminal is put back, and why it ended is said, after ${signal}`, async () => {
    const reason = whyNoTerminal() ?? whyNoKvm();
    if (reason !== undefined) return skip(reason);
    const run = `"${process.execPath}" "${BULKHEAD}" run "${ENTROPY_GUEST}" --rng -p exit=hang`;
    // Whoever outlives the VMM puts the terminal back, some milliseconds later.
    const mode = "stty -a | grep -q -- -isig";
    const check = `while ${mode}; do sleep 0.01; done; stty -a; read -r line; echo typed $line`;
    const command = `sh -c 'echo pid $$; exec ${run}'; echo status $?; ${check}`;
    const log = await onTerminal(command, [
      { after: "hangs", keys: "", act: killedBy(signal) },
      { after: words, keys: "" },
      { after: "iexten", keys: "line\r" },
    ]);
    assert.match(log, `status ${status}`);
    for (const flag of ["icanon", "isig", "echo", "icrnl", "opost"]) {
      assert.match(log, new RegExp(`[ ;\n]${flag}\\b`), flag);
    }
    assert.match(log, "typed line");
  });
}

test("a console on the terminal takes keys, follows its size, and puts it back", async () => {
  const reason = whyNoTerminal() ?? whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const run = `"${process.execPath}" "${BULKHEAD}" run "${CONSOLE_GUEST}" --console virtio -p echo`;
  const check = "stty -a | grep -q -- -icanon && echo left raw || echo left cooked";
  const command = `stty rows 40 cols 100; tty; ${run}; echo status $?; ${check}`;
  const resize = async (log: string) => {
    const name = /\/dev\/pts\/\d+/.exec(log)?.[0] ?? "";
    spawnSync("stty", ["-F", name, "rows", "7", "cols", "31"]);
  };
  const log = await onTerminal(command, [
    { after: "size 40 100", keys: "", act: resize },
    { after: "size 7 31", keys: "ab\x03\x1a\x01a" },
    { after: "ab\x03\x1a\x01", keys: "\x01x" },
  ]);
  assert.match(log, /\n(.\[2m)?# the guest was stopped \(Ctrl-A x\)/);
  assert.match(log, "status 0\r\nleft cooked");
});

test("Terminal feeds what is not a terminal to the guest as it is", () => {
  const input = "a\x01x\x03";
  const result = spawnSync(process.execPath, [HARNESS, "close"], { input, encoding: "utf8" });
  assert.is(result.stderr, "open cooked\ninput 61017803\n");
  assert.is(result.status, 0);
});

test.run();
