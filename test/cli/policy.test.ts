import { test } from "uvu";
import * as assert from "uvu/assert";
import { describeTests } from "../../host/cli/policy.js";
import { bulkhead, jsonLines } from "../support/bulkhead.js";

const ALL_BITS = (1n << 64n) - 1n;

test("describeTests() writes the tests of a rule as a reader would", () => {
  const fd = { arg: 0, mask: 0xffff_ffffn, values: [5n] };
  assert.is(describeTests({ syscall: "read", args: [fd] }), "fd = 5");
  const prot = { arg: 2, mask: ALL_BITS ^ 3n, values: [0n] };
  const flags = { arg: 3, mask: ALL_BITS, values: [0x22n] };
  assert.is(describeTests({ syscall: "mmap", args: [prot, flags] }), "prot & ~3 = 0, flags = 0x22");
  const advice = { arg: 2, mask: 0xffff_ffffn, values: [4n, 8n] };
  assert.is(describeTests({ syscall: "madvise", args: [advice] }), "advice = 4 or 8");
  assert.is(describeTests({ syscall: "brk", args: [] }), "always");
});

test("bulkhead policy rng gives each system call a reason, and at most 12 of them", () => {
  const { status, stdout } = bulkhead(["policy", "rng", "--json"]);
  assert.is(status, 0);
  const [policy] = jsonLines(stdout) as { syscalls: string[]; rules: { reason: string }[] }[];
  assert.ok(policy!.syscalls.length <= 12);
  assert.ok(policy!.rules.every(({ reason }) => reason.length > 0));
});

test("bulkhead policy rng pins reading to the descriptor of what is granted", () => {
  const { stdout } = bulkhead(["policy", "rng,source=/dev/zero"]);
  assert.match(stdout, /^read +fd = 5 +source: /m);
  assert.match(stdout, /^5 +source: file \/dev\/zero, read$/m);
});

test("bulkhead policy vmm prints what the VMM itself may do, and takes no grant", () => {
  const { status, stdout } = bulkhead(["policy", "vmm"]);
  assert.is(status, 0);
  assert.match(stdout, /^When its guest runs, the VMM may make \d+ system calls/);
  assert.match(stdout, /^ioctl +op = 0xae80 or .* a vCPU runs/m);
  assert.match(stdout, /^pidfd_send_signal +sig = 9 /m);
  const [policy] = jsonLines(bulkhead(["policy", "vmm", "--json"]).stdout);
  assert.equal(Object.keys(policy!), ["id", "syscalls", "rules", "otherwise"]);
  assert.is(bulkhead(["policy", "vmm", "--grant", "vmm0.x=file:y"]).status, 2);
});

test.run();
