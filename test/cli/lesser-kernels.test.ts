// bulkhead on kernels that lack or refuse a piece of the sandbox: each start is wholly confined, or
// fails and names the piece, or lacks what it says it lacks because the user allowed it.

import os from "node:os";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { EXIT } from "../../host/errors.js";
import { PRCTL, SECCOMP } from "../../host/sandbox/linux.js";
import { NAMESPACE_FLAGS, NAMESPACES, type Namespace } from "../../host/sandbox/pieces.js";
import { bulkhead, jsonLines, type RunResult, whyNoKvm } from "../support/bulkhead.js";
import type { Refusal } from "../support/lesser-kernel.js";
import { skip } from "../support/skip.js";

const LESSER_KERNEL = fileURLToPath(new URL("../support/lesser-kernel.js", import.meta.url));
const { EINVAL, ENOSYS, ENOSPC, EOPNOTSUPP, EPERM } = os.constants.errno;
const ALL_NEW = Object.values(NAMESPACE_FLAGS).reduce((all, flag) => all | flag, 0);

/** What `demo --json` tells of one device. */
interface Told {
  weak?: string[];
  namespaces: Namespace[];
  noNewPrivs: boolean;
  capabilities: string;
  wxPages: number;
  seccompFilters: number;
  syscalls: number | null;
  uid: number;
}

function demo(refusals: readonly Refusal[], ...options: string[]): RunResult {
  const launcher = [process.execPath, LESSER_KERNEL, JSON.stringify(refusals)];
  return bulkhead(["demo", "--json", ...options], { launcher });
}

/** What a run says of its first device; the guest must have got its entropy. */
function told({ status, stdout, stderr }: RunResult): Told {
  assert.is(status, EXIT.ok, stderr);
  const proof = jsonLines(stdout).find(({ event }) => event === "proof");
  return proof as unknown as Told;
}

/** What no device may lack, whatever else it lacks. */
function checkIndispensable(device: Told): void {
  assert.is(device.noNewPrivs, true);
  assert.match(device.capabilities, /^0+$/);
  assert.is(device.wxPages, 0);
}

function checkWhole(device: Told): void {
  checkIndispensable(device);
  assert.is(device.weak, undefined);
  assert.equal(device.namespaces, NAMESPACES);
  assert.is(device.seccompFilters, 1);
}

/** A test that runs a guest as root, and is skipped where that cannot be. */
function guestTest(name: string, body: () => void): void {
  test(name, () => {
    const isRoot = process.geteuid?.() === 0;
    const reason = whyNoKvm() ?? (isRoot ? undefined : "not root: kernels that refuse root");
    return reason === undefined ? body() : skip(reason);
  });
}

/** Kernels without some pieces: the refusals, and what devices then lack, as reports name it. */
interface Lesser {
  name: string;
  refusals: Refusal[];
  lacks: string[];
  /** What the error of a start names that is not to be weak. */
  error: RegExp;
  shares?: Namespace[];
  unfiltered?: boolean;
}

function without(name: Exclude<Namespace, "user" | "mnt">): Lesser {
  const why = `${name} namespace (clone: EINVAL)`;
  const refusals = [{ syscall: "clone", errno: EINVAL, bits: NAMESPACE_FLAGS[name] }];
  const error = new RegExp(`: ${name} namespace: clone: EINVAL, does this kernel lack CONFIG_`);
  return { name: `${name} namespaces`, refusals, lacks: [why], error, shares: [name] };
}

const NO_ROOT = "root directory (it needs its own mnt namespace)";
const NO_NOBODY = "change of user (it needs its own root directory)";
const DUMPABLE = "not dumpable (it needs its own user namespace)";

