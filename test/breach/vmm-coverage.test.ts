// Every rule of the VMM's policy is executed: with arguments that it allows under the real filter,
// and with arguments that it just does not allow. Both are made from the policy, so a rule that
// nothing here exercises fails the run.

import { spawn } from "node:child_process";
import { openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { vmmPolicy } from "../../host/machine/confine.js";
import { CONTROL_FD } from "../../host/machine/control-socket.js";
import { unknownOf } from "./process/exercise.js";
import { REFUSED_FIRST } from "./process/variant.js";
import { DONE_BY_NODE, inlineDevice, type Report } from "./support/vmm-exerciser.js";

const EXERCISER = fileURLToPath(new URL("./support/vmm-exerciser.js", import.meta.url));

/** As the exerciser's, but for its pid and its descriptors. */
const { rules } = vmmPolicy({
  inline: [inlineDevice({ data: 40, line: 41 })],
  transport: "pci",
  controlFd: CONTROL_FD,
}).policy;

interface Ending {
  report: Report | undefined;
  signal: string | null;
}

function isStopped(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, "latin1").includes(") T ");
  } catch {
    return false;
  }
}

/** Runs the exerciser; it stops itself, as a VMM does on Ctrl-Z, and is continued. */
async function run(what: string): Promise<Ending> {
  const child = spawn(process.execPath, [EXERCISER, what], {
    stdio: [openSync("/dev/null", "r+"), "pipe", "inherit"],
  });
  let said = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (said += text));
  let ended = false;
  const close = new Promise((resolve) => child.once("close", resolve)).then(() => (ended = true));
  while (!ended) {
    if (isStopped(child.pid ?? 0)) child.kill("SIGCONT");
    await sleep(2);
  }
  await close;
  const report = said === "" ? undefined : (JSON.parse(said) as Report);
  return { report, signal: child.signalCode };
}

function named(index: number): string {
  const { syscall, args } = rules[index]!;
  return `${syscall}(${args.map(({ arg, values }) => `${arg} = ${values.join(" or ")}`)})`;
}

test("each system call of the VMM's policy can be exercised here", () => {
  const unknown = unknownOf({ rules }).filter((name) => !DONE_BY_NODE.includes(name));
  assert.equal(unknown, []);
});

test("each rule of the VMM's policy is hit by a call that gets through the filter", async () => {
  const { report, signal } = await run("hits");
  assert.is(signal, null);
  const hit = new Set(report?.hit);
  const unhit = [...rules.keys()].filter((index) => !hit.has(index)).map(named);
  assert.equal(unhit, ["rt_sigreturn()", "exit()", "exit_group()"]);
});

test("each bit that a rule of the VMM's policy tests matters", async () => {
  const { report, signal } = await run("misses");
  assert.is(signal, null);
  assert.is(report?.missed.length, rules.length);
  for (const [index, results] of report!.missed.entries()) {
    const { nr } = rules[index]!;
    // Where another rule allows any arguments, there is nothing that just misses this one.
    if (rules.some((each) => each.nr === nr && each.args.length === 0)) continue;
    assert.is(results.length, 1, named(index));
    assert.ok(results[0]! <= -REFUSED_FIRST, `${named(index)}: ${results}`);
  }
});

test.run();
