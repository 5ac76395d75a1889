// A real process, confined, seen from outside; and what becomes of it when it tries to leave.

import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { proofOf } from "../../host/sandbox/proof.js";
import { note } from "../support/skip.js";
import { perform, start } from "./support.js";

/** Rounds of garbage, each with 5000 calls into Wasm; a full collection every fourth. */
const CHURN_ROUNDS = 60;
const EBADF = 9;
const EAGAIN = 11;
const EINVAL = 22;
const EPERM = 1;
const PROT_READ_WRITE = 3;
const PROT_EXEC = 4;
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

test("a confined process has limits that leave it nothing but some memory", async () => {
  const child = start("wait");
  try {
    await child.hear();
    const limits = fs.readFileSync(`/proc/${child.process.pid}/limits`, "latin1");
    assert.match(limits, /^Max core file size +0 +0/m);
    assert.match(limits, /^Max processes +0 +0/m);
    assert.match(limits, /^Max open files +6 +6/m);
    assert.match(limits, /^Max file size +0 +0/m);
    assert.match(limits, /^Max data size +\d+ +\d+ +bytes/m);
  } finally {
    await child.close();
  }
});

test("a confined process sees a read-only root with nothing in it but the runtime", async () => {
  const child = start("wait");
  try {
    await child.hear();
    const { pid } = child.process;
    const entries = (directory: string) => fs.readdirSync(`/proc/${pid}/root${directory}`).sort();
    assert.equal(entries("/"), ["bulkhead", "lib64", "proc"]);
    assert.equal(entries("/proc"), ["self"]);
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
