import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { whyNoKvm } from "../support/bulkhead.js";
import { askOnce } from "../support/control.js";
import { skip } from "../support/skip.js";
import { withVmm } from "../support/vmm-process.js";
import { threadsInKvm } from "./vcpu-threads.js";

const scratch = mkdtempSync(path.join(os.tmpdir(), "bulkhead-threads-"));
process.env.XDG_RUNTIME_DIR = scratch;
test.after(() => rmSync(scratch, { recursive: true }));

const HANG = ["--name", "hangs", "-c", "2", "--rng", "-p", "exit=hang bytes=64"];

test("vCPUs of a guest that hangs are in KVM, and those that bulkhead halts are not", async () => {
  const why = whyNoKvm();
  if (why !== undefined) return skip(why);
  await withVmm(HANG, async (machine) => {
    await machine.until(() => machine.text.includes("hangs"));
    assert.is(await threadsInKvm(machine.pid), 2);
    const socket = path.join(scratch, "bulkhead", "hangs.sock");
    assert.is((await askOnce(socket, "pause")).state, "paused");
    assert.is(await threadsInKvm(machine.pid), 0);
  });
});

test("a process that is gone has no thread in KVM", async () => {
  assert.is(await threadsInKvm(2 ** 30), 0);
});

test.run();
