// An owned process ends with its VMM, whatever it does instead of listening.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { skip } from "../../support/skip.js";
import { missingNamespaces } from "../support/attacker.js";

const VMM = fileURLToPath(new URL("../support/lone-vmm.js", import.meta.url));
const POLL_MS = 5;
/** Against hangs only: SIGKILL takes effect at once. */
const POLLS_MAX = 2000;

async function isGone(pid: number): Promise<boolean> {
  for (let i = 0; i < POLLS_MAX && existsSync(`/proc/${pid}`); i++) await sleep(POLL_MS);
  return !existsSync(`/proc/${pid}`);
}

const missing = await missingNamespaces();
if (missing !== undefined) skip(missing);
for (const deed of missing === undefined ? ["spin", "sleep"] : []) {
  test(`a device that does nothing but ${deed} ends when its VMM is killed`, async () => {
    const vmm = spawn(process.execPath, [VMM, deed], { stdio: ["ignore", "pipe", "inherit"] });
    const [text] = (await once(vmm.stdout, "data")) as [Buffer];
    const pid = Number(text.toString());
    assert.ok(existsSync(`/proc/${pid}`), "the device was not there");
    vmm.kill("SIGKILL");
    await once(vmm, "exit");
    assert.ok(await isGone(pid), `process ${pid} lives on`);
  });
}

test.run();
