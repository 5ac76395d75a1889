// What V8 has compiled of the bundled programs when they were built is what it runs.

import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { PROGRAMS } from "../../build/programs.js";

const BUNDLE = fileURLToPath(new URL("../../bundle", import.meta.url));

const CHECK = `
  const { readFileSync } = require("node:fs");
  const { Script } = require("node:vm");
  const [, base] = process.argv;
  const cachedData = readFileSync(base + ".cache");
  const source = readFileSync(base + ".script", "latin1");
  console.log(new Script(source, { filename: base + ".script", cachedData }).cachedDataRejected);`;

/** Whether a node with these flags rejects what is compiled of a program. */
function rejected(program: string, flags: readonly string[]): string {
  const args = [...flags, "-e", CHECK, `${BUNDLE}/${program}`];
  const env = { PATH: process.env.PATH ?? "" }; // NODE_OPTIONS would be other flags
  return execFileSync(process.execPath, args, { encoding: "utf8", env }).trim();
}

for (const [program, flags] of Object.entries(PROGRAMS)) {
  test(`the code cache of ${program} is good for this node and its flags`, () => {
    assert.is(rejected(program, flags), "false");
  });
}

test("a code cache is of no use to a node with other flags", () => {
  assert.is(rejected("runtime/main", []), "true");
});

test.run();
