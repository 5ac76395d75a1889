// bulkhead top on a terminal: it shows what happens, and the terminal is as it was afterwards.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Look } from "../../host/cli/top-sample.js";
import { ratesOf } from "../../host/cli/top-sample.js";
import { BULKHEAD, whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";
import { VmmProcess } from "../support/vmm-process.js";

const top = suite("top");

const scratch = mkdtempSync(path.join(os.tmpdir(), "bulkhead-top-"));
process.env.XDG_RUNTIME_DIR = scratch;
top.after(() => rmSync(scratch, { recursive: true }));

/** A look at a VM with one device that was asked `requests` times, in bucket `bucket` each. */
function look(atMs: number, requests: number, change: { bucket: number; cpuMs: number }): Look {
  const latency = new Array<number>(32).fill(0);
  latency[change.bucket] = requests;
  const counted = { requests, bytesToDevice: 10 * requests, bytesFromDevice: 20 * requests };
  const others = { kicks: 0, messagesToDevice: 0, messagesFromDevice: 0, latencySumUs: 0 };
  const device = { id: "blk0", state: "running", isolation: "process", pid: 2 } as const;
  const vm = { kernel: "", cpus: 1, memoryBytes: 0, transport: "pci", seccomp: "off" };
  return {
    atMs,
    status: { name: "web", pid: 1, state: "running", startedAt: 0, ...vm, devices: [device] },
    counters: [{ id: "blk0", ...counted, ...others, restarts: 3, latency }],
    vmm: { cpuMs: change.cpuMs, rssBytes: 1 },
    devices: [{ cpuMs: change.cpuMs, rssBytes: 2 }],
  };
}

top("what happened between two looks is told by the second", () => {
  const before = look(1000, 100, { bucket: 5, cpuMs: 500 });
  const { devices, ...vm } = ratesOf(before, look(3000, 300, { bucket: 5, cpuMs: 600 }));
  assert.equal([vm.name, vm.cpuPercent, vm.rssBytes], ["web", 5, 1]);
  const [device] = devices;
  assert.is(device!.requestsPerSecond, 100);
  assert.is(device!.bytesToDevicePerSecond, 1000);
  assert.is(device!.bytesFromDevicePerSecond, 2000);
  assert.equal([device!.restarts, device!.cpuPercent], [3, 5]);
  assert.ok(device!.p50Us! >= 16 && device!.p50Us! < 32);
});

top("a device whose process is a new one used what it used since its start", () => {
  const before = look(1000, 0, { bucket: 0, cpuMs: 9000 });
  const [device] = ratesOf(before, look(2000, 0, { bucket: 0, cpuMs: 100 })).devices;
  assert.is(device!.cpuPercent, 10);
  assert.is(device!.p50Us, undefined, "there was no request");
});

/** Against hangs only. */
const SHOWN_MS_MAX = 30_000;

/** A command on a pseudo-terminal of its own. */
class OnTerminal {
  readonly child: ChildProcess;
  text = "";

  constructor(command: string) {
    this.child = spawn("script", ["-qfec", command, "/dev/null"], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, SHELL: "/bin/sh", TERM: "xterm" },
    });
    this.child.stdout!.setEncoding("utf8").on("data", (text: string) => (this.text += text));
  }

  async until(shown: RegExp): Promise<void> {
    const end = performance.now() + SHOWN_MS_MAX;
    while (!shown.test(this.text)) {
      if (performance.now() > end || this.child.exitCode !== null) {
        this.child.kill("SIGKILL");
        throw new Error(`no ${shown} in:\n${this.text.slice(-2000)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  type(keys: string): void {
    this.child.stdin!.write(keys);
  }

  get ended(): Promise<number | null> {
    return new Promise((resolve) => this.child.once("close", resolve));
  }
}

const ENTER = "\u001b[?1049h\u001b[?25l";
const LEAVE = "\u001b[?25h\u001b[?1049l";

async function withVm(body: (vm: VmmProcess) => Promise<void>): Promise<void> {
  const reason = whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const params = "bench seconds=600 timeout=600";
  const vm = new VmmProcess("--name", "web", "--rng", "-p", params);
  try {
    await vm.until(() => vm.text.includes("queue of"));
    await body(vm);
  } finally {
    vm.process.kill("SIGKILL");
    await vm.exit;
  }
}

for (const [name, keys, status] of [
  ["q", "q", 0],
  ["Ctrl-C", "\u0003", 0],
] as const) {
  top(`top shows a VM again and again until ${name}, and puts the terminal back`, () =>
    withVm(async () => {
      const shell = `${process.execPath} ${BULKHEAD} top -i 0.2; echo left $?; stty -a`;
      const terminal = new OnTerminal(shell);
      await terminal.until(/(web +rng0 +running +[1-9].*\s[\s\S]*){3}/);
      terminal.type(keys);
      await terminal.until(/;? icanon/);
      await terminal.ended;
      assert.is(terminal.text.indexOf(ENTER), 0);
      const [, after = ""] = terminal.text.split(LEAVE);
      assert.match(after, `left ${status}`);
      assert.not.match(after, "-icanon");
    }),
  );
}

top("top puts the terminal back when a signal ends it", () =>
  withVm(async () => {
    const terminal = new OnTerminal(`echo pid $$; exec ${process.execPath} ${BULKHEAD} top -i 0.2`);
    await terminal.until(/web +rng0 +running/);
    process.kill(Number(/pid (\d+)/.exec(terminal.text)?.[1]), "SIGTERM");
    assert.is(await terminal.ended, 143);
    assert.match(terminal.text, LEAVE);
  }),
);

top("top goes on when a VM ends, and shows one that is started later", () =>
  withVm(async (vm) => {
    const terminal = new OnTerminal(`${process.execPath} ${BULKHEAD} top -i 0.2`);
    await terminal.until(/web +rng0 +running/);
    await vm.end();
    await terminal.until(/No VM runs/);
    const later = new VmmProcess("--name", "later", "--rng", "-p", "exit=hang");
    try {
      await terminal.until(/later +rng0 +running/);
    } finally {
      later.process.kill("SIGKILL");
      await later.exit;
    }
    terminal.type("q");
    assert.is(await terminal.ended, 0);
  }),
);

top.run();