const LESSER: readonly Lesser[] = [
  ...(["pid", "net", "ipc", "uts", "cgroup"] as const).map(without),
  {
    name: "mount namespaces",
    refusals: [{ syscall: "clone", errno: EINVAL, bits: NAMESPACE_FLAGS.mnt }],
    lacks: ["mnt namespace (clone: EINVAL)", NO_ROOT, NO_NOBODY],
    error: /: mnt namespace: clone: EINVAL, does this kernel lack CONFIG_NAMESPACES\?/,
    shares: ["mnt"],
  },
  {
    name: "user namespaces",
    refusals: [
      { syscall: "clone", errno: ENOSPC, bits: NAMESPACE_FLAGS.user },
      { syscall: "unshare", errno: ENOSPC, bits: NAMESPACE_FLAGS.user },
    ],
    lacks: ["user namespace (unshare: ENOSPC)", DUMPABLE],
    error: /: user namespace: unshare: ENOSPC, is the sysctl user.max_user_namespaces 0/,
    shares: ["user"],
  },
  {
    name: "any namespace or mount, as in a container",
    refusals: [
      { syscall: "clone", errno: EPERM, bits: ALL_NEW },
      { syscall: "unshare", errno: EPERM },
      { syscall: "mount", errno: EPERM },
    ],
    lacks: [
      "user namespace (clone: EPERM)",
      DUMPABLE,
      ...NAMESPACES.filter((name) => name !== "user").map((n) => `${n} namespace (clone: EPERM)`),
      NO_ROOT,
      NO_NOBODY,
    ],
    error: /: user namespace: clone: EPERM, is it forbidden .* by a container's seccomp profile/,
    shares: [...NAMESPACES],
  },
  {
    name: "mount_setattr (Linux 5.11)",
    refusals: [{ syscall: "mount_setattr", errno: ENOSYS }],
    lacks: ["root directory (mount_setattr: ENOSYS)", NO_NOBODY],
    error: /: root directory: mount_setattr: ENOSYS, does this kernel lack Linux 5.12/,
  },
  {
    name: "pivot_root",
    refusals: [{ syscall: "pivot_root", errno: EPERM }],
    lacks: ["root directory (pivot_root: EPERM)", NO_NOBODY],
    error: /: root directory: pivot_root: EPERM, is it forbidden/,
  },
  {
    name: "seccomp",
    refusals: [{ syscall: "seccomp", errno: ENOSYS }],
    lacks: ["system call filter (seccomp: ENOSYS)"],
    error: /: system call filter: seccomp: ENOSYS, does this kernel lack CONFIG_SECCOMP_FILTER\?/,
    unfiltered: true,
  },
  {
    name: "filters for all threads",
    refusals: [
      { syscall: "seccomp", errno: EINVAL, argument: 1, bits: SECCOMP.SECCOMP_FILTER_FLAG_TSYNC },
    ],
    lacks: ["system call filter (seccomp: EINVAL)"],
    error: /: system call filter: seccomp: EINVAL/,
    unfiltered: true,
  },
  {
    name: "Landlock, by a filter's word",
    refusals: [{ syscall: "landlock_create_ruleset", errno: EPERM }],
    lacks: ["Landlock (landlock_create_ruleset: EPERM)"],
    error: /: Landlock: landlock_create_ruleset: EPERM, is it forbidden/,
  },
  {
    name: "Landlock at the last moment",
    refusals: [{ syscall: "landlock_restrict_self", errno: EPERM }],
    lacks: ["Landlock (landlock_restrict_self: EPERM)"],
    error: /: Landlock: landlock_restrict_self: EPERM/,
  },
];

for (const { name, refusals, lacks, error, shares = [], unfiltered = false } of LESSER) {
  guestTest(`without ${name} no device starts, and the error says why`, () => {
    const { status, stderr } = demo(refusals);
    assert.match(stderr, error);
    assert.match(stderr, /--allow-weak-sandbox starts without it/);
    assert.is(status, EXIT.sandboxFailed);
  });

  guestTest(`without ${name} a weak sandbox lacks that and nothing else`, () => {
    const device = told(demo(refusals, "--allow-weak-sandbox"));
    checkIndispensable(device);
    assert.equal(device.weak, lacks);
    const own = NAMESPACES.filter((each) => !shares.includes(each));
    assert.equal(device.namespaces, own);
    assert.is(device.seccompFilters, unfiltered ? 0 : 1);
    assert.is(device.syscalls === null, unfiltered);
  });
}

