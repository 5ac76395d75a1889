// What proofOf() makes of processes that are only partly confined: the weakest thread counts, and
// every set of capabilities.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { proofOf } from "../../host/sandbox/proof.js";
import { skip } from "../support/skip.js";

const isRoot = process.geteuid?.() === 0;

const FFI = new URL("../../host/ffi/", import.meta.url);

/** A process whose main thread alone has no_new_privs, a filter and no capability. */
const HALF_CONFINED = `
  import { prctl, syscall } from "${FFI}libc.js";
  import { Mapping } from "${FFI}memory.js";
  const [PR_SET_NO_NEW_PRIVS, capset, seccomp] = [38, 126, 317];
  const { view, address } = Mapping.anonymous(64);
  view.setUint16(0, 1, true); // struct sock_fprog, then "return SECCOMP_RET_ALLOW"
  view.setBigUint64(8, BigInt(address + 16), true);
  view.setBigUint64(16, 0x7fff_0000_0000_0006n, true);
  view.setUint32(32, 0x2008_0522, true); // _LINUX_CAPABILITY_VERSION_3, then no capability
  const done = [
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
    syscall(seccomp, 1, 0, address, 0, 0, 0),
    syscall(capset, address + 32, address + 40, 0, 0, 0, 0),
  ];
  console.log(done.join());
  setInterval(() => {}, 1000);`;

async function end(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

test("proofOf() sees what the least confined thread of a process has", async () => {
  const node = spawn(process.execPath, ["--input-type=module", "-e", HALF_CONFINED]);
  try {
    const [said] = (await once(node.stdout, "data")) as [Buffer];
    assert.is(said.toString(), "0,0,0\n");
    const own = proofOf(process.pid);
    const { threads, seccomp, seccompFilters, noNewPrivs, capabilities } = proofOf(node.pid ?? 0);
    assert.ok(threads > 1);
    assert.equal([seccomp, seccompFilters], [own.seccomp, own.seccompFilters]);
    assert.is(noNewPrivs, own.noNewPrivs);
    assert.is(capabilities, own.capabilities);
  } finally {
    await end(node);
  }
});

test("proofOf() sees a capability that is only inheritable", async () => {
  const arguments_ = ["--reuid=12345", "--regid=12345", "--clear-groups", "--inh-caps=+sys_admin"];
  const works = spawnSync("setpriv", [...arguments_, "true"]).status === 0;
  if (!isRoot || !works) return skip("root and setpriv are needed to leave a capability behind");
  const shell = spawn("setpriv", [...arguments_, "sh", "-c", "echo ready; exec sleep 1000"]);
  try {
    await once(shell.stdout, "data");
    assert.is(proofOf(shell.pid ?? 0).capabilities, "0000000000200000");
  } finally {
    await end(shell);
  }
});

test.run();
