// Starts a confined process as whoever runs this, and prints what came of it as JSON: what the
// kernel says of it, and what came of its deed, or the error. Arguments: module, "strict" or
// "weak", deed, mode of seccomp.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { recv, write } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";
import type { SeccompMode } from "../../host/sandbox/lockdown.js";
import type { Weakness } from "../../host/sandbox/pieces.js";
import { type Proof, proofOf } from "../../host/sandbox/proof.js";
import { spawnDevice } from "../../host/sandbox/spawn.js";
import { Guard } from "../support/guard.js";
import { childProgram } from "./program.js";

export interface Result {
  weak?: readonly Weakness[];
  proof?: Proof;
  error?: string;
  /** What it said after its deed, or how that ended it. */
  end?: string;
  /** Supplementary groups of the process. */
  groups?: string;
  /** Nothing was mounted or unmounted here. */
  mountsKept?: boolean;
}

function mounts(): string {
  return readFileSync("/proc/self/mountinfo", "latin1");
}

function groupsOf(pid: number): string | undefined {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  return status.match(/^Groups:\t(.*?) *$/m)?.[1];
}

interface Wanted {
  module: string;
  allowWeak: boolean;
  deed: string;
  seccomp: SeccompMode;
}

async function run({ deed, seccomp, ...wanted }: Wanted): Promise<Result> {
  const grant = { name: "source", kind: "file", what: "/dev/zero" } as const;
  const grants = [{ ...grant, rights: ["read" as const] }];
  const before = mounts();
  const device = spawnDevice({ id: deed, grants, seccomp, entry: childProgram, ...wanted });
  let ended: string | undefined;
  device.onExit(({ reason }) => {
    ended = reason;
  });
  const guard = new Guard(device, seccomp);
  const buffer = Mapping.anonymous(4096);
  /** Its next message; undefined when it has ended. */
  const hear = async (): Promise<string | undefined> => {
    for (; ended === undefined; await sleep(1)) {
      const bytes = guard.poll() ? recv(device.socketFd, buffer.address, buffer.bytes, 0) : -1;
      if (bytes > 0) return new TextDecoder().decode(buffer.view.buffer.slice(0, bytes));
    }
    return undefined;
  };
  try {
    if ((await hear()) === undefined) return { error: ended ?? "?" };
    const mountsKept = mounts() === before;
    const proof = proofOf(device.pid);
    const groups = groupsOf(device.pid) ?? "?";
    write(device.socketFd, buffer.address, 1);
    const end = (await hear()) ?? ended ?? "?";
    return { weak: device.weak, proof, groups, mountsKept, end };
  } finally {
    device.close();
  }
}

const [module = "", strength, deed = "wait", seccomp = "enforce"] = process.argv.slice(2);
const wanted = { module, allowWeak: strength === "weak", deed, seccomp: seccomp as SeccompMode };
const result = await run(wanted).catch((error: Error) => {
  return { error: error.message };
});
process.stdout.write(`${JSON.stringify(result)}\n`);
