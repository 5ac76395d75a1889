// Whole machines on this machine's own /dev/kvm, with the polling guest, through the API that the
// command line uses.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { VmmError } from "../../host/errors.js";
import type { VmConfig } from "../../host/machine/config.js";
import { liveSyscalls } from "../../host/sandbox/live-filter.js";
import { verifyFilter } from "../../host/sandbox/verify.js";
import { moduleWith } from "../runtime/support.js";
import { whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";
import { config, RNG, Run, rng, runToEnd } from "../support/vm.js";

function isAlive(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, "latin1").includes(") Z ");
  } catch {
    return false;
  }
}

function threadCount(): number {
  return readdirSync("/proc/self/task").length;
}

const vm = suite("vm");

vm(
  "createVm() tells of each device, then that the VMM is ready, and the guest of itself",
  async () => {
    const { run, exit } = await runToEnd(config("", { devices: [rng("rng0"), rng("rng1")] }));
    assert.equal(exit, { reason: "poweroff", status: 0 });
    assert.match(run.text, /2 passed, 0 failed: PASS/);
    const names = run.events.map((event) => event.event).filter((name) => name !== "serial");
    assert.equal(names, ["device-ready", "device-ready", "vmm-ready", "guest-exit"]);
  },
);

vm(
  "the number of system calls told is what the kernel's own copy of the filter lets through",
  async () => {
    const run = await Run.create(config("exit=hang"));
    const done = run.vm.run();
    const [ready] = run.all("device-ready");
    const live = liveSyscalls(ready?.pid ?? 0);
    if (live === undefined) skip("reading a filter back needs CAP_SYS_ADMIN: run as root");
    else {
      assert.is(ready?.syscalls, live.length);
      const fewer = { id: "rng0", syscalls: live.slice(1) };
      assert.throws(() => verifyFilter(ready?.pid ?? 0, fewer), /lets through/);
    }
    assert.ok((ready?.syscalls ?? 99) <= 12);
    run.vm.stop("read");
    await done;
  },
);

vm("each device has a process of its own, and it is gone with the VM", async () => {
  const { run } = await runToEnd(config("bytes=64", { devices: [rng("rng0"), rng("rng1")] }));
  const pids = run.all("device-ready").map((event) => event.pid);
  assert.is(new Set([...pids, process.pid]).size, 3);
  assert.equal(pids.map(isAlive), [false, false]);
});

vm("a VM leaves no thread and no descriptor behind", async () => {
  const fds = () => readdirSync("/proc/self/fd").length;
  await runToEnd(config("bytes=64"));
  const before = { threads: threadCount(), fds: fds() };
  for (let i = 0; i < 3; i++) await runToEnd(config("bytes=64"));
  assert.equal({ threads: threadCount(), fds: fds() }, before);
});

vm(
  "proofs() measures a running device from outside: filter, no W+X page, its own descriptors",
  async () => {
    const run = await Run.create(config("exit=hang"));
    const done = run.vm.run();
    await run.until(() => run.text.includes("hangs"));
    const [device] = await run.vm.proofs();
    if (device === undefined) throw new Error("no proof");
    const { id, proof } = device;
    assert.is(id, "rng0");
    assert.equal([proof.seccomp, proof.noNewPrivs, proof.wxPages], [2, true, 0]);
    assert.match(proof.capabilities, /^0+$/);
    assert.equal(
      proof.fds.map(({ fd }) => fd),
      [0, 1, 2, 3, 5],
    );
    assert.is(proof.fds.at(-1)?.target, "/dev/urandom");
    assert.not.match(readFileSync(`/proc/${proof.pid}/maps`, "latin1"), /guest-ram/);
    run.vm.stop("test is over");
    assert.equal(await done, { reason: "stopped", status: 0, detail: "test is over" });
  },
);

vm("stop() ends a guest that never exits to the VMM", async () => {
  const run = await Run.create(config("exit=hang", { cpuCount: 2 }));
  const done = run.vm.run();
  await run.until(() => run.text.includes("hangs"));
  run.vm.stop("SIGTERM");
  assert.is((await done).reason, "stopped");
});

