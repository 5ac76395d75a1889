// The compiler from policy to BPF, checked by running its programs in an interpreter.

import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  __X32_SYSCALL_BIT,
  AUDIT_ARCH_X86_64,
  compilePolicy,
  SECCOMP_RET_ALLOW,
  SECCOMP_RET_KILL_PROCESS,
  SECCOMP_RET_LOG,
} from "../../host/sandbox/bpf.js";
import {
  type ArgTest,
  allow,
  fd,
  is,
  masked,
  oneOf,
  type Policy,
  policyOf,
  type Rule,
} from "../../host/sandbox/policy.js";
import { evaluate } from "./bpf-interpreter.js";

const READ = 0;
const MMAP = 9;
const AUDIT_ARCH_I386 = 0x4000_0003;
const SYSCALLS = 512;

function allows(rules: Rule[], nr: number, ...args: (number | bigint)[]): boolean {
  const program = compilePolicy({ rules });
  const answer = evaluate(program, { nr, args: args.map(BigInt) });
  assert.ok(answer === SECCOMP_RET_ALLOW || answer === SECCOMP_RET_KILL_PROCESS, `${answer}`);
  return answer === SECCOMP_RET_ALLOW;
}

test("compilePolicy() of an empty policy kills everything", () => {
  for (let nr = 0; nr < SYSCALLS; nr++) assert.not.ok(allows([], nr));
});

test("compilePolicy() allows a rule without tests whatever the arguments", () => {
  const rules = [allow("getpid", "a test")];
  assert.ok(allows(rules, 39, -1n, 0, 1, 2, 3, 4));
  assert.not.ok(allows(rules, 38));
  assert.not.ok(allows(rules, 40));
});

test("compilePolicy() compares an int argument in 32 bits, as the kernel reads it", () => {
  const rules = [allow("read", "a test", fd(0, 5))];
  assert.ok(allows(rules, READ, 5));
  assert.not.ok(allows(rules, READ, 4));
  // The kernel drops the upper half too: this is descriptor 5, not a way around the rule.
  assert.ok(allows(rules, READ, 0x1_0000_0005n));
  assert.not.ok(allows(rules, READ, 0x5_0000_0000n));
});

test("compilePolicy() compares both halves of a 64-bit argument", () => {
  const whole: ArgTest = { arg: 1, mask: 2n ** 64n - 1n, values: [0x1_0000_0002n] };
  const rules = [allow("read", "a test", whole)];
  assert.ok(allows(rules, READ, 0, 0x1_0000_0002n));
  assert.not.ok(allows(rules, READ, 0, 2));
  assert.not.ok(allows(rules, READ, 0, 0x1_0000_0000n));
  assert.not.ok(allows(rules, READ, 0, 0x2_0000_0002n));
});

test("compilePolicy() masks before it compares, in either half", () => {
  const rules = [allow("mmap", "a test", masked(2, 0xf000_0000_0000_0004n, 0))];
  assert.ok(allows(rules, MMAP, 0, 0, 3));
  assert.not.ok(allows(rules, MMAP, 0, 0, 7));
  assert.ok(allows(rules, MMAP, 0, 0, 0x0fff_ffff_ffff_fffbn));
  assert.not.ok(allows(rules, MMAP, 0, 0, 0x1000_0000_0000_0000n));
});

test("compilePolicy() takes any one of several values", () => {
  const rules = [allow("read", "a test", oneOf(5, [3, 7, 11]))];
  const taken = [...Array(16).keys()].filter((value) => allows(rules, READ, 0, 0, 0, 0, 0, value));
  assert.equal(taken, [3, 7, 11]);
});

test("compilePolicy() wants every test of one rule, and any one rule of a system call", () => {
  const rules = [
    allow("read", "one", fd(0, 5), is(2, 8)),
    allow("getpid", "between them"),
    allow("read", "two", fd(0, 6), is(2, 9)),
  ];
  for (const [fdNumber, count] of [
    [5, 8],
    [6, 9],
  ] as const) {
    assert.ok(allows(rules, READ, fdNumber, 0, count));
  }
  for (const [fdNumber, count] of [
    [5, 9],
    [6, 8],
    [5, 0],
    [7, 8],
  ] as const) {
    assert.not.ok(allows(rules, READ, fdNumber, 0, count));
  }
});

