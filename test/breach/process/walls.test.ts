// What is done twice, at the launch and at the lock-down, each seen without the other: neither may
// rest on the other's being there.

import { closeSync, openSync, readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { fcntl } from "../../../host/ffi/libc.js";
import { landlockAbi } from "../../../host/sandbox/landlock.js";
import { type Proof, proofOf } from "../../../host/sandbox/proof.js";
import { skip } from "../../support/skip.js";
import {
  Attacker,
  type AttackerOptions,
  imageGrant,
  missingNamespaces,
  NOBODY,
} from "../support/attacker.js";
import type { Finding } from "./goal.js";

const F_SETFD = 2;
const NO_CAPABILITIES = "0000000000000000";
/** Launched as every device is, and no lock-down. */
const LAUNCHED = { confine: "not at all" } as const;
/** A plain child of this process, as powerful as this process is, and then the lock-down. */
const LOCKED_DOWN = { walls: "nothing", confine: "wholly", seccomp: "enforce" } as const;

/** Looks at an attacker that stands where it is to attack from. */
async function lookAt<T>(options: AttackerOptions, look: (pid: number) => T): Promise<T> {
  const attacker = new Attacker({ deed: "nothing", context: NOBODY }, options);
  try {
    await attacker.ready();
    return look(attacker.process.pid);
  } finally {
    await attacker.close();
  }
}

function targetsOf({ fds }: Proof): string[] {
  return fds.map(({ target }) => target);
}

/** Lines of /proc/PID/status that the kernel keeps for the main thread. */
function statusOf(pid: number): string {
  return readFileSync(`/proc/${pid}/status`, "latin1");
}

const missing = await missingNamespaces();
if (missing !== undefined) {
  skip(missing);
} else {
  test("before the lock-down no thread has a privilege, and none can get one", async () => {
    const proof = await lookAt(LAUNCHED, proofOf);
    assert.is(proof.noNewPrivs, true);
    assert.is(proof.capabilities, NO_CAPABILITIES);
    assert.ok(proof.threads > 1);
  });

  test("before the lock-down it has no file open but its own", async () => {
    const image = imageGrant();
    const inherited = openSync(imageGrant().what, "r");
    fcntl(inherited, F_SETFD, 0);
    const launched = { ...LAUNCHED, grants: [image] };
    const proof = await lookAt(launched, proofOf).finally(() => closeSync(inherited));
    const files = targetsOf(proof).filter((target) => target.startsWith("/"));
    assert.equal(files, ["/dev/null", "/dev/null", image.what]);
  });

  test("before the lock-down its memory is limited", async () => {
    const limits = await lookAt(LAUNCHED, (pid) => readFileSync(`/proc/${pid}/limits`, "latin1"));
    const MIB = 1024 * 1024;
    assert.match(limits, new RegExp(`^Max data size +${160 * MIB} +${160 * MIB}`, "m"));
  });

  test("before the lock-down Landlock lets it write no file, not even its own", async () => {
    if (landlockAbi() === 0) return skip("this kernel has no Landlock");
    const deed = "write its image: reopened for writing through /proc/self/fd";
    const attacker = new Attacker({ deed, context: NOBODY }, LAUNCHED);
    try {
      await attacker.ready();
      attacker.go();
      const finding = JSON.parse((await attacker.hear()) ?? "{}") as Finding;
      assert.equal(finding, { reached: false, detail: "EACCES" });
    } finally {
      await attacker.close();
    }
  });

  test("the lock-down by itself takes descriptors, privileges, handlers and code", async () => {
    const proof = await lookAt(LOCKED_DOWN, proofOf);
    assert.equal(
      proof.fds.map(({ fd }) => fd),
      [0, 1, 2, 3, 5],
    );
    assert.is(proof.noNewPrivs, true);
    assert.is(proof.seccompFilters, 1);
    assert.is(proof.signalsCaught, NO_CAPABILITIES);
    assert.is(proof.wxPages, 0);
  });

  test("the lock-down by itself leaves its thread no capability", async () => {
    const status = await lookAt(LOCKED_DOWN, statusOf);
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapAmb"]) {
      assert.match(status, new RegExp(`^${set}:\\t${NO_CAPABILITIES}$`, "m"));
    }
  });
}

test.run();
