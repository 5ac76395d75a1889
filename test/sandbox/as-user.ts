// Starts a confined process as whoever runs this, and prints what came of it as JSON: what the
// kernel says of it, or the error. Arguments: module, "strict" or "weak".

import { setTimeout as sleep } from "node:timers/promises";
import { recv } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";
import type { Weakness } from "../../host/sandbox/pieces.js";
import { type Proof, proofOf } from "../../host/sandbox/proof.js";
import { spawnDevice } from "../../host/sandbox/spawn.js";
import { Guard } from "../support/guard.js";
import { childProgram } from "./program.js";

export interface Result {
  weak?: readonly Weakness[];
  proof?: Proof;
  error?: string;
}

async function run(module: string, allowWeak: boolean): Promise<Result> {
  const grant = { name: "source", kind: "file", what: "/dev/zero" } as const;
  const grants = [{ ...grant, rights: ["read" as const] }];
  const entry = childProgram;
  const seccomp = "enforce";
  const device = spawnDevice({ id: "wait", module, grants, seccomp, allowWeak, entry });
  let ended: string | undefined;
  device.onExit(({ reason }) => {
    ended = reason;
  });
  const guard = new Guard(device, seccomp);
  const buffer = Mapping.anonymous(4096);
  try {
    while (!guard.poll() || recv(device.socketFd, buffer.address, buffer.bytes, 0) <= 0) {
      if (ended !== undefined) return { error: ended };
      await sleep(1);
    }
    return { weak: device.weak, proof: proofOf(device.pid) };
  } finally {
    device.close();
  }
}

const [module = "", strength] = process.argv.slice(2);
const result = await run(module, strength === "weak").catch((error: Error) => {
  return { error: error.message };
});
process.stdout.write(`${JSON.stringify(result)}\n`);
