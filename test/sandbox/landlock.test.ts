// Landlock: what is asked of which kernel, and what the two layers leave. How an attacker fares
// behind it is in test/breach.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  handleEverything,
  LANDLOCK_ABI_MAX,
  landlockAbi,
  startLayer,
} from "../../host/sandbox/landlock.js";
import { Launch } from "../../host/sandbox/launcher.js";
import { CLONE, PRCTL, SIGNAL } from "../../host/sandbox/linux.js";
import { headerValues, missingCompiler } from "../support/headers.js";
import { skip } from "../support/skip.js";
import { perform, temporaryFile } from "./support.js";

const ABI = landlockAbi();
/** The ABI of the kernel that a device's filesystem rights and scopes are complete from. */
const SCOPE_ABI = 6;

function words(bytes: Uint8Array<ArrayBuffer>): string[] {
  return [...new BigUint64Array(bytes.buffer)].map((word) => word.toString(16));
}

test("handleEverything() asks each ABI for all its rights, and for no field that it lacks", () => {
  const asked = Array.from({ length: LANDLOCK_ABI_MAX }, (_, i) => words(handleEverything(i + 1)));
  assert.equal(asked, [
    ["1fff"],
    ["3fff"],
    ["7fff"],
    ["7fff", "3"],
    ["ffff", "3"],
    ["ffff", "3", "3"],
    ["ffff", "3", "3"],
    ["ffff", "3", "3"],
    ["1ffff", "3", "3"],
  ]);
});

test("a struct landlock_path_beneath_attr is as long as the kernel's", () => {
  const missing = missingCompiler();
  if (missing !== undefined) return skip(missing);
  const size = "sizeof(struct landlock_path_beneath_attr)";
  const rule = startLayer(1, { fd: 3, directories: [] }).find(
    ([call]) => call === "landlock_add_rule",
  )?.[3];
  assert.is(
    BigInt((rule as Uint8Array).length),
    headerValues(["linux/landlock.h"], [size]).get(size),
  );
});

test("lockDown() reports the ABI, and closes the ruleset", async () => {
  const { report } = await perform("wait");
  assert.is(report.landlock, ABI);
  assert.equal(report.fds, [0, 1, 2, 3, 5]);
});

/** What a shell does behind the first layer; its output is in `file`. */
async function behindStartLayer(script: (file: string) => string): Promise<string> {
  const file = temporaryFile("said", "");
  const output = fs.openSync(file, "w");
  const flags = CLONE.CLONE_VFORK | SIGNAL.SIGCHLD;
  const launch = new Launch()
    .step("create a process", "clone", flags, 0, 0, 0, 0)
    .step("say", "dup3", output, 1, 0)
    .step("say", "dup2", 1, 2)
    .step("close the others", "close_range", 3, 0xffff_ffff, 0)
    .step("give up", "prctl", PRCTL.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  for (const [call, ...args] of startLayer(ABI, { fd: 3, directories: [] }))
    launch.step("restrict", call, ...args);
  const pid = launch.step("run", "execve", "/bin/sh", ["sh", "-c", script(file)], []).run();
  fs.closeSync(output);
  const state = () => fs.readFileSync(`/proc/${pid}/stat`, "latin1").split(" ")[2];
  while (state() !== "Z") await sleep(1);
  return fs.readFileSync(file, "latin1");
}

test("the first layer leaves reading and executing, and keeps no descriptor", async () => {
  if (ABI === 0) return skip("this kernel has no Landlock");
  const said = await behindStartLayer(() => "/bin/cat /etc/hostname && echo /proc/self/fd/*");
  assert.match(said, new RegExp(`^${fs.readFileSync("/etc/hostname", "latin1")}`));
  assert.not.match(said, /fd\/4/); // 3 is the descriptor that lists the directory
});

test("the first layer stops writing, creating and signalling", async () => {
  if (ABI < SCOPE_ABI) return skip(`Landlock of ABI ${SCOPE_ABI} is needed, here is ${ABI}`);
  const script = (file: string) =>
    [`: >> ${file}`, `: > ${file}.new`, `kill -0 ${process.pid}`, "echo end"].join("\n");
  const said = await behindStartLayer((file) => `(${script(file).replaceAll("\n", "); (")})`);
  const denied = said.match(/Permission denied|not permitted/g) ?? [];
  assert.is(denied.length, 3, said);
  assert.match(said, /end\n$/);
  assert.is(spawnSync("sh", ["-c", `kill -0 ${process.pid}`]).status, 0);
});

test("the second layer leaves nothing, not even its own program", async () => {
  if (ABI === 0) return skip("this kernel has no Landlock");
  const { said } = await perform("reopen", { seccomp: "off" });
  assert.match(said, /^Error: EACCES/);
});

test.run();
