// A real process, confined, seen from outside; and what becomes of it when it tries to leave.

import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { allBits, SECUREBITS } from "../../host/sandbox/linux.js";
import { proofOf } from "../../host/sandbox/proof.js";
import type { SpawnOptions } from "../../host/sandbox/spawn.js";
import { note, skip } from "../support/skip.js";
import { perform, start } from "./support.js";

/** Rounds of garbage, each with 5000 calls into Wasm; a full collection every fourth. */
const CHURN_ROUNDS = 60;
const EBADF = 9;
const EAGAIN = 11;
const EINVAL = 22;
const EPERM = 1;
const PROT_READ_WRITE = 3;
const PROT_EXEC = 4;
/** 64 MiB of data, 80 of addresses, and what has been given back since. */
const GROWTH_BYTES_MAX = 96 * 1024 * 1024;
/** The largest linear memory that a module may have: 256 pages. */
const RESERVED_BYTES_MAX = 16 * 1024 * 1024;
const MAP_PRIVATE_ANONYMOUS = 0x22;

/** System calls with arguments for which they succeed, or fail harmlessly, without a filter. */
const FORBIDDEN = [
  "getuid",
  "getppid",
  "gettid",
  "fork",
  "socket 1 1 0",
  "memfd_create 0 0",
  "open 0 0 0",
  "openat 0 0 0",
  "kill 1 0",
  "ptrace 0 0 0 0",
  "dup 3",
  "eventfd2 0 0",
  "io_uring_setup 1 0",
  "userfaultfd 0",
  "bpf 0 0 0",
  "prctl 3 0 0 0 0",
  "rt_sigreturn",
  "ioctl 3 21505 0",
  "write 2 0 0",
  "write 3 0 0",
  "read 0 0 0",
  "read 3 0 0",
  "recvmsg 5 0 0",
  "sendmsg 2 0 0",
  "pread64 5 0 0 0",
  `mmap 0 4096 ${PROT_READ_WRITE | PROT_EXEC} ${MAP_PRIVATE_ANONYMOUS} -1 0`,
  `mmap 0 4096 ${PROT_READ_WRITE} 2 5 0`,
  `mprotect 0 0 ${PROT_EXEC}`,
  "madvise 0 0 9",
];

/** Those of the list whose success without a filter shows that it is the filter which kills. */
const CANARIES = ["getuid", "gettid", "write 2 0 0", "read 0 0 0", `mprotect 0 0 ${PROT_EXEC}`];