vm("how a guest ends decides the exit status", async () => {
  const exitOf = async (cmdline: string) => {
    const { exit } = await runToEnd(config(`bytes=64 ${cmdline}`, { debugExit: true }));
    return [exit.reason, exit.status];
  };
  assert.equal(await exitOf("exit=reset"), ["reboot", 0]);
  assert.equal(await exitOf("exit=debug"), ["debug-exit", 1]);
  assert.equal(await exitOf("exit=triplefault"), ["triple-fault", 4]);
});

vm("a device killed again and again costs the guest nothing", async () => {
  const run = await Run.create(config("bytes=8000000 depth=16 request=4096"));
  const done = run.vm.run();
  for (let kills = 1; kills <= 5; kills++) {
    await run.until(() => run.all("device-ready").length === kills || run.text.includes("passed"));
    const pid = run.all("device-ready").at(-1)?.pid ?? 0;
    if (run.text.includes("passed")) break;
    await new Promise((resolve) => setTimeout(resolve, 10));
    process.kill(pid, "SIGKILL");
  }
  assert.is((await done).status, 0);
  assert.match(run.text, /8000000 bytes in .*\r?\n.*looks random\r?\n.*1 passed, 0 failed: PASS/);
  const exits = run.all("device-exit");
  assert.ok(exits.length >= 1, "the guest was done before the first kill");
  assert.match(exits[0]?.reason ?? "", /SIGKILL/);
});

vm("a device without a source of entropy dies until it is given up; the VM lives", async () => {
  const empty = rng("rng0", "/dev/null");
  const { run, exit } = await runToEnd(config("timeout=60", { devices: [empty] }));
  assert.is(exit.reason, "poweroff");
  assert.match(run.text, /0 passed, 1 failed/);
  const logs = run.all("log").map((event) => event.text);
  assert.ok(
    logs.some((text) => text.startsWith("failed for good")),
    logs.join("\n"),
  );
});

vm("onDeviceFailure: stop ends the VM with status 5", async () => {
  const empty = rng("rng0", "/dev/null");
  const options = { devices: [empty], onDeviceFailure: "stop" as const };
  const { exit } = await runToEnd(config("timeout=600", options));
  assert.equal([exit.reason, exit.status], ["device-failed", 5]);
  assert.match(exit.detail ?? "", /^rng0 failed for good/);
});

vm("createVm() throws what is wrong and leaves no process behind", async () => {
  const before = threadCount();
  const refused = async (changes: Partial<VmConfig>): Promise<string> => {
    try {
      await Run.create(config("", changes));
    } catch (error) {
      if (error instanceof VmmError) return `${error.code} ${error.message}`;
      throw error;
    }
    return "created";
  };
  assert.match(await refused({ kernel: RNG }), /^ERR_KERNEL_IMAGE/);
  assert.match(await refused({ kernel: "/nonexistent" }), /^ERR_FILE .*"\/nonexistent"/);
  assert.match(await refused({ memoryBytes: 1024 * 1024 }), /^ERR_MEMORY_LAYOUT/);
  assert.match(
    await refused({ devices: [rng("rng0", "/nonexistent")] }),
    /^ERR_GRANT .*nonexistent/,
  );
  assert.is(threadCount(), before);
});

vm("createVm() throws, and does not wait for ever, when the I/O worker fails", async () => {
  const before = threadCount();
  const directory = mkdtempSync(path.join(os.tmpdir(), "bulkhead-vm-"));
  try {
    const module = path.join(directory, "foreign.wasm");
    writeFileSync(module, moduleWith({ more: '(data (i32.const 0x7fffffff) "outside")' }));
    const foreign = { id: "foreign0", module, grants: {}, seccomp: "enforce" as const };
    const devices = [{ ...foreign, isolation: "inline" as const }];
    const error = await Run.create(config("", { devices })).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    assert.match(String(error), /the I\/O worker failed: .*data segment/i);
    assert.is(threadCount(), before);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

const noKvm = whyNoKvm();
if (noKvm === undefined) vm.run();
else skip(noKvm);
