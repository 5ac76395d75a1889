// A process that confines itself as a VMM does and then makes a call for every rule of its policy,
// or, in "misses", is refused every near miss. It prints what they led to as JSON.

import { constants, openSync, writeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { _exit } from "../../../host/ffi/libc.js";
import { prepareConfinement, vmmPolicy } from "../../../host/machine/confine.js";
import { CONTROL_FD } from "../../../host/machine/control-socket.js";
import { compilePolicy } from "../../../host/sandbox/bpf.js";
import { importsOf, WASI_MODULE } from "../../../host/sandbox/grants.js";
import type { Policy } from "../../../host/sandbox/policy.js";
import type { InlineDevice } from "../../../host/sandbox/vmm-policy.js";
import { allowedArguments, holds, nearMisses } from "../process/exercise.js";
import { Native } from "../process/native.js";
import { harmless, install } from "../process/variant.js";

/** What Node does at the end of a signal handler, of a thread and of the process. */
export const DONE_BY_NODE: readonly string[] = ["rt_sigreturn", "exit", "exit_group"];

/** Which rules a call got through by, and the results of near misses of each rule. */
export interface Report {
  hit: number[];
  missed: number[][];
}

/** An inline device with all rights to a file, and with a peer. */
export function inlineDevice(fds: { data: number; line: number }): InlineDevice {
  const rights: ("read" | "write")[] = ["read", "write"];
  const imported = new Set([...importsOf("file", rights), ...importsOf("unix", ["connect"])]);
  return {
    id: "inline0",
    grants: [
      { name: "data", kind: "file", rights, fd: fds.data },
      { name: "line", kind: "unix", rights: ["connect"], fd: fds.line },
    ],
    imports: [...imported].map((name) => ({ module: WASI_MODULE, name })),
  };
}

function opened(): InlineDevice {
  const flags = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK;
  return inlineDevice({ data: openSync("/dev/zero", "r+"), line: openSync("/dev/ptmx", flags) });
}

/** A thread that is there before the filter and ends under it. */
async function thread(): Promise<{ end(): Promise<unknown> }> {
  const word = new Int32Array(new SharedArrayBuffer(4));
  const source = "Atomics.wait(require('node:worker_threads').workerData, 0, 0)";
  const worker = new Worker(source, { eval: true, workerData: word });
  const ended = new Promise((resolve) => worker.once("exit", resolve));
  await new Promise((resolve) => worker.once("online", resolve));
  return {
    end: () => {
      Atomics.store(word, 0, 1);
      Atomics.notify(word, 0);
      return ended;
    },
  };
}

function hits(native: Native, policy: Policy): number[] {
  const hit: number[] = [];
  for (const rule of policy.rules) {
    if (DONE_BY_NODE.includes(rule.syscall)) continue;
    for (const args of allowedArguments(native, rule)) {
      native.raw(rule.nr, ...args);
      const first = policy.rules.findIndex((each) => each.nr === rule.nr && holds(each, args));
      hit.push(first);
    }
    native.reset();
  }
  return hit;
}

async function exercise(): Promise<Report> {
  const inline = [opened()];
  const confined = { inline, transport: "pci", controlFd: CONTROL_FD } as const;
  const { policy } = vmmPolicy(confined);
  const native = new Native();
  let handled = 0;
  for (const signal of ["SIGUSR2", "SIGABRT", "SIGSEGV"] as const)
    process.on(signal, () => handled++);
  const worker = await thread();
  (await prepareConfinement("enforce", confined))();
  const hit = hits(native, policy);
  while (handled < 3) await new Promise((resolve) => setTimeout(resolve, 1));
  await worker.end();
  return { hit, missed: [] };
}

function miss(): Report {
  const { policy } = vmmPolicy({ inline: [opened()], transport: "pci", controlFd: CONTROL_FD });
  const native = new Native();
  const calls = policy.rules.map((rule) => {
    native.reset();
    return DONE_BY_NODE.includes(rule.syscall) ? [] : nearMisses(native, rule, policy);
  });
  if (install(native, harmless(compilePolicy(policy))) !== 0) throw new Error("no filter");
  const missed = calls.map((all, index) => {
    const { nr } = policy.rules[index]!;
    return [...new Set(all.map((args) => native.raw(nr, ...args)))];
  });
  return { hit: [], missed };
}

const [, program = "", what] = process.argv;
if (import.meta.url.endsWith(program) && what !== undefined) {
  writeSync(1, JSON.stringify(what === "misses" ? miss() : await exercise()));
  _exit(0);
}
