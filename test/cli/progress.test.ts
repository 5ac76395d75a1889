// Progress is shown on a terminal, and nothing of it in a pipe.

import { spawnSync } from "node:child_process";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { deviceSource, folderOf } from "../author/support.js";
import { BULKHEAD, bulkhead, ENTROPY_GUEST, whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";

/** Against a hang. */
const TIMEOUT_MS = 120_000;

/** What `bulkhead` writes to a terminal; undefined where there is none. */
function onTerminal(args: string[], cwd: string): string | undefined {
  const command = [process.execPath, BULKHEAD, ...args].map((word) => `"${word}"`).join(" ");
  const { status, stdout } = spawnSync("script", ["-qfec", command, "/dev/null"], {
    cwd,
    env: { ...process.env, SHELL: "/bin/sh", TERM: "xterm" },
    encoding: "utf8",
    timeout: TIMEOUT_MS,
  });
  return status === 0 ? stdout : undefined;
}

/** `text` as a terminal shows it in the end: what was erased is gone. */
function seen(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal is told
  return text.replaceAll(/[^\n]*\r\u001b\[K/g, "").replaceAll(/\u001b\[\d*m/g, "");
}

const SOURCE = deviceSource("");

test("bulkhead build says which file it is at, and takes that away again", () => {
  const cwd = folderOf({ "one.ts": SOURCE, "two.ts": SOURCE });
  const text = onTerminal(["build", "one.ts", "two.ts"], cwd);
  if (text === undefined) return skip("no pseudo-terminal can be had here: apt install bsdutils");
  assert.match(text, "building one.ts (1 of 2)");
  assert.match(text, "building two.ts (2 of 2)");
  const plain = bulkhead(["build", "one.ts", "two.ts"], { cwd });
  assert.is(plain.stderr, "");
  assert.is(seen(text).replaceAll("\r", ""), plain.stdout);
});

test("a machine that starts leaves no progress in front of the guest's first word", () => {
  const reason = whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const text = onTerminal(["run", ENTROPY_GUEST, "--rng"], path.dirname(ENTROPY_GUEST));
  if (text === undefined) return skip("no pseudo-terminal can be had here: apt install bsdutils");
  const lines = seen(text).split(/\r?\n/);
  assert.match(lines[0]!, /^# rng0: /);
  assert.match(lines[1]!, /^entropy guest, entered by /);
});

test("a machine that starts shows no progress in a pipe", () => {
  const reason = whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const { stderr } = bulkhead(["run", ENTROPY_GUEST, "--rng"]);
  assert.not.match(stderr, "starting");
});

test.run();
