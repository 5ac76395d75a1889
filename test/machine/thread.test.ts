// Threads that are started before anybody needs them.

import { existsSync, readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { dismissThreads, startThread } from "../../host/machine/thread.js";
import { skip } from "../support/skip.js";
import { config, runToEnd } from "../support/vm.js";

function threadCount(): number {
  return readdirSync("/proc/self/task").length;
}

test("dismissThreads() ends what nobody has taken, however far it has come", async () => {
  startThread("io");
  await dismissThreads(); // and the threads that node has for itself are there from now on
  const before = threadCount();
  for (const waitMs of [0, 5, 20, 100]) {
    startThread("io");
    startThread("vcpu");
    assert.is(threadCount(), before + 2);
    startThread("vcpu");
    assert.is(threadCount(), before + 2, "a second one of a kind");
    await sleep(waitMs);
    await dismissThreads();
    assert.is(threadCount(), before);
  }
  await dismissThreads();
});

async function machineTakesThreads(): Promise<void> {
  await runToEnd(config("bytes=64"));
  const before = threadCount();
  startThread("io");
  startThread("vcpu");
  const { exit } = await runToEnd(config("bytes=64"));
  assert.is(exit.reason, "poweroff");
  assert.is(threadCount(), before);
}

const name = "a machine takes the threads that wait, and leaves none";
if (existsSync("/dev/kvm")) test(name, machineTakesThreads);
else skip(`${name}: no /dev/kvm`);

test.run();
