// Devices that say they are confined and are not: the VMM looks for itself, and starts no guest.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { EXIT } from "../../host/errors.js";
import { ENTROPY_GUEST, jsonLines, whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";
import { type Change, changedBulkhead, SERVE } from "./support/rogue.js";

const TIMEOUT_MS = 60_000;

function inLockDown(from: string, to: string): Change {
  return { file: "sandbox/lockdown.js", from, to };
}

function inLaunch(from: string, to: string): Change {
  return { file: "sandbox/namespaces.js", from, to };
}

/** Runs a guest whose device is confined by code with these changes. */
function run(changes: readonly Change[], ...options: string[]) {
  const args = [changedBulkhead(...changes), "run", ENTROPY_GUEST, "--rng", "--json", ...options];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: "utf8",
    timeout: TIMEOUT_MS,
  });
  const events = jsonLines(stdout).map(({ event }) => event);
  return { status, events, told: stdout + stderr };
}

const FILTER = "() => filterSyscalls(policy, seccomp, () => limitDescriptors(grants))";
/** A filter that says in READY that the kernel refused it. */
const CLAIM = 'weak.push({ piece: "system call filter", why: "seccomp: ENOSYS" });';
const NO_FILTER = inLockDown(FILTER, "() => {}");
const ONE_THREAD = inLockDown("const flags = TSYNC | ESRCH |", "const flags =");
const NO_SEAL = inLockDown("const wxPages = sealCode();", "const wxPages = 0;");
const ALL_KEPT = inLockDown("if (kept.has(fd))", "if (fd >= 0)");
const NO_NET = inLaunch('user === "self" || name !== "user"', 'name !== "net" && name !== "user"');

/** One thing left out each, and what is missed then. */
const LEFT_OUT: readonly (readonly [what: string, changes: readonly Change[], missed: RegExp])[] = [
  ["a filter", [NO_FILTER], /it lacks a system call filter of its own on every thread/],
  [
    "a filter, and says that the kernel refused it",
    [inLockDown(FILTER, `() => { ${CLAIM} }`)],
    /it lacks a system call filter of its own on every thread/,
  ],
  ["a filter on all threads", [ONE_THREAD], /it lacks a system call filter of its own on every/],
  ["sealed code", [NO_SEAL], /no page writable and executable \(it has \d+\)/],
  ["closed descriptors", [ALL_KEPT], /no descriptors but its own/],
  ["a namespace of its own", [NO_NET], /namespaces of its own \(it shares net\)/],
];

/** A rule more than the VMM knows of. */
const WIDER = inLockDown(
  "const policy = policyOf({ socketFd: SOCKET_FD, grants, imports });",
  `const policy = policyOf({ socketFd: SOCKET_FD, grants, imports });
   policy.rules.push({ syscall: "getsid", nr: 124, args: [], reason: "nobody is told" });`,
);

/** From the moment on that BARE is there, a device has no filter, and says when it is served. */
const BARE = "bare";
const BARE_LATER: readonly Change[] = [
  inLockDown(
    "prime();",
    `prime(); globalThis.bare = readdirSync("/bulkhead/dist/host").includes("${BARE}");`,
  ),
  inLockDown(FILTER, `() => { if (!globalThis.bare) (${FILTER})(); }`),
  { ...SERVE, to: `if (globalThis.bare) this.#channel.say("served"); ${SERVE.from}` },
];

/** Lets a device that was confined die while a guest reads, and its successors have no filter. */
async function runBareLater(): Promise<{ status: number; events: Record<string, unknown>[] }> {
  const bulkhead = changedBulkhead(...BARE_LATER);
  const options = ["--rng", "--json", "--on-device-failure", "stop"];
  const args = [bulkhead, "run", ENTROPY_GUEST, "-p", "bytes=2000000000 timeout=600", ...options];
  const vmm = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const limit = setTimeout(() => vmm.kill("SIGKILL"), TIMEOUT_MS);
  const events: Record<string, unknown>[] = [];
  for await (const line of createInterface(vmm.stdout)) {
    const event = JSON.parse(line) as Record<string, unknown>;
    events.push(event);
    if (event.event !== "vmm-ready") continue;
    writeFileSync(path.join(path.dirname(bulkhead), "..", BARE), "");
    process.kill(Number(events.find((each) => each.event === "device-ready")?.pid), "SIGKILL");
  }
  if (vmm.exitCode === null && vmm.signalCode === null) await once(vmm, "exit");
  clearTimeout(limit);
  return { status: vmm.exitCode ?? -1, events };
}

const reason = whyNoKvm();
if (reason !== undefined) {
  skip(reason);
} else {
  for (const [what, changes, missed] of LEFT_OUT) {
    test(`no guest starts on a device without ${what}`, () => {
      const { status, events, told } = run(changes);
      assert.match(told, missed);
      assert.is(status, EXIT.sandboxFailed);
      for (const event of ["device-ready", "vmm-ready", "serial"])
        assert.not.ok(events.includes(event));
    });
  }

  test("no guest starts on a device whose filter lets more through than its policy", () => {
    if (process.geteuid?.() !== 0)
      return skip("reading a filter back needs CAP_SYS_ADMIN: run as root");
    const { status, events, told } = run([WIDER]);
    assert.match(told, /its filter lets through getsid, which its policy does not/);
    assert.is(status, EXIT.sandboxFailed);
    assert.not.ok(events.includes("vmm-ready"));
  });

  test("no request reaches a device that is started again and not confined", async () => {
    const { status, events } = await runBareLater();
    const named = (name: string) => events.filter(({ event }) => event === name);
    assert.ok(named("device-restart").length > 0);
    assert.is(named("device-ready").length, 1);
    const refused = /^Cannot trust device rng0.*it lacks a system call filter of its own/;
    assert.match(String(named("device-exit").at(-1)?.reason), refused);
    assert.equal(
      named("log").filter(({ text }) => String(text).includes("device says")),
      [],
    );
    assert.is(status, EXIT.deviceFailed);
  });
}

test.run();
