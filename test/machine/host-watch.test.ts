import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { HostWatch, withoutHostSigns } from "./host-watch.js";

const SIGN = "[   12.345678] host: alive\r\n";
const LOCKUP = "[   81.0] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [node:185]\r\n";
/** What a host may be silent for, here. */
const SILENT_MS = 1600;

/** Lets a host write `text` sixteen times in that, for longer than that: was it killed? */
async function killed(first: string, text: string): Promise<boolean> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-watch-"));
  const file = path.join(directory, "console");
  fs.writeFileSync(file, first);
  let isKilled = false;
  const end = performance.now() + 600_000;
  const watch = new HostWatch(file, end, () => (isKilled = true), SILENT_MS);
  for (let write = 0; write < 40; write++) {
    await sleep(SILENT_MS / 16);
    fs.appendFileSync(file, text);
  }
  watch.close();
  fs.rmSync(directory, { recursive: true });
  return isKilled;
}

test("a host that gives signs of life goes on", async () => {
  assert.is(await killed("", SIGN), false);
});

test("a host that only complains of processors that hang is ended", async () => {
  assert.is(await killed(SIGN, LOCKUP), true);
});

test("a host that boots has given no sign yet", async () => {
  assert.is(await killed("", "[    0.1] Booting\r\n"), false);
});

test("the deadline of the test file ends a host, however long its job may take", async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-watch-"));
  await new Promise<void>((resolve) => {
    const watch = new HostWatch(path.join(directory, "console"), performance.now() + 100, () => {
      watch.close();
      resolve();
    });
    watch.progress(900_000);
  });
  fs.rmSync(directory, { recursive: true });
});

test("what a host said last is told without its signs", () => {
  assert.is(withoutHostSigns(`${SIGN}${LOCKUP}${SIGN}`), LOCKUP);
});

test.run();
