// The walls with a later version of Node than the one that runs these tests: another V8 writes
// machine code at other times and reserves memory for it in other ways, and another Node makes
// other system calls. Any of that ends a device, or the VMM.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { fetchNode, NODES } from "../../build/nodes.js";
import { skip } from "../support/skip.js";

const RUNNER = fileURLToPath(new URL("../../build/test.js", import.meta.url));
const TIMEOUT_MS = 600_000;

/** Tests of what depends on the version, by parts of their names. */
const WORDS = [
  ...["runtime/process", "runtime/waiting-process", "sandbox/lockdown", "sandbox/spawn"],
  ...["sandbox/forwarder", "sandbox/vmm-policy", "machine/vm", "machine/restart", "cli/run"],
  ...["breach/process/kills", "breach/process/walls", "breach/vmm", "breach/warden"],
  ...["breach/wasm/bombs", "breach/wasm/endings", "breach/wasm/loops"],
];

/** Its program, or why there is none. In CI a failed download is an error. */
function find(version: string): { node: string } | { why: string } {
  try {
    return { node: fetchNode(version) };
  } catch (error) {
    if (process.env.CI === "true") throw error;
    return { why: (error as Error).message };
  }
}

for (const version of Object.keys(NODES)) {
  test(`devices are confined, and live, with Node ${version}`, () => {
    const found = find(version);
    if ("why" in found) {
      skip(`Node ${version}: ${found.why}`);
      return;
    }
    const { stdout } = spawnSync(found.node, [RUNNER, ...WORDS], {
      encoding: "utf8",
      timeout: TIMEOUT_MS,
      killSignal: "SIGKILL",
    });
    const [, passed, failed] = /^(\d+) passed, (\d+) failed/m.exec(stdout) ?? [];
    assert.is(failed, "0", stdout);
    assert.ok(Number(passed) > 100, `only ${passed} tests ran`);
  });
}

test.run();