test("compilePolicy() kills another architecture and x32, in log mode too", () => {
  const policy = { rules: [allow("read", "a test")] };
  for (const denied of [SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_LOG]) {
    const program = compilePolicy(policy, denied);
    const foreign = [
      { nr: READ, arch: AUDIT_ARCH_I386 },
      { nr: READ, arch: AUDIT_ARCH_X86_64 & 0x7fff_ffff },
      { nr: READ | __X32_SYSCALL_BIT },
      { nr: -1 },
    ];
    for (const call of foreign) assert.is(evaluate(program, call), SECCOMP_RET_KILL_PROCESS);
    assert.is(evaluate(program, { nr: READ }), SECCOMP_RET_ALLOW);
    assert.is(evaluate(program, { nr: READ + 1 }), denied);
  }
});

test("compilePolicy() refuses a program that the kernel would not take", () => {
  const values = [...Array(5000).keys()];
  const rules = [allow("read", "a test", oneOf(0, values))];
  assert.throws(() => compilePolicy({ rules }), /jump|instructions/);
});

/** The policy's own meaning, without BPF. */
function meaning({ rules }: Policy, nr: number, args: readonly bigint[]): boolean {
  return rules.some(
    (rule) =>
      rule.nr === nr &&
      rule.args.every(({ arg, mask, values }) => values.some((v) => (args[arg]! & mask) === v)),
  );
}

/** Arguments worth trying: each value that some rule names, its neighbours, and the far ends. */
function interesting({ rules }: Policy): bigint[] {
  const named = rules.flatMap((rule) => rule.args.flatMap((each) => each.values));
  const near = named.flatMap((value) => [
    value,
    value + 1n,
    value ^ (1n << 32n),
    value | (1n << 63n),
  ]);
  const ends = [0n, 1n, 2n, 4n, 7n, 0xffff_ffffn, 1n << 32n, (1n << 64n) - 1n];
  return [...new Set([...near, ...ends])];
}

test("a device's filter means its policy for every system call and argument", () => {
  const rights: ("read" | "write")[] = ["read", "write"];
  const grants = [
    { name: "source", kind: "file", rights: [...rights], fd: 5 } as const,
    { name: "more", kind: "file", rights: [...rights], fd: 6 } as const,
  ].map((grant) => ({ ...grant, rights: [...grant.rights] }));
  const imports = ["fd_read", "fd_write", "fd_pread", "fd_pwrite"].map((name) => ({
    module: "wasi_snapshot_preview1",
    name,
  }));
  const policy = policyOf({ socketFd: 3, grants, imports });
  const program = compilePolicy(policy);
  const values = interesting(policy);
  let [tried, allowed] = [0, 0];
  for (let nr = 0; nr < SYSCALLS; nr++) {
    const tested = policy.rules.filter((rule) => rule.nr === nr).flatMap((rule) => rule.args);
    const positions = new Set(tested.map((each) => each.arg));
    // Arguments that no rule looks at stay 0; those that one does take every combination of values.
    let combinations: bigint[][] = [[0n, 0n, 0n, 0n, 0n, 0n]];
    for (const position of positions) {
      combinations = combinations.flatMap((args) =>
        values.map((value) => args.with(position, value)),
      );
    }
    for (const args of combinations) {
      const answer = evaluate(program, { nr, args });
      const expected = meaning(policy, nr, args) ? SECCOMP_RET_ALLOW : SECCOMP_RET_KILL_PROCESS;
      assert.is(answer, expected, `${nr}(${args})`);
      tried++;
      if (expected === SECCOMP_RET_ALLOW) allowed++;
    }
  }
  assert.ok(tried > 2000, `only ${tried} combinations`);
  assert.ok(allowed > 50, `only ${allowed} of ${tried} allowed`);
});

test.run();
