// The warden, which starts devices again for a VMM that may not: it does that and nothing else, and
// the VM goes on without it.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { VmmError } from "../../host/errors.js";
import { inspectDevice } from "../../host/machine/inspect.js";
import type { DevicePlan } from "../../host/sandbox/starter.js";
import { Warden } from "../../host/sandbox/warden.js";
import { whyNoKvm } from "../support/bulkhead.js";
import { note, skip } from "../support/skip.js";
import { RNG, rng } from "../support/vm.js";
import { type VmmProcess, withVmm } from "../support/vmm-process.js";

const KILLS = Number(process.env.BULKHEAD_TEST_KILLS ?? 100);
/** A device works for so long before it is killed. */
const WORK_MS = 20;

const warden = suite("warden");

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Fields 4 (parent) and 6 (session) of /proc/PID/stat; undefined for a process that has ended. */
function statOf(pid: number): { parent: number; session: number } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z"
      ? undefined
      : { parent: Number(fields[1]), session: Number(fields[3]) };
  } catch {
    return undefined;
  }
}

/** The warden of a VMM: its one child that is no device. */
function wardenOf(machine: VmmProcess): number {
  const children = readdirSync("/proc")
    .map(Number)
    .filter((pid) => pid > 0 && statOf(pid)?.parent === machine.pid);
  const [pid] = children.filter((child) =>
    readFileSync(`/proc/${child}/cmdline`, "latin1").includes("warden-main"),
  );
  assert.ok(pid !== undefined, "the VMM has a warden");
  return pid;
}

function lastPid(machine: VmmProcess): number {
  return Number(machine.events("device-ready").at(-1)?.pid);
}

/** A test that runs a guest, and is skipped where none can run. */
function guestTest(name: string, args: string[], body: (m: VmmProcess) => Promise<void>): void {
  warden(name, () => {
    const reason = whyNoKvm();
    return reason === undefined ? withVmm(args, body) : skip(reason);
  });
}

const HANG = ["--rng", "-p", "exit=hang"];
const BENCH = ["--rng", "-p", "bench seconds=600 depth=16 request=4096 timeout=60"];

const FOUR = ["--rng", "--rng", "--rng", "--rng", "-p", "exit=hang bytes=64"];

guestTest("all devices of a VM that are killed at once come back", FOUR, async (machine) => {
  await machine.until(() => machine.text.includes("hangs"));
  const devices = machine.events("device-ready");
  assert.is(devices.length, 4);
  for (const { pid } of devices) process.kill(Number(pid), "SIGKILL");
  await machine.until(() => machine.events("device-ready").length === 8);
  assert.is(await machine.end(), 143);
});

guestTest(`a confined VMM gets a device back ${KILLS} times`, BENCH, async (machine) => {
  for (let kills = 1; kills <= KILLS; kills++) {
    await machine.until(() => machine.events("device-ready").length === kills);
    await sleep(WORK_MS);
    process.kill(lastPid(machine), "SIGKILL");
  }
  await machine.until(() => machine.events("device-ready").length === KILLS + 1);
  assert.not.match(machine.text, /rng0: (?!at|bench)/, "the guest found something wrong");
  const exits = machine.events("device-exit");
  assert.is(exits.length, KILLS);
  assert.ok(exits.every(({ reason }) => /SIGKILL/.test(String(reason))));
  // Confined as the first one was, and that was found out from outside.
  const syscalls = machine.events("device-ready").map((event) => event.syscalls);
  assert.is(new Set(syscalls).size, 1);
  const ready = machine.events("device-ready").map(({ time }) => Number(time));
  const down = exits.map(({ time }, i) => ready[i + 1]! - Number(time));
  note(`back after ${median(down).toFixed(0)} ms (median of ${down.length} kills)`);
  assert.is(await machine.end(), 143);
});

guestTest(
  "a VM goes on without its warden, its devices as long as they live",
  HANG,
  async (vmm) => {
    await vmm.until(() => vmm.text.includes("hangs"));
    process.kill(wardenOf(vmm), "SIGKILL");
    const gone = () => vmm.events("log").map(({ text }) => String(text));
    await vmm.until(() => gone().some((text) => text.startsWith("the warden, which starts")));
    assert.ok(statOf(lastPid(vmm)) !== undefined, "the device lives");
    process.kill(lastPid(vmm), "SIGKILL");
    await vmm.until(() => gone().some((text) => /^failed for good: .*the warden/.test(text)));
    assert.is(await vmm.end(), 143);
  },
);

