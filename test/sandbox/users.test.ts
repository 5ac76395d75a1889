// The sandbox of root, of an ordinary user, of a root that is none, and of a kernel without
// namespaces.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { SECCOMP } from "../../host/sandbox/linux.js";
import type { SeccompMode } from "../../host/sandbox/lockdown.js";
import { NAMESPACE_FLAGS } from "../../host/sandbox/pieces.js";
import type { Refusal } from "../support/lesser-kernel.js";
import { skip } from "../support/skip.js";
import type { Result } from "./as-user.js";
import { childModule } from "./support.js";

const CHECKOUT = fileURLToPath(new URL("../../../", import.meta.url));
/** What a copy needs that any user may read: the checkout itself may be in somebody's home. */
const PARTS = [
  "package.json",
  "dist/host",
  "dist/test/sandbox",
  "dist/test/support",
  "node_modules/koffi",
  "node_modules/@koromix",
];
/** An ordinary user; it does not have to exist. */
const UID = 12345;
const AS_USER = ["setpriv", `--reuid=${UID}`, `--regid=${UID}`, "--clear-groups"];
const ALL = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

const copy = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-users-"));
process.on("exit", () => fs.rmSync(copy, { recursive: true, force: true }));
for (const part of PARTS) {
  const from = path.join(CHECKOUT, part);
  if (fs.existsSync(from)) fs.cpSync(from, path.join(copy, part), { recursive: true });
}
const module = path.join(copy, "child.wasm");
fs.copyFileSync(childModule(), module);
spawnSync("chmod", ["-R", "a+rX", copy]);

const { EBUSY, EINVAL, EPERM } = os.constants.errno;
const isRoot = process.geteuid?.() === 0;

/** Why the commands in front of node cannot be used here. */
function missing(prefix: readonly string[]): string | undefined {
  const [command = "true", ...rest] = prefix;
  const probe = spawnSync(command, [...rest, "true"]);
  if (probe.status === 0) return undefined;
  return `"${prefix.join(" ")}" does not work here: ${probe.stderr ?? probe.error}`;
}

interface RunOptions {
  strength: string;
  /** Shell that runs first. */
  before?: string;
  /** What the device does (child.ts), and the mode of its filter. */
  deed?: string;
  seccomp?: SeccompMode;
}

