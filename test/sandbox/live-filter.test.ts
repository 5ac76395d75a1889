// The filter that the kernel enforces on a running device, read from the kernel.

import fs from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compilePolicy, SECCOMP_RET_LOG, SECCOMP_RET_USER_NOTIF } from "../../host/sandbox/bpf.js";
import type { ResolvedGrant } from "../../host/sandbox/grants.js";
import { allowedBy, liveFilters, liveSyscalls } from "../../host/sandbox/live-filter.js";
import { inspectModule } from "../../host/sandbox/manifest.js";
import {
  allow,
  fd,
  is,
  type Policy,
  policyOfDevice,
  syscallsOf,
} from "../../host/sandbox/policy.js";
import { SYSCALL_NUMBERS, syscallNumber } from "../../host/sandbox/syscalls.js";
import { skip } from "../support/skip.js";
import { Child, start } from "./support.js";

const RNG = fileURLToPath(new URL("../../devices/rng.wasm", import.meta.url));
const SOURCE: ResolvedGrant = {
  name: "source",
  kind: "file",
  what: "/dev/urandom",
  rights: ["read"],
};
const READS = 200;

function policyOfRng(): Policy {
  return policyOfDevice(inspectModule(fs.readFileSync(RNG)), [SOURCE]);
}

function byNumber(names: string[]): string[] {
  return names.sort((a, b) => syscallNumber(a) - syscallNumber(b));
}

test("allowedBy() finds what a filter may let through, whatever its tests of arguments", () => {
  const rules = [allow("read", "a test", fd(0, 5)), allow("futex", "a test", is(1, 2), is(2, 3))];
  assert.equal(allowedBy([compilePolicy({ rules })]), ["read", "futex"]);
  assert.equal(allowedBy([compilePolicy({ rules: [] })]), []);
});

test("allowedBy() takes what all of several filters let through", () => {
  const [read, write] = [allow("read", "a test"), allow("write", "a test")];
  const both = compilePolicy({ rules: [read, write] });
  assert.equal(allowedBy([both, compilePolicy({ rules: [write] })]), ["write"]);
});

test("allowedBy() says of a filter that only logs that it lets everything through", () => {
  const logging = compilePolicy({ rules: [] }, SECCOMP_RET_LOG);
  assert.ok(allowedBy([logging]).length >= SYSCALL_NUMBERS.size);
});

test("allowedBy() assumes the worst of an instruction that is not one of ours", () => {
  const program = compilePolicy({ rules: [] });
  new DataView(program.buffer).setUint16(0, 0x16, true);
  assert.ok(allowedBy([program]).length >= SYSCALL_NUMBERS.size);
});

test("allowedBy() assumes the worst of a filter that does not answer", () => {
  assert.ok(allowedBy([new Uint8Array(0)]).length >= SYSCALL_NUMBERS.size);
});

test("liveFilters() finds none around a process that has none, or that is not there", () => {
  assert.is(liveFilters(process.pid), undefined);
  assert.is(liveFilters(2 ** 30), undefined);
});

test("the kernel enforces on rng byte for byte the policy that is printed", async () => {
  const device = new Child({ id: "rng0", module: RNG, grants: [SOURCE], seccomp: "enforce" });
  try {
    await device.hear();
    const filters = liveFilters(device.process.pid);
    if (filters === undefined)
      return skip("reading a live filter needs CAP_SYS_ADMIN: run as root");
    const policy = policyOfRng();
    assert.equal(filters[0], compilePolicy(policy, SECCOMP_RET_USER_NOTIF));
    assert.equal(liveSyscalls(device.process.pid), byNumber(syscallsOf(policy)));
  } finally {
    await device.close();
  }
});

test("a device goes on as if nobody had read its filter, again and again", async () => {
  const child = start("add 1 2");
  try {
    await child.hear();
    for (let i = 0; i < READS; i++) liveFilters(child.process.pid);
    child.go();
    assert.is(await child.hear(), "sum 4");
  } finally {
    await child.close();
  }
});

test("a device that has ended is left for its parent to find", async () => {
  const child = start("add 1 2");
  await child.hear();
  process.kill(child.process.pid, "SIGKILL");
  assert.is(liveFilters(child.process.pid), undefined);
  assert.is((await child.close()).signal, "SIGKILL");
});

test.run();