test("a confined process is seen from outside as confined as it says", async () => {
  const child = start("wait");
  try {
    assert.match(await child.hear(), /^{/);
    const proof = proofOf(child.process.pid);
    assert.is(proof.seccomp, 2);
    assert.is(proof.seccompFilters, 1);
    assert.is(proof.noNewPrivs, true);
    assert.is(proof.capabilities, "0000000000000000");
    assert.is(proof.signalsCaught, "0000000000000000");
    assert.is(proof.wxPages, 0);
    assert.ok(proof.threads <= 2, `${proof.threads} threads`);
    assert.equal(
      proof.fds.map(({ fd }) => fd),
      [0, 1, 2, 3, 5],
    );
    assert.is(proof.fds.at(-1)?.target, "/dev/urandom");
    assert.equal(proof.namespaces, ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"]);
    note(`private ${(proof.privateBytes / 2 ** 20).toFixed(1)} MiB, ${proof.threads} threads`);
  } finally {
    await child.close();
  }
});

test("every thread of a confined process has the filter", async () => {
  const child = start("wait");
  try {
    await child.hear();
    const tasks = `/proc/${child.process.pid}/task`;
    for (const tid of fs.readdirSync(tasks)) {
      const status = fs.readFileSync(`${tasks}/${tid}/status`, "latin1");
      assert.match(status, /^Seccomp:\t2$/m);
      assert.match(status, /^NoNewPrivs:\t1$/m);
      assert.match(status, /^CapEff:\t0{16}$/m);
    }
  } finally {
    await child.close();
  }
});

/** Looks at a process that is confined and waits. */
async function whileConfined<T>(
  look: (pid: number) => T,
  changes: Partial<SpawnOptions> = {},
): Promise<T> {
  const child = start("wait", changes);
  try {
    assert.match(await child.hear(), /^{/);
    return look(child.process.pid);
  } finally {
    await child.close();
  }
}

/** A file of its directory in /proc. */
function procFile(pid: number, name: string): string {
  return fs.readFileSync(`/proc/${pid}/${name}`, "latin1");
}

test("a confined process has limits that leave it nothing but some memory", async () => {
  const limits = await whileConfined((pid) => procFile(pid, "limits"));
  for (const none of [
    "core file size",
    "file size",
    "locked memory",
    "msgqueue size",
    "pending signals",
    "processes",
  ]) {
    assert.match(limits, new RegExp(`^Max ${none} +0 +0 `, "m"));
  }
  assert.match(limits, /^Max open files +6 +6 /m);
});

test("a confined process may have little more memory than it has", async () => {
  const [limits, status] = await whileConfined((pid) => [
    procFile(pid, "limits"),
    procFile(pid, "status"),
  ]);
  for (const [limit, size] of [
    ["data size", "VmData"],
    ["address space", "VmSize"],
  ]) {
    const [, soft, hard] = limits?.match(new RegExp(`^Max ${limit} +(\\d+) +(\\d+) `, "m")) ?? [];
    const kilobytes = Number(status?.match(new RegExp(`^${size}:\\s+(\\d+) kB$`, "m"))?.[1]);
    assert.is(soft, hard, limit);
    const growth = Number(soft) - kilobytes * 1024;
    assert.ok(growth > 0 && growth < GROWTH_BYTES_MAX, `${limit}: ${growth} bytes`);
  }
});

test("a confined process has reserved no more addresses than a memory may grow into", async () => {
  const maps = await whileConfined((pid) => procFile(pid, "maps"));
  const reserved = [...maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) ---p 00000000 00:00 0 *$/gm)];
  const sizes = reserved.map(([, from, to]) => Number(`0x${to}`) - Number(`0x${from}`));
  assert.ok(sizes.length > 0 && Math.max(...sizes) <= RESERVED_BYTES_MAX, sizes.join());
});

test("root's confined process is nobody, whom nobody else may look at", async () => {
  if (process.geteuid?.() !== 0) return skip("not root: nobody to become");
  const [status, uidMap, owner] = await whileConfined((pid) => [
    procFile(pid, "status"),
    procFile(pid, "uid_map"),
    fs.statSync(`/proc/${pid}/status`).uid,
  ]);
  assert.match(status, /^Uid:\t65534\t65534\t65534\t65534$/m);
  assert.match(status, /^Gid:\t65534\t65534\t65534\t65534$/m);
  assert.is(uidMap, "");
  assert.is(owner, 0, "its directory in /proc is its own: it is dumpable");
});

test("no thread can get a privilege, without a filter that would see to it", async () => {
  const proof = await whileConfined(proofOf, { seccomp: "off" });
  assert.is(proof.noNewPrivs, true);
  assert.is(proof.capabilities, "0000000000000000");
});

test("a confined process sees a read-only root with nothing in it but the runtime", async () => {
  const child = start("wait");
  try {
    await child.hear();
    const { pid } = child.process;
    const entries = (directory: string) => fs.readdirSync(`/proc/${pid}/root${directory}`).sort();
    assert.equal(entries("/"), ["bulkhead", "lib64", "proc"]);
    assert.equal(entries("/proc"), ["self"]);
    assert.equal(entries("/bulkhead"), ["dist", "lib", "node", "node_modules", "package.json"]);
    assert.equal(entries("/bulkhead/dist"), ["host", "test"]);
    assert.equal(entries("/bulkhead/dist/test"), ["sandbox"]);
    const mounts = fs.readFileSync(`/proc/${pid}/mountinfo`, "latin1").trim().split("\n");
    for (const line of mounts) assert.match(line.split(" ")[5] ?? "", /^ro,nosuid,nodev/);
  } finally {
    await child.close();
  }
});

for (const call of FORBIDDEN) {
  test(`a confined process is denied ${call}, and does not get over it`, async () => {
    const [name, ...args] = call.split(" ");
    const { said } = await perform(`call ${call}`);
    const hex = args.map((arg) => `0x${BigInt.asUintN(64, BigInt(arg)).toString(16)}`);
    assert.ok(said.startsWith(`denied ${name}(${hex.join(", ")}`), said);
  });
}

for (const call of CANARIES) {
  test(`without a filter the same process survives ${call}`, async () => {
    const { said, report } = await perform(`call ${call}`, { seccomp: "off" });
    assert.match(said, /^result /);
    assert.is(report.seccomp, "off");
  });
}

test("in log mode the call is told and let through, and the report says so", async () => {
  const { said, report, denied } = await perform("call getuid", { seccomp: "log" });
  assert.match(said, /^result /);
  assert.equal(denied, ["getuid(0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"]);
  assert.is(report.seccomp, "log");
});

test("without a filter there is still no file, no descriptor, no process to reach", async () => {
  const off = { seccomp: "off" } as const;
  assert.is((await perform("call dup2 3 6", off)).said, `errno ${EBADF}`); // RLIMIT_NOFILE
  assert.is((await perform("call read 4 0 0", off)).said, `errno ${EBADF}`);
  assert.is((await perform("call fork", off)).said, `errno ${EAGAIN}`); // RLIMIT_NPROC
  assert.is((await perform("call setuid 1", off)).said, `errno ${EINVAL}`); // no such user inside
  assert.is((await perform("call unshare 131072", off)).said, `errno ${EPERM}`); // CLONE_NEWNS
});

test("without a filter it is root nowhere, and does not know its host", async () => {
  const off = { seccomp: "off" } as const;
  const PR_GET_SECUREBITS = 27;
  const bits = allBits(SECUREBITS);
  const { said } = await perform(`call prctl ${PR_GET_SECUREBITS} 0 0 0 0`, off);
  assert.is(said, `result ${bits}`);
  assert.is((await perform("hostname", off)).said, "bulkhead");
});

test("its own descriptor may be read, and anonymous memory be mapped", async () => {
  assert.is((await perform("call read 5 0 0")).said, "result 0");
  const map = `call mmap 0 4096 ${PROT_READ_WRITE} ${MAP_PRIVATE_ANONYMOUS} -1 0`;
  assert.match((await perform(map)).said, /^result \d+$/);
});

test("V8 collects garbage for a long time under the filter, and Wasm is called", async () => {
  assert.match((await perform(`churn ${CHURN_ROUNDS}`)).said, /^sum /);
});

test("a trap in Wasm and an endless recursion are exceptions under the filter", async () => {
  const { said } = await perform("trap");
  assert.match(said, /^RuntimeError: memory access out of bounds; RangeError: /);
});

test("a process that uses up its memory dies, and not the host's memory with it", async () => {
  // V8 would like to say so on stderr, which no policy allows.
  assert.match((await perform("hog")).said, /^denied write\(0x2, |^was killed by/);
});

test("a confined process survives being stopped and continued", async () => {
  const child = start("add 1 2");
  try {
    await child.hear();
    const { pid } = child.process;
    process.kill(pid, "SIGSTOP");
    const state = () => fs.readFileSync(`/proc/${pid}/stat`, "latin1").split(" ")[2];
    while (state() !== "T") await new Promise((resolve) => setTimeout(resolve, 1));
    process.kill(pid, "SIGCONT");
    child.go();
    assert.is(await child.hear(), "sum 4");
  } finally {
    await child.close();
  }
});

test.run();