guestTest("a device that the warden started ends with it and is given up", HANG, async (vmm) => {
  await vmm.until(() => vmm.text.includes("hangs"));
  process.kill(lastPid(vmm), "SIGKILL");
  await vmm.until(() => vmm.events("device-ready").length === 2);
  process.kill(wardenOf(vmm), "SIGKILL");
  const failed = () => vmm.events("log").some(({ text }) => /^failed for good/.test(String(text)));
  await vmm.until(failed);
  while (statOf(lastPid(vmm)) !== undefined) await sleep(1);
  assert.match(String(vmm.events("device-exit").at(-1)?.reason), /the warden/);
  assert.is(await vmm.end(), 143);
});

guestTest("the warden has no environment, no terminal and no descriptor of the VMM", HANG, (vmm) =>
  vmm
    .until(() => vmm.text.includes("hangs"))
    .then(() => {
      const pid = wardenOf(vmm);
      assert.is(statOf(pid)?.session, pid);
      const environment = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
      const names = environment.map((entry) => entry.split("=")[0]).filter(Boolean);
      assert.equal(names, ["MALLOC_ARENA_MAX", "UV_THREADPOOL_SIZE", "TZ"]);
      const targets = readdirSync(`/proc/${pid}/fd`).map((fd) =>
        readlinkSync(`/proc/${pid}/fd/${fd}`),
      );
      const others = targets.filter((target) => !/^(\/dev\/null|pipe:|anon_inode:)/.test(target));
      assert.is(others.length, 2, others.join(", "));
      assert.ok(others.every((target) => target.startsWith("socket:")));
      const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "latin1");
      note(`warden: ${/^Private_Dirty:.*$/m.exec(rollup)?.[0].replace(/\s+/g, " ")}`);
    }),
);

/** Why `question` is refused. */
async function refusal(question: Promise<unknown>): Promise<string> {
  try {
    await question;
    return "";
  } catch (error) {
    if (error instanceof VmmError) return `${error.code} ${error.message}`;
    throw error;
  }
}

warden(
  "Warden starts what it was told of at its start, once at a time, and nothing else",
  async () => {
    const { module, grants } = rng("rng0");
    const { grants: resolved, syscalls } = inspectDevice(module, { id: "rng0", grants });
    const plan: DevicePlan = {
      id: "rng0",
      module: RNG,
      grants: resolved,
      seccomp: "off",
      syscalls,
    };
    const { pid } = process;
    const gone: string[] = [];
    const keeper = Warden.start(
      [
        { plan, pid },
        { plan: null, pid },
      ],
      (reason) => gone.push(reason),
    );
    keeper.go();
    try {
      assert.is(await refusal(keeper.start(1)), "ERR_INTERNAL Device 1 has no process of its own");
      assert.is(await refusal(keeper.start(2)), "ERR_INTERNAL There is no device 2");
      assert.is((await keeper.prove(1)).pid, pid);
      const device = await keeper.start(0);
      const exit = new Promise<{ signal: string | undefined }>((resolve) => device.onExit(resolve));
      assert.is(statOf(device.pid)?.parent, keeper.pid);
      assert.is(await refusal(keeper.start(0)), "ERR_INTERNAL Device 0 runs already");
      // What a hostile VMM sends for 0, as a second one.
      for (const alias of [[0], ["0"], "0", [[0]]]) {
        const start = keeper.start(alias as unknown as number);
        assert.is(await refusal(start), "ERR_INTERNAL A device is a number");
      }
      device.close();
      assert.is((await exit).signal, "SIGKILL");
      const next = await keeper.start(0);
      next.close();
    } finally {
      await keeper.close();
    }
    assert.is(statOf(keeper.pid), undefined);
    assert.is(await refusal(keeper.prove(1)), "ERR_SANDBOX The warden was closed");
    assert.equal(gone, []);
  },
);

warden("Warden says why it is gone, when nobody closed it", async () => {
  let tell = (_: string) => {};
  const gone = new Promise<string>((resolve) => {
    tell = resolve;
  });
  const keeper = Warden.start([], (reason) => tell(reason));
  keeper.go();
  const answer = refusal(keeper.prove(0));
  process.kill(keeper.pid, "SIGKILL");
  const reason = "the warden, which starts devices again, is gone (killed by signal 9)";
  assert.is(await gone, reason);
  assert.is(await answer, `ERR_SANDBOX ${reason}`);
  await keeper.close();
});

warden.run();
