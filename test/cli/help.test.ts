// --help of every verb, and what a mistyped word is told.

import { spawnSync } from "node:child_process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { HELP_COLUMNS, HELP_LINES } from "../../host/cli/help.js";
import { namesOf, offered } from "../../host/cli/verb.js";
import { VERBS } from "../../host/cli/verbs.js";
import { EXIT } from "../../host/errors.js";
import { BULKHEAD, bulkhead } from "../support/bulkhead.js";

/** Lines of a help text, which must fit into a screen. */
function screen(text: string): string[] {
  const lines = text.replace(/\n$/, "").split("\n");
  assert.ok(lines.length <= HELP_LINES, `${lines.length} lines`);
  for (const line of lines) assert.ok(line.length <= HELP_COLUMNS, line);
  return lines;
}

test("a screen has 24 lines of 80 columns", () => {
  assert.equal([HELP_LINES, HELP_COLUMNS], [24, 80]);
});

test("bulkhead --help lists all verbs on a screen, with an example", () => {
  const { status, stdout } = bulkhead(["--help"]);
  assert.is(status, 0);
  const lines = screen(stdout);
  for (const { name } of VERBS) assert.ok(lines.some((line) => line.startsWith(`  ${name} `)));
  assert.ok(lines.some((line) => line.startsWith("Example: bulkhead run ")));
});

for (const verb of VERBS) {
  const { name } = verb;
  test(`bulkhead ${name} --help fits a screen and shows an example`, () => {
    for (const args of [
      [name, "--help"],
      [name, "-h"],
      ["help", name],
    ]) {
      const { status, stdout, stderr } = bulkhead(args);
      assert.is(status, 0);
      assert.is(stderr, "");
      const lines = screen(stdout);
      assert.match(lines[0]!, `Usage: bulkhead ${name} [options]`);
      assert.ok(lines.some((line) => `${line} `.startsWith(`Example: bulkhead ${name} `)));
      assert.ok(lines.includes(`More: bulkhead man ${name}`));
      const shown = offered(verb).filter(({ rare }) => rare !== true);
      for (const option of shown.flatMap(namesOf)) {
        assert.ok(
          lines.some((line) => line.slice(0, 40).includes(option)),
          option,
        );
      }
    }
  });

  test(`the examples of bulkhead ${name} are command lines that it takes`, () => {
    for (const { line } of verb.examples) {
      const [, first = ""] = /^(.*?)(?: (?:&&|>|\|) .*)?$/.exec(line) ?? [];
      // With a wrong option it stops before it does anything, and names that one alone.
      const command = `exec "${process.execPath}" "${BULKHEAD}" ${first} --no-such-option`;
      const shell = `set -f; ${command}`;
      const { stderr } = spawnSync("sh", ["-c", shell], { encoding: "utf8" });
      assert.match(stderr, "unknown option '--no-such-option'");
    }
  });
}

test("bulkhead without a verb shows the same help as a mistake", () => {
  const { status, stdout, stderr } = bulkhead([]);
  assert.is(status, EXIT.usage);
  assert.is(stdout, "");
  assert.is(stderr, bulkhead(["--help"]).stdout);
});

test("bulkhead --version prints the version of the package", () => {
  const { status, stdout } = bulkhead(["--version"]);
  assert.is(status, 0);
  assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
});

test("bulkhead run --help speaks lkvm's words, and offers nothing that is not there", () => {
  const { stdout } = bulkhead(["run", "--help"]);
  for (const word of ["-k, --kernel", "-i, --initrd", "-p, --params", "-m, --mem", "-c, --cpus"]) {
    assert.match(stdout, word);
  }
  for (const word of ["--network", "--balloon", "--vsock", "--9p"]) assert.not.match(stdout, word);
});

for (const [args, name] of [
  [["--network"], "--network"],
  [["-n", "tap"], "--network"],
  [["--balloon"], "--balloon"],
  [["--vsock", "3"], "--vsock"],
  [["--9p", "/srv,tag"], "--9p"],
] as const) {
  test(`bulkhead run ${args.join(" ")} says that there is no such device yet`, () => {
    const { status, stderr, stdout } = bulkhead(["run", "vmlinux", ...args]);
    assert.is(status, EXIT.usage);
    assert.is(stdout, "");
    const refusal = /^Error: Cannot take (--\w+): Bulkhead has no [\w ]+ of its own yet\n(.*)\n$/;
    const [, option, advice] = refusal.exec(stderr) ?? [];
    assert.is(option, name);
    assert.is(advice, "  --device ./mine.wasm takes one of yours, see: bulkhead new --help");
  });
}

for (const [args, advice] of [
  [["run", "k", "--devcie", "rng"], "did you mean --device?"],
  [["run", "k", "--isolaton", "inline"], "did you mean --isolation?"],
  [["rnu"], "did you mean run?"],
  [["completon", "bash"], "did you mean completion?"],
  [["run", "k", "--device", "rgn"], 'did you mean "rng"?'],
  [["inspect", "bkl"], 'did you mean "blk"?'],
  [["run", "k", "--device", "blk,imag=x"], 'did you mean "image"?'],
  [["run", "k", "--rng", "--grant", "rng0.source=flie:x"], 'did you mean "file"?'],
  [["run", "k", "--rng", "--grant", "rgn0.source=file:x"], 'did you mean "rng0"?'],
  [["run", "k", "--isolation", "inlnie"], 'did you mean "inline"?'],
  [["run", "k", "--seccomp", "enfroce"], 'did you mean "enforce"?'],
  [["completion", "bsah"], 'did you mean "bash"?'],
  [["man", "isnpect"], 'did you mean "inspect"?'],
  [["help", "polciy"], 'did you mean "policy"?'],
] as const) {
  test(`bulkhead ${args.join(" ")} is told: ${advice}`, () => {
    const { status, stderr } = bulkhead([...args]);
    assert.is(status, EXIT.usage);
    assert.match(stderr, advice);
  });
}

test.run();
