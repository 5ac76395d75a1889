// Every number of a system call, from an owned process: none that the policy does not name gets
// through, by no door.

import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { __X32_SYSCALL_BIT, compilePolicy, SOCK_FILTER_BYTES } from "../../../host/sandbox/bpf.js";
import { liveFilters } from "../../../host/sandbox/live-filter.js";
import { inspectModule } from "../../../host/sandbox/manifest.js";
import { policyOfDevice } from "../../../host/sandbox/policy.js";
import { skip } from "../../support/skip.js";
import {
  Attacker,
  imageGrant,
  missingNamespaces,
  NOBODY,
  RNG_MODULE,
} from "../support/attacker.js";
import type { Swept } from "./deeds.js";
import { numbersToSweep } from "./numbers.js";
import { harmless, killsOf, REFUSED_FIRST } from "./variant.js";

const image = imageGrant();
const policy = policyOfDevice(inspectModule(fs.readFileSync(RNG_MODULE)), [image]);
const program = compilePolicy(policy);

interface Sweep extends Swept {
  /** The filter of the process afterwards, if this process may read it. */
  filter: Uint8Array | undefined;
}

async function sweep(): Promise<Sweep> {
  const order = { deed: "sweep", context: NOBODY };
  const attacker = new Attacker(order, { seccomp: "off", grants: [image] });
  try {
    await attacker.ready();
    attacker.go();
    const said = await attacker.hear();
    if (said?.startsWith("{") !== true) throw new Error(`the sweep ended early: ${said}`);
    const filter = liveFilters(attacker.process.pid)?.[0];
    return { ...(JSON.parse(said) as Swept), filter };
  } finally {
    await attacker.close();
  }
}

function expected(nr: bigint): number {
  const seen = Number(BigInt.asUintN(32, nr));
  return -(REFUSED_FIRST + (seen >= __X32_SYSCALL_BIT ? 1 : killsOf(program).length - 1));
}

test("harmless() changes what a refusal leads to and nothing else", () => {
  const copy = harmless(program);
  assert.is(copy.length, program.length);
  const changed = [...copy.keys()].filter((i) => copy[i] !== program[i]);
  const words = new Set(killsOf(program));
  assert.ok(changed.length > 0);
  assert.equal(
    changed.filter((i) => !words.has(i - (i % 4))),
    [],
  );
  // Each of its refusals is a return, and there are as many as system calls, and three more.
  const codes = [...words].map((at) => program[at - SOCK_FILTER_BYTES / 2]);
  assert.equal([...new Set(codes)], [0x06]);
  const syscalls = new Set(policy.rules.map(({ nr }) => nr));
  assert.is(words.size, syscalls.size + 3);
});

const missing = await missingNamespaces();
if (missing !== undefined) {
  skip(missing);
} else {
  const { results, int80, filter } = await sweep();
  const numbers = numbersToSweep(policy);

  test("every number that the policy does not name is refused, whatever the arguments", () => {
    assert.ok(numbers.length > 1100);
    for (const [vector, all] of results.entries()) {
      assert.is(all.length, numbers.length);
      const wrong = numbers.filter((nr, i) => all[i] !== expected(nr));
      assert.equal(wrong, [], `with arguments ${vector}`);
    }
  });

  test("every 32-bit system call is refused, by the first instruction that looks", () => {
    const others = int80.filter((result) => result !== -REFUSED_FIRST);
    // A kernel without 32-bit system calls has no such door: the instruction faults, and the
    // process would not have come so far.
    assert.equal(others, []);
  });

  test("the kernel had the very program of the policy, but for what refusals lead to", () => {
    if (filter === undefined) return skip("reading a live filter needs CAP_SYS_ADMIN: run as root");
    assert.equal(filter, harmless(program));
  });
}

test.run();