/** Runs as-user.js in the copy behind `prefix`. */
function run(prefix: readonly string[], options: RunOptions): Result {
  const program = path.join(copy, "dist/test/sandbox/as-user.js");
  const script = `${options.before ?? ""} exec "$@"`;
  const { strength, deed = "wait", seccomp = "enforce" } = options;
  const node = [process.execPath, program, module, strength, deed, seccomp];
  const [command, ...rest] = [...prefix, "sh", "-c", script, "sh", ...node];
  const { stdout, stderr } = spawnSync(command!, rest, { encoding: "utf8" });
  assert.match(stdout, /^{/, stderr);
  return JSON.parse(stdout) as Result;
}

function confined({ error, weak, proof }: Result): void {
  assert.is(error, undefined);
  assert.equal(weak, []);
  assert.is(proof?.seccomp, 2);
  assert.is(proof?.noNewPrivs, true);
  assert.is(proof?.capabilities, "0000000000000000");
  assert.is(proof?.wxPages, 0);
  assert.equal(
    proof?.fds.map(({ fd }) => fd),
    [0, 1, 2, 3, 5],
  );
  assert.equal(proof?.namespaces, ALL);
}

const strict = { strength: "strict" };

test("root's device is nobody, with everything that the sandbox has", () => {
  if (!isRoot) return skip("not root: what root's devices become was not tested");
  const result = run([], strict);
  confined(result);
  assert.is(result.proof?.uid, 65534);
});

test("root's device is in none of the groups that root is in", () => {
  const prefix = ["setpriv", "--groups=4,4242"];
  const reason = isRoot ? missing(prefix) : "not root: only root can leave groups";
  if (reason !== undefined) return skip(reason);
  assert.is(run(prefix, strict).groups, "");
});

test("nothing is mounted but for the device, also where others see each mount", () => {
  const prefix = ["unshare", "--mount", "--propagation", "shared"];
  const reason = missing(prefix);
  if (reason !== undefined) return skip(reason);
  const result = run(prefix, strict);
  confined(result);
  assert.is(result.mountsKept, true);
});

test("an ordinary user's device has everything too, and the user can verify it", () => {
  const prefix = isRoot ? AS_USER : [];
  const reason = missing([...prefix, "unshare", "--user"]);
  if (reason !== undefined) return skip(reason);
  confined(run(prefix, strict));
});

test("so has the device of a root who has no nobody to become", () => {
  const prefix = [...(isRoot ? AS_USER : []), "unshare", "--user", "--map-root-user"];
  const reason = missing(prefix);
  if (reason !== undefined) return skip(reason);
  confined(run(prefix, strict));
});

/** A user namespace in which no further ones can be made, as where they are switched off. */
const WITHOUT = [...(isRoot ? AS_USER : []), "unshare", "--user", "--map-root-user"];
const before = "echo 0 > /proc/sys/user/max_user_namespaces;";

test("without namespaces a device does not start, and the error names them", () => {
  const reason = missing(WITHOUT);
  if (reason !== undefined) return skip(reason);
  const { error } = run(WITHOUT, { ...strict, before });
  assert.match(
    error ?? "",
    /sandbox: user namespace: clone: ENOSPC, is the sysctl user.max_user_namespaces 0/,
  );
});

test("without user namespaces a weak sandbox lacks just those, and says so", () => {
  const reason = missing(WITHOUT);
  if (reason !== undefined) return skip(reason);
  const { error, weak, proof } = run(WITHOUT, { strength: "weak", before });
  assert.is(error, undefined);
  assert.equal(
    weak?.map(({ piece }) => piece),
    ["user namespace", "not dumpable"],
  );
  assert.is(weak?.[0]?.why, "clone: ENOSPC");
  assert.is(proof?.seccomp, 2);
  assert.is(proof?.noNewPrivs, true);
  assert.is(proof?.capabilities, "0000000000000000");
  assert.is(proof?.wxPages, 0);
  assert.equal(proof?.namespaces, ALL.slice(1));
});

/** An ordinary user on a kernel that refuses some calls. */
function onLesserKernel(refusals: readonly Refusal[]): string[] {
  const program = path.join(copy, "dist/test/support/lesser-kernel.js");
  return [
    ...(isRoot ? AS_USER : []),
    process.execPath,
    program,
    JSON.stringify(refusals),
    "/usr/bin/env",
  ];
}

test("an ordinary user's weak sandbox lacks one namespace where the kernel lacks one", () => {
  const refusal = { syscall: "clone", errno: EINVAL, bits: NAMESPACE_FLAGS.net };
  const { error, weak, proof } = run(onLesserKernel([refusal]), { strength: "weak" });
  assert.is(error, undefined);
  assert.equal(weak, [{ piece: "net namespace", why: "clone: EINVAL" }]);
  assert.equal(
    proof?.namespaces,
    ALL.filter((name) => name !== "net"),
  );
  assert.is(proof?.seccompFilters, 1);
});

for (const errno of [EINVAL, EBUSY]) {
  const bits = SECCOMP.SECCOMP_FILTER_FLAG_NEW_LISTENER;
  const refusal = { syscall: "seccomp", errno, argument: 1, bits };

  test(`a filter that may have no listener (errno ${errno}) is on all threads, and kills`, () => {
    const result = run(onLesserKernel([refusal]), { ...strict, deed: "call getuid" });
    confined(result);
    assert.is(result.proof?.seccompFilters, 1);
    assert.match(result.end ?? "", /^was killed by SIGSYS/);
  });

  test(`a filter that may have no listener (errno ${errno}) only logs where that is asked`, () => {
    const log = { ...strict, deed: "call getuid", seccomp: "log" } as const;
    assert.match(run(onLesserKernel([refusal]), log).end ?? "", /^result /);
  });
}

test("an ordinary user without any namespace still gets all that needs none", () => {
  const bits = Object.values(NAMESPACE_FLAGS).reduce((all, flag) => all | flag, 0);
  const prefix = onLesserKernel([{ syscall: "clone", errno: EPERM, bits }]);
  assert.match(run(prefix, strict).error ?? "", /user namespace: clone: EPERM, is it forbidden/);
  const { error, weak, proof } = run(prefix, { strength: "weak" });
  assert.is(error, undefined);
  const pieces = ALL.map((name) => `${name} namespace`);
  assert.equal(
    weak?.map(({ piece }) => piece).sort(),
    [...pieces, "change of user", "not dumpable", "root directory"].sort(),
  );
  assert.equal(proof?.namespaces, []);
  assert.is(proof?.seccompFilters, 1);
  assert.is(proof?.noNewPrivs, true);
  assert.is(proof?.wxPages, 0);
});

test.run();
