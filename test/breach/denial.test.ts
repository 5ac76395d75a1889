// A device that makes a system call which its policy does not allow: what becomes of it, and what
// the user is told, in every mode of --seccomp.

import { spawnSync } from "node:child_process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { EXIT } from "../../host/errors.js";
import { syscallNumber } from "../../host/sandbox/syscalls.js";
import { ENTROPY_GUEST, jsonLines, whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";
import { changedBulkhead, rogueBulkhead } from "./support/rogue.js";

const TIMEOUT_MS = 60_000;
/** Harmless, so that it can be let through; no policy allows it. */
const CALL = "getsid(0x2, 0x1, 0x0, 0x0, 0x0, 0x0)";

interface Told {
  status: number | null;
  events: Record<string, unknown>[];
}

function run(bulkhead: string, ...options: string[]): Told {
  const args = ["run", ENTROPY_GUEST, "--rng", "-p", "bytes=4096 timeout=20", "--json", ...options];
  const node = [bulkhead, ...args];
  const { status, stdout } = spawnSync(process.execPath, node, {
    encoding: "utf8",
    timeout: TIMEOUT_MS,
  });
  return { status, events: jsonLines(stdout) };
}

/** Texts of the log events of rng0 that name the call. */
function toldOf({ events }: Told): string[] {
  const logs = events.filter(({ event, id }) => event === "log" && id === "rng0");
  return logs.map(({ text }) => String(text)).filter((text) => text.includes("getsid("));
}

const reason = whyNoKvm();
if (reason !== undefined) {
  skip(reason);
} else {
  const bulkhead = rogueBulkhead(`syscall(${syscallNumber("getsid")}, 2, 1, 0, 0, 0, 0)`);

  test("in enforce it is killed, and the message names device, call and arguments", () => {
    const told = run(bulkhead, "--on-device-failure", "stop");
    const what = `the system call ${CALL}, which its policy does not allow`;
    const exits = told.events.filter(({ event }) => event === "device-exit");
    assert.ok(exits.length > 1, "it is started again, and dies again");
    for (const exit of exits) {
      assert.is(exit.id, "rng0");
      assert.is(exit.reason, `was killed because it tried ${what}`);
    }
    assert.ok(toldOf(told).includes(`killed: it tried ${what}`));
    assert.is(told.status, 5);
  });

  test("not even the first denied call is let through, unless it is the farewell", () => {
    const imports = 'import { IOWR } from "../ffi/ioctl.js";';
    const handOver = "sendDescriptor(socketFd, listener);";
    const getsid = `libc.syscall(${syscallNumber("getsid")}, 2, 1, 0, 0, 0, 0);`;
    const file = "sandbox/denial.js";
    const hasty = changedBulkhead(
      { file, from: imports, to: `${imports}\nimport * as libc from "../ffi/libc.js";` },
      { file, from: handOver, to: `${handOver} ${getsid}` },
    );
    const told = run(hasty);
    const [exit] = told.events.filter(({ event }) => event === "device-exit");
    assert.is(
      exit?.reason,
      `was killed because it tried the system call ${CALL}, which its policy does not allow`,
    );
    assert.is(told.status, EXIT.sandboxFailed);
  });

  test("in log it is told and let through, and the guest has its bytes", () => {
    const told = run(bulkhead, "--seccomp", "log");
    const [first, ...others] = new Set(toldOf(told));
    assert.is(first, `let through: the system call ${CALL}, which its policy does not allow`);
    assert.equal(others, []);
    assert.is(told.status, 0);
  });

  test("in off nobody notices", () => {
    const told = run(bulkhead, "--seccomp", "off");
    assert.equal(toldOf(told), []);
    assert.is(told.status, 0);
  });
}

test.run();
