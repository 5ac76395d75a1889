import { test } from "uvu";
import * as assert from "uvu/assert";
import { EscapeKeys } from "../../host/cli/terminal.js";

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

test.run();
