// An owned process ends with its VMM, whatever it does instead of listening.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { skip } from "../../support/skip.js";
import { type AttackerOptions, missingNamespaces } from "../support/attacker.js";

const VMM = fileURLToPath(new URL("../support/lone-vmm.js", import.meta.url));
const POLL_MS = 5;
/** Against hangs only: SIGKILL takes effect at once. */
const POLLS_MAX = 2000;

async function isGone(pid: number): Promise<boolean> {
  for (let i = 0; i < POLLS_MAX && existsSync(`/proc/${pid}`); i++) await sleep(POLL_MS);
  return !existsSync(`/proc/${pid}`);
}

/** Kills a VMM whose only device does `deed`, and waits for the end of that one, too. */
async function testEnd(deed: string, options: AttackerOptions = {}): Promise<void> {
  const args = [VMM, deed, JSON.stringify(options)];
  const vmm = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const [text] = (await once(vmm.stdout, "data")) as [Buffer];
  const pid = Number(text.toString());
  assert.ok(existsSync(`/proc/${pid}`), "the device was not there");
  vmm.kill("SIGKILL");
  await once(vmm, "exit");
  const gone = await isGone(pid);
  if (!gone) process.kill(pid, "SIGKILL");
  assert.ok(gone, `process ${pid} lived on`);
}

const missing = await missingNamespaces();
if (missing !== undefined) {
  skip(missing);
} else {
  for (const deed of ["spin", "sleep"]) {
    test(`a device that does nothing but ${deed} ends when its VMM is killed`, () => testEnd(deed));
  }
  test("so does one that has not come to its lock-down", () =>
    testEnd("spin", { confine: "not at all" }));
  test("the lock-down asks for the end once more", () => testEnd("spin", { unsignalled: true }));
  test("a device whose VMM died before it could ask for that does not get past its lock-down", () =>
    testEnd("spin", { confine: "too late", unsignalled: true }));
}

test.run();
