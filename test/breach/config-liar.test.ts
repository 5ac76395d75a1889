// Devices that lie about their config space while a guest drives it: they are found out, named and
// killed; the guest, told to reset the device, reads what was there and goes on to its end.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { guestPath } from "../../build/guest.js";
import { jsonLines, whyNoKvm } from "../support/bulkhead.js";
import { writeSelector } from "../support/selector.js";
import { skip } from "../support/skip.js";
import { type Change, changedBulkhead } from "./support/rogue.js";

const TIMEOUT_MS = 60_000;

function inDispatch(from: string, to: string): Change {
  return { file: "runtime/dispatch.js", from, to };
}

const TAKEN = "this.#replies[GENERATION] = this.#configureCount;";

/** Lies that begin when the guest has written some times; before, the device is like any other. */
const LIES: readonly (readonly [what: string, change: Change, found: RegExp])[] = [
  [
    "has taken more writes than there were",
    inDispatch(TAKEN, `${TAKEN} if (this.#configureCount > 9) this.#replies[GENERATION] += 1;`),
    /^sent CONFIG after 11 CONFIGURE of 10$/,
  ],
  [
    "takes back that it has taken a write",
    inDispatch(TAKEN, `${TAKEN} if (this.#configureCount > 9) this.#replies[GENERATION] = 3;`),
    /^sent CONFIG after 3 CONFIGURE of 10$/,
  ],
  [
    "sends less than its config space",
    inDispatch(
      "this.payloadBytes = this.#configBytes;",
      "this.payloadBytes = this.#configBytes - (this.#configureCount > 9 ? 1 : 0);",
    ),
    /^sent CONFIG of 15 bytes for a config space of 16$/,
  ],
  [
    "floods the VMM with it",
    inDispatch(
      "return this.#configDue && this.#config();",
      "return (this.#configDue || this.#configureCount > 9) && this.#config();",
    ),
    /^sent CONFIG more than 64 times a second$/,
  ],
];

const directory = mkdtempSync(path.join(os.tmpdir(), "bulkhead-config-"));
const module = path.join(directory, "selector.wasm");
test.before(() => writeSelector(module));
test.after(() => rmSync(directory, { recursive: true }));

const reason = whyNoKvm();
if (reason !== undefined) skip(reason);
for (const [what, change, found] of reason === undefined ? LIES : []) {
  test(`a device that ${what} is killed, and the guest goes on`, () => {
    const words = ["run", guestPath("config"), "--device", module, "--json", "-p", "rounds=500"];
    const args = [changedBulkhead(change), ...words];
    const { status, stdout } = spawnSync(process.execPath, args, {
      encoding: "utf8",
      timeout: TIMEOUT_MS,
      killSignal: "SIGKILL",
    });
    const events = jsonLines(stdout);
    const bugs = events
      .filter(({ event, level }) => event === "log" && level === "warning")
      .map(({ text }) => String(text));
    assert.match(bugs[0]?.replace("device bug: ", "") ?? "", found);
    const exit = events.find(({ event }) => event === "device-exit");
    assert.match(String(exit?.reason).replace("was killed because it ", ""), found);
    const text = events.map((event) => (event.event === "serial" ? event.text : "")).join("");
    assert.match(text, /config0: 500 rounds in \d+ ns, 49\d stale/);
    assert.is(status, 0);
  });
}

test.run();
