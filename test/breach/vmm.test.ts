// The VMM's own filter: it is there, it is the policy, and whoever takes over the VMM is killed for
// what no VMM does.

import { spawnSync } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { CONTROL_FD } from "../../host/machine/control-socket.js";
import { compilePolicy } from "../../host/sandbox/bpf.js";
import { liveFilters } from "../../host/sandbox/live-filter.js";
import { vmmPolicyOf } from "../../host/sandbox/vmm-policy.js";
import { BULKHEAD, whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";
import { type VmmProcess, withVmm } from "../support/vmm-process.js";
import { DEED_NAMES } from "./support/vmm-attacker.js";

const ATTACKER = fileURLToPath(new URL("./support/vmm-attacker.js", import.meta.url));

const vmm = suite("vmm");

interface Ending {
  status: number | null;
  signal: string | null;
  said: string;
}

function attack(deed: string, seccomp: "enforce" | "off"): Ending {
  const fds = [openSync("/etc/passwd", "r"), openSync("/etc", "r")];
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    [ATTACKER, deed, seccomp],
    { stdio: ["ignore", "pipe", "pipe", ...fds], encoding: "utf8" },
  );
  for (const fd of fds) closeSync(fd);
  return { status, signal, said: stdout + stderr };
}

for (const deed of DEED_NAMES) {
  vmm(`a VMM that was taken over is killed for it, and only by the filter: ${deed}`, () => {
    assert.equal(attack(deed, "off"), { status: 0, signal: null, said: "" });
    assert.equal(attack(deed, "enforce"), { status: null, signal: "SIGSYS", said: "" });
  });
}

/** What /proc says of each thread of a process: its filter mode and no_new_privs. */
function threadsOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).map((tid) => {
    const status = readFileSync(`/proc/${pid}/task/${tid}/status`, "latin1");
    const field = (name: string) => new RegExp(`^${name}:\\s+(\\d+)$`, "m").exec(status)?.[1];
    return `Seccomp ${field("Seccomp")}, NoNewPrivs ${field("NoNewPrivs")}`;
  });
}

const HANG = ["--rng", "-p", "exit=hang"];

/** A test that runs a guest, and is skipped where none can run. */
function guestTest(name: string, args: string[], body: (m: VmmProcess) => Promise<void>): void {
  vmm(name, () => {
    const reason = whyNoKvm();
    return reason === undefined ? withVmm(args, body) : skip(reason);
  });
}

guestTest(
  "every thread of a VMM whose guest runs has the filter and no_new_privs",
  [...HANG, "-c", "2"],
  async (machine) => {
    await machine.until(() => machine.text.includes("hangs"));
    const threads = threadsOf(machine.pid);
    assert.ok(threads.length > 4, `${threads.length} threads`);
    assert.equal([...new Set(threads)], ["Seccomp 2, NoNewPrivs 1"]);
    assert.is(machine.events("vmm-ready")[0]?.seccomp, "enforce");
    assert.is(await machine.end(), 143);
  },
);

guestTest(
  "without --seccomp enforce or log, the VMM has no filter and says so",
  [...HANG, "--seccomp", "off"],
  async (machine) => {
    await machine.until(() => machine.text.includes("hangs"));
    assert.equal([...new Set(threadsOf(machine.pid))], ["Seccomp 0, NoNewPrivs 0"]);
    const { seccomp, syscalls } = machine.events("vmm-ready")[0]!;
    assert.equal([seccomp, syscalls], ["off", null]);
  },
);

guestTest(
  "the kernel enforces on the VMM byte for byte the policy that is printed",
  HANG,
  async (machine) => {
    await machine.until(() => machine.text.includes("hangs"));
    const live = liveFilters(machine.pid);
    if (live === undefined) return skip("reading a live filter needs CAP_SYS_ADMIN: run as root");
    const printed = spawnSync(process.execPath, [BULKHEAD, "policy", "vmm", "--json"]);
    const { rules } = JSON.parse(printed.stdout.toString()) as {
      rules: { syscall: string; args: { values: string[] }[] }[];
    };
    const kvmRequests = rules[0]!.args[0]!.values.map(Number);
    const policy = vmmPolicyOf({
      pid: machine.pid,
      kvmRequests,
      pciRequests: [],
      inline: [],
      controlFd: CONTROL_FD,
    });
    assert.equal(live[0], compilePolicy(policy));
    assert.is(machine.events("vmm-ready")[0]?.syscalls, new Set(rules.map((r) => r.syscall)).size);
  },
);

guestTest("SIGUSR1 starts no debugger in a VMM, and does not end it", HANG, async (machine) => {
  await machine.until(() => machine.text.includes("hangs"));
  machine.process.kill("SIGUSR1");
  // A device that comes back shows that the VMM still works.
  process.kill(Number(machine.events("device-ready")[0]?.pid), "SIGKILL");
  await machine.until(() => machine.events("device-ready").length === 2);
  assert.is(await machine.end(), 143);
});

const INLINE = ["--isolation", "inline", "-p", "timeout=60"];

guestTest("an inline device works inside a confined VMM", ["--rng", ...INLINE], async (machine) => {
  assert.equal(await machine.exit, [0, null]);
  assert.match(machine.text, /1 passed, 0 failed: PASS/);
});

guestTest(
  "an inline device is started again inside a confined VMM, until it is given up",
  ["--device", "rng,source=/dev/null", ...INLINE],
  async (machine) => {
    assert.equal(await machine.exit, [0, null]);
    assert.ok(machine.events("device-restart").length > 1, "it was started again");
    const logs = machine.events("log").map(({ text }) => String(text));
    assert.ok(logs.some((text) => text.startsWith("failed for good")));
  },
);

vmm.run();
