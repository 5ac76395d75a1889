// The reference: complete, as text, and as a manual page that man(1) takes.

import { spawnSync } from "node:child_process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { KINDS, keyForm } from "../../host/cli/kinds.js";
import { asRoff, asText } from "../../host/cli/reference.js";
import { VERBS } from "../../host/cli/verbs.js";
import { EXIT } from "../../host/errors.js";
import { formsOf, GRANT_KIND_NAMES } from "../../host/machine/config.js";
import { BULKHEAD, bulkhead } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";

/** What there is to be said, in the words of the command line. */
function everyWord(): string[] {
  return [
    ...VERBS.flatMap(({ options }) => options.map(({ flags }) => flags)),
    ...VERBS.flatMap(({ examples }) => examples.map(({ line }) => `bulkhead ${line}`)),
    ...Object.values(KINDS).flatMap(({ keys }) =>
      Object.entries(keys).map(([name, key]) => keyForm(name, key)),
    ),
    ...GRANT_KIND_NAMES.flatMap(formsOf),
    ...Object.values(EXIT).map((status) => `\n    ${status}\n`),
  ];
}

/** Text whose lines may be broken elsewhere. */
function unbroken(text: string): string {
  return text.replace(/\s+/g, " ");
}

test("bulkhead man --text has every verb, option, key, grant and status", () => {
  const { status, stdout } = bulkhead(["man", "--text"]);
  assert.is(status, 0);
  const said = unbroken(stdout);
  const missing = everyWord().filter((word) => !said.includes(unbroken(word)));
  assert.equal(missing, []);
  for (const { name } of VERBS) assert.match(stdout, new RegExp(`^ {2}${name}$`, "m"));
});

test("bulkhead man VERB has that verb alone", () => {
  const { stdout } = bulkhead(["man", "build", "--text"]);
  assert.match(stdout, "--out <dir>");
  assert.not.match(stdout, "--kernel");
});

test("bulkhead man in a pipe is the source of a manual page", () => {
  const { stdout } = bulkhead(["man"]);
  assert.match(stdout, /^\.TH BULKHEAD 1 /);
  assert.is(stdout, bulkhead(["man", "--roff"]).stdout);
});

test("asRoff() leaves no request and no escape to what it is given", () => {
  const text = asRoff([{ type: "text", text: ".de\\n" }], "1");
  assert.is(text.split("\n")[2], "\\&.de\\en");
  const code = asRoff([{ type: "code", lines: ["'x", "--a-b"] }], "1").split("\n");
  assert.equal(code.slice(3, 5), ["\\&'x", "\\-\\-a\\-b"]);
});

test("asText() breaks lines after 80 columns, and no line to type", () => {
  const words = "word ".repeat(40).trim();
  const text = asText([
    { type: "text", text: words },
    { type: "code", lines: [words] },
  ]);
  const lines = text.split("\n");
  assert.ok(lines.some((line) => line.trim() === words));
  const broken = lines.filter((line) => line.trim() !== words);
  assert.ok(broken.length > 2 && broken.every((line) => line.length <= 80));
});

/** What `program` makes of the manual page; undefined where there is none. */
function formatted(program: string, args: string[]) {
  const input = bulkhead(["man", "--roff"]).stdout;
  const env = { ...process.env, MANWIDTH: "200", LC_ALL: "C.UTF-8", MANROFFOPT: "-ww" };
  const result = spawnSync(program, args, { input, encoding: "utf8", env });
  return result.error === undefined ? result : undefined;
}

test("the manual page is one that man(1) shows whole and without a warning", () => {
  const shown = formatted("man", ["--warnings=w", "-l", "-"]);
  // Debian's images for containers have one that only says that there are no manual pages.
  if (shown === undefined || shown.stdout.includes("has been minimized")) {
    return skip("man(1) is missing: apt install man-db");
  }
  assert.is(shown.status, 0);
  assert.is(shown.stderr, "");
  const said = unbroken(shown.stdout);
  const missing = everyWord().filter((word) => !said.includes(unbroken(word)));
  assert.equal(missing, []);
});

test("on a terminal without man(1) the reference is text", () => {
  const command = `PATH=/nowhere "${process.execPath}" "${BULKHEAD}" man build`;
  const { status, stdout } = spawnSync("script", ["-qfec", command, "/dev/null"], {
    env: { ...process.env, SHELL: "/bin/sh" },
    encoding: "utf8",
  });
  // Where script(1) is missing, or there is no pseudo-terminal.
  if (status !== 0) return skip("no pseudo-terminal can be had here: apt install bsdutils");
  assert.is(stdout.replaceAll("\r", ""), bulkhead(["man", "build", "--text"]).stdout);
});

test.run();
