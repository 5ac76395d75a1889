// The machine code that makes the calls between clone(2) and execve(2), and what becomes of a
// failure.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { LAUNCHER_CODE, Launch, LaunchError } from "../../host/sandbox/launcher.js";
import { CLONE, SIGNAL } from "../../host/sandbox/linux.js";
import { missingCompiler } from "../support/headers.js";
import { skip } from "../support/skip.js";
import { temporaryFile } from "./support.js";

const FORK = CLONE.CLONE_VFORK | SIGNAL.SIGCHLD;

function fork(): Launch {
  return new Launch().step("create a process", "clone", FORK, 0, 0, 0, 0);
}

function failureOf(launch: Launch): LaunchError {
  try {
    launch.run();
  } catch (error) {
    if (error instanceof LaunchError) return error;
    throw error;
  }
  return assert.unreachable("the launch succeeded") as never;
}

/** Children of this process, zombies among them. */
function children(): string {
  return fs.readFileSync(`/proc/self/task/${process.pid}/children`, "latin1");
}

test("LAUNCHER_CODE is what an assembler makes of its left column", () => {
  const missing = missingCompiler();
  if (missing !== undefined) return skip(missing);
  const lines = [".intel_syntax noprefix", ...LAUNCHER_CODE.map(([assembly]) => assembly), ""];
  const source = temporaryFile("launcher.s", lines.join("\n"));
  const object = path.join(path.dirname(source), "launcher.o");
  const binary = path.join(path.dirname(source), "launcher.bin");
  execFileSync("cc", ["-c", source, "-o", object]);
  execFileSync("objcopy", ["-O", "binary", "-j", ".text", object, binary]);
  const written = LAUNCHER_CODE.map(([, bytes]) => bytes).join("");
  assert.is(fs.readFileSync(binary).toString("hex"), written);
});

test("Launch.run() makes the calls in order in the child and returns its pid", async () => {
  const file = temporaryFile("trace", "");
  const O_WRONLY = 1;
  const pid = fork()
    .step("close all", "close_range", 0, 0xffff_ffff, 0)
    .step("open", "open", file, O_WRONLY, 0)
    .step("write", "write", 0, "first ", 6)
    .step("write", "write", 0, "second ", 7)
    .step("run", "execve", "/bin/sh", ["sh", "-c", "echo $X >&0; kill -9 $$"], ["X=third"])
    .run();
  assert.ok(pid > 1 && pid !== process.pid);
  const state = () => fs.readFileSync(`/proc/${pid}/stat`, "latin1").split(" ")[2];
  while (state() !== "Z") await new Promise((resolve) => setTimeout(resolve, 1));
  assert.is(fs.readFileSync(file, "latin1"), "first second third\n");
});

test("Launch.run() names the step that failed, and leaves no zombie", () => {
  const before = children();
  const launch = fork()
    .step("read nothing", "getpid")
    .step("enter the room", "chdir", "/nonexistent")
    .step("never", "exit_group", 0);
  const error = failureOf(launch);
  assert.is(error.step, "enter the room");
  assert.is(error.syscall, "chdir");
  assert.match(error.message, /^Cannot set up the sandbox: enter the room: chdir: ENOENT$/);
  assert.is(children(), before);
});

test("Launch.run() names a program that cannot be executed", () => {
  assert.match(failureOf(fork().step("run", "execve", "/nonexistent", [], [])).message, /ENOENT/);
});

test("Launch.run() reports that there is no child at all", () => {
  const CLONE_THREAD = 0x10000; // without CLONE_VM: EINVAL
  const launch = new Launch()
    .step("create", "clone", CLONE_THREAD, 0, 0, 0, 0)
    .step("no", "getpid");
  assert.match(failureOf(launch).message, /create: clone: EINVAL/);
});

test.run();