guestTest("without seccomp a weak VMM says that it has no filter either", () => {
  const { stdout } = demo([{ syscall: "seccomp", errno: ENOSYS }], "--allow-weak-sandbox");
  const logs = jsonLines(stdout).filter(({ event }) => event === "log");
  assert.ok(logs.some(({ text }) => /^Cannot confine the VMM: seccomp: ENOSYS/.test(`${text}`)));
  assert.is(jsonLines(stdout).find(({ event }) => event === "vmm-ready")?.syscalls, null);
});

/** Kernels that lack nothing which a sandbox could not be whole without. */
const WHOLE: readonly (readonly [name: string, Refusal])[] = [
  ["Landlock", { syscall: "landlock_create_ruleset", errno: ENOSYS }],
  ["Landlock switched on", { syscall: "landlock_create_ruleset", errno: EOPNOTSUPP }],
  ["a nobody to become", { syscall: "setresuid", errno: EINVAL }],
  ["groups to leave", { syscall: "setgroups", errno: EPERM }],
];

for (const [name, refusal] of WHOLE) {
  guestTest(`without ${name} a device starts and lacks nothing`, () => {
    checkWhole(told(demo([refusal])));
  });
}

/** What every kernel has that runs node; where it is refused, not even a weak sandbox starts. */
const INDISPENSABLE: readonly (readonly [name: string, Refusal, error: RegExp])[] = [
  [
    "no_new_privs",
    { syscall: "prctl", errno: EPERM, value: PRCTL.PR_SET_NO_NEW_PRIVS },
    /prctl.*: EPERM/,
  ],
  [
    "being dumpable no more",
    { syscall: "prctl", errno: EPERM, value: PRCTL.PR_SET_DUMPABLE },
    /prctl\(PR_SET_DUMPABLE\): EPERM/,
  ],
  [
    "a signal when the VMM dies",
    { syscall: "prctl", errno: EPERM, value: PRCTL.PR_SET_PDEATHSIG },
    /end with the VMM: prctl: EPERM/,
  ],
  [
    "locked securebits",
    { syscall: "prctl", errno: EPERM, value: PRCTL.PR_SET_SECUREBITS },
    /make root mean nothing: prctl: EPERM/,
  ],
  ["limits", { syscall: "prlimit64", errno: EPERM, argument: 2, bits: -1 }, /prlimit64.*: EPERM/],
  ["dropping capabilities", { syscall: "capset", errno: EPERM }, /capset: EPERM/],
  ["close_range", { syscall: "close_range", errno: ENOSYS }, /close_range: ENOSYS, .* older than/],
  [
    "pages that are executable only",
    { syscall: "mprotect", errno: EPERM, argument: 2, value: 5 },
    /mprotect: EPERM/,
  ],
];

for (const [name, refusal, error] of INDISPENSABLE) {
  guestTest(`without ${name} no device starts, weak or not`, () => {
    const { status, stderr } = demo([refusal], "--allow-weak-sandbox");
    assert.match(stderr, error);
    assert.match(stderr, /^Error: /m);
    assert.is(status, EXIT.sandboxFailed, stderr);
  });
}

guestTest("bulkhead demo and run show a reader what a weak sandbox lacks", () => {
  const refusals = [{ syscall: "clone", errno: EINVAL, bits: NAMESPACE_FLAGS.cgroup }];
  const launcher = [process.execPath, LESSER_KERNEL, JSON.stringify(refusals)];
  const { status, stdout, stderr } = bulkhead(["demo", "--allow-weak-sandbox"], { launcher });
  assert.is(status, EXIT.ok);
  assert.match(stderr, /weak sandbox, without: cgroup namespace \(clone: EINVAL\)/);
  assert.match(stdout, /WEAK SANDBOX: rng0 lacks cgroup namespace \(clone: EINVAL\)/);
});

guestTest("a kernel that lacks nothing makes no sandbox weak, even where that is allowed", () => {
  checkWhole(told(demo([], "--allow-weak-sandbox")));
});

test.run();
