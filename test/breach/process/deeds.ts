// What an attacker can be told to do, by name: to go for a goal, or to try out the filter.

import { compilePolicy } from "../../../host/sandbox/bpf.js";
import { ACCEPTED_FLAGS, DIRECTORY_FILE_MODE } from "../../../host/sandbox/grant-kinds.js";
import type { Policy } from "../../../host/sandbox/policy.js";
import type { ImportedFunction } from "../../../host/sandbox/sections.js";
import { syscallNumber } from "../../../host/sandbox/syscalls.js";
import { type Attempt, tryAll } from "./directory-attempts.js";
import { allowedArguments, holds, nearMisses } from "./exercise.js";
import type { Context } from "./goal.js";
import { GOALS } from "./goals/all.js";
import { type Native, packed } from "./native.js";
import { numbersToSweep, VECTORS } from "./numbers.js";
import { harmless, install } from "./variant.js";

/** What the test tells the attacker, as JSON in the place of the device's id. */
export interface Order {
  deed: string;
  /**
   * Whether it confines itself, as every device does, or only when the VMM is gone, or by Landlock
   * and nothing else.
   */
  confine: "wholly" | "too late" | "by Landlock" | "not at all";
  /** It takes back what its launch asked for: to be killed when the VMM dies. */
  unsignalled: boolean;
  context: Context;
  /** Imports to make the policy of, instead of those of the module. */
  imports?: readonly ImportedFunction[];
}

type Deed = (native: Native, policy: Policy) => unknown;

/** One call that a rule allows: which rule does, of all in order, and the result. */
export interface Exercised {
  rule: number;
  result: number;
}

/** Calls that satisfy no rule: of which rule they are near misses, and what they led to. */
export interface Missed {
  rule: number;
  results: number[];
}

/** What 64-bit numbers led to, one list for each of VECTORS, and 32-bit ones by int 0x80. */
export interface Swept {
  results: number[][];
  int80: number[];
}

/** The last 32-bit system call there may be. */
const INT80_MAX = 512;

const DEEDS: Readonly<Record<string, (words: string[]) => Deed>> = {
  nothing: () => () => ({ reached: false, detail: "" }),

  /** Uses its processor time and nothing else. */
  spin: () => () => {
    for (;;);
  },

  /** Sleeps in a system call that the VMM cannot wake. */
  sleep: () => (native) => {
    const word = native.place(packed(4, 1));
    const FUTEX_WAIT_BITSET_PRIVATE_REALTIME = 393;
    const any = 0xffff_ffff;
    return native.call("futex", word, FUTEX_WAIT_BITSET_PRIVATE_REALTIME, 1, 0, 0, any);
  },

  /** Makes one system call by name. */
  call:
    ([name = ""]) =>
    (native) =>
      native.raw(syscallNumber(name)),

  /** Takes whoever connects to these descriptors, as often as they are named. */
  accept: (fds) => (native) =>
    fds.map((fd) => native.call("accept4", Number(fd), 0, 0, ACCEPTED_FLAGS)),

  /** Opens each path from descriptor 5 on with flags, and tells what is there, or the error. */
  openat:
    ([flags = "", ...paths]) =>
    (native) =>
      paths.map((path) => {
        const fd = native.call("openat", 5, path, Number(flags), DIRECTORY_FILE_MODE);
        const text = native.text(fd);
        if (fd >= 0) native.call("close", fd);
        return text;
      }),

  /** Makes system calls on its directory. */
  directory: (words) => (native) => tryAll(native, JSON.parse(words.join(" ")) as Attempt[]),

  /** Makes one system call by number. */
  number:
    ([nr = ""]) =>
    (native) =>
      native.raw(BigInt(nr)),

  int80:
    ([nr = ""]) =>
    (native) =>
      native.int80(Number(nr)),

  /** Is refused everything, once for each number. */
  sweep: () => (native, policy) => {
    const installed = install(native, harmless(compilePolicy(policy)));
    if (installed !== 0) return installed;
    const numbers = numbersToSweep(policy);
    const buffer = native.room(4096);
    const results = VECTORS.map((vector) => numbers.map((nr) => native.raw(nr, ...vector(buffer))));
    const int80 = Array.from({ length: INT80_MAX }, (_, nr) => native.int80(nr));
    return { results, int80 } satisfies Swept;
  },

  /** Makes every call that the policy allows, but the last that there is. */
  exercise: () => (native, policy) =>
    policy.rules.flatMap((rule) => {
      if (rule.syscall === "exit_group") return [];
      return allowedArguments(native, rule).map((args): Exercised => {
        const first = policy.rules.findIndex((each) => each.nr === rule.nr && holds(each, args));
        return { rule: first, result: native.raw(rule.nr, ...args) };
      });
    }),

  /** Is refused every near miss. */
  misses: () => (native, policy) => {
    const calls = policy.rules.map((rule) => nearMisses(native, rule, policy));
    const installed = install(native, harmless(compilePolicy(policy)));
    if (installed !== 0) return installed;
    return calls.map((all, index): Missed => {
      const { nr } = policy.rules[index]!;
      return { rule: index, results: [...new Set(all.map((args) => native.raw(nr, ...args)))] };
    });
  },

  /** Makes the first near miss of one rule. */
  miss:
    ([index = ""]) =>
    (native, policy) => {
      const rule = policy.rules[Number(index)]!;
      return native.raw(rule.nr, ...nearMisses(native, rule, policy)[0]!);
    },
};

export function deedOf({ deed, context }: Order): Deed {
  const goal = GOALS.find(({ name }) => name === deed);
  if (goal !== undefined) return (native) => goal.attempt(native, context);
  const [word = "", ...words] = deed.split(" ");
  const make = DEEDS[word];
  if (make === undefined) throw new Error(`no deed "${deed}"`);
  return make(words);
}
