// How a device process starts, what it gets, and what is said of its end.

import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { VmmError } from "../../host/errors.js";
import { fcntl, prctl } from "../../host/ffi/libc.js";
import { FCNTL, PRCTL } from "../../host/sandbox/linux.js";
import { spawnDevice } from "../../host/sandbox/spawn.js";
import { perform, start, temporaryFile } from "./support.js";

const F_GETFL = 3;
const FD_CLOEXEC = 1;

function openFds(): number {
  return fs.readdirSync("/proc/self/fd").length;
}

function refused(code: string, pattern: RegExp, action: () => unknown): void {
  assert.throws(action, (error: unknown) => {
    assert.instance(error, VmmError);
    assert.is((error as VmmError).code, code);
    assert.match((error as VmmError).message, pattern);
    return true;
  });
}

test("spawnDevice() gives the process only the environment that it needs", async () => {
  process.env.BULKHEAD_TEST_SECRET = "secret";
  const child = start("wait");
  try {
    await child.hear();
    const environment = fs.readFileSync(`/proc/${child.process.pid}/environ`, "latin1");
    assert.not.match(environment, /BULKHEAD_TEST_SECRET|HOME|PATH=\/usr/);
    assert.match(environment, /MALLOC_ARENA_MAX=1/);
  } finally {
    await child.close();
  }
});

test("the VMM's end of the socket is non-blocking and not inherited", async () => {
  const child = start("wait");
  const { socketFd } = child.process;
  assert.ok(fcntl(socketFd, F_GETFL, 0) & fs.constants.O_NONBLOCK);
  assert.ok(fcntl(socketFd, FCNTL.F_GETFD, 0) & FD_CLOEXEC);
  await child.close();
});

test("a start leaves this process as open to a debugger as it was", async () => {
  const isDumpable = () => prctl(PRCTL.PR_GET_DUMPABLE, 0, 0, 0, 0);
  assert.is(isDumpable(), 1);
  const child = start("wait");
  assert.is(isDumpable(), 1);
  await child.close();
});

test("a process that is killed is reaped and reported once, to late listeners too", async () => {
  const child = start("wait");
  await child.hear();
  child.process.kill();
  const exit = await child.exit;
  assert.is(exit.signal, "SIGKILL");
  assert.is(exit.status, undefined);
  assert.not.ok(fs.existsSync(`/proc/${child.process.pid}`));
  let late: unknown;
  child.process.onExit((again) => {
    late = again;
  });
  assert.is(late, exit);
  await child.close();
});

test("what a process says on stderr before the lock-down is the reason of its end", async () => {
  const child = start("wait", { module: temporaryFile("bad.wasm", "no module") });
  const exit = await child.exit;
  assert.ok(exit.status !== 0);
  assert.match(exit.stderr, /CompileError/);
  await child.close();
});

test("a process ends when the VMM closes its socket", async () => {
  const child = start("wait");
  await child.hear();
  fs.closeSync(child.process.takeSocket());
  assert.is((await child.exit).status, 0);
});

test("spawnDevice() leaves no descriptor open here but those of the process", async () => {
  await perform("wait");
  const before = openFds();
  for (let i = 0; i < 3; i++) await perform("wait");
  assert.is(openFds(), before);
});

test("spawnDevice() names a module that it cannot open, and closes what it had opened", () => {
  const before = openFds();
  const options = { id: "rng0", module: "/nonexistent.wasm", seccomp: "enforce" } as const;
  const rights: "read"[] = ["read"];
  const grants = [{ name: "source", kind: "file" as const, what: "/dev/zero", rights }];
  refused("ERR_FILE", /module "\/nonexistent.wasm": ENOENT/, () =>
    spawnDevice({ ...options, grants }),
  );
  assert.is(openFds(), before);
});

test("spawnDevice() names a grant that it cannot open", () => {
  const rights: "read"[] = ["read"];
  const grants = [{ name: "source", kind: "file" as const, what: "/nonexistent", rights }];
  const options = { id: "rng0", module: "/dev/null", seccomp: "enforce" } as const;
  refused("ERR_GRANT", /source=file:\/nonexistent/, () => spawnDevice({ ...options, grants }));
});

test.run();
