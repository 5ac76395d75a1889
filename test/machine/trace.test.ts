// A device that breaks tells its author where: in the log of a VM, from a confined process as from
// inside the VMM, which by then can open nothing.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { EXIT } from "../../host/errors.js";
import { BULKHEAD, bulkhead, ENTROPY_GUEST, jsonLines, whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";
import { readSource } from "../support/sources.js";

const DEVICES = path.join(path.dirname(BULKHEAD), "../../devices");

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-trace-"));
test.after(() => fs.rmSync(directory, { recursive: true }));

/** An entropy source that is dry at once: rng.ts asserts that it is not. */
const EMPTY = path.join(directory, "empty");
fs.writeFileSync(EMPTY, "");

/** Line of the assertion in rng.ts. */
const LINE =
  readSource("devices-as/rng.ts")
    .split("\n")
    .findIndex((l) => l.includes("assert(")) + 1;

/** Runs a guest that reads from `module`, and returns what the log says of its first end. */
function lastWordsOf(module: string, isolation: string): string {
  const device = ["--device", module, "--grant", `rng0.source=file:${EMPTY}`];
  const options = ["--isolation", isolation, "--on-device-failure", "stop", "--json"];
  const { status, stdout } = bulkhead(["run", ENTROPY_GUEST, ...device, ...options]);
  assert.is(status, EXIT.deviceFailed);
  const lines = jsonLines(stdout).filter(({ event }) => event === "log");
  return String(lines.map(({ text }) => text).find((text) => /serve: /.test(String(text))));
}

const noKvm = whyNoKvm();

function guestTest(name: string, run: () => void): void {
  test(name, () => (noKvm === undefined ? run() : skip(noKvm)));
}

for (const isolation of ["process", "inline"]) {
  guestTest(`a debug build that traps names its source (${isolation})`, () => {
    const [reason, first, ...others] = lastWordsOf(
      path.join(DEVICES, "rng.debug.wasm"),
      isolation,
    ).split("\n    at ");
    assert.is(reason, "rng0: device says: serve: unreachable");
    assert.match(first ?? "", new RegExp(`^devices-as/rng\\.ts:${LINE}:\\d+ \\(rng/Rng#serve\\)$`));
    assert.match(others.at(-1) ?? "", /^~lib\/bulkhead\/sdk\/entry\.ts:\d+:\d+ \(.*serve\)$/);
  });
}

test("a map that cannot be used is an error at the start", () => {
  const module = path.join(directory, "bad.debug.wasm");
  fs.copyFileSync(path.join(DEVICES, "rng.debug.wasm"), module);
  fs.writeFileSync(`${module}.map`, "{}");
  const device = ["--device", module, "--grant", `bad0.source=file:${EMPTY}`];
  const { status, stderr } = bulkhead(["run", ENTROPY_GUEST, ...device]);
  assert.is(status, EXIT.usage);
  assert.match(stderr, /^Error: Cannot use the source map .*: no source map\n {2}build the device/);
});

test.run();
