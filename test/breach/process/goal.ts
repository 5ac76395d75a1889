// What an attacker in a device process may want, as data: each goal is a name, a way to try it, and
// what is known of the walls around it.

import { type Native, nameOf } from "./native.js";

/**
 * Which walls stand around an attack. "no filter": everything but the system call filter. "no
 * namespaces": everything but namespaces, root directory and the change of user. "Landlock alone":
 * a plain process that has given up what Landlock covers. "nothing": a plain process of the user
 * who runs the tests.
 */
export const WALLS = ["all", "no filter", "no namespaces", "Landlock alone", "nothing"] as const;
export type Walls = (typeof WALLS)[number];

/** What the attacker knows: more than a real one would. */
export interface Context {
  walls: Walls;
  vmmPid: number;
  /** Address of SECRET in the VMM's memory. */
  secretAddress: number;
  /** Another device, with an image of its own. */
  siblingPid: number;
  siblingImage: string;
  /** A TCP port of 127.0.0.1 and an abstract unix socket on which the VMM listens. */
  tcpPort: number;
  abstractName: string;
  /** A directory that everyone may write to, for this attack alone; it holds the file VICTIM. */
  directory: string;
}

/**
 * Status with which a program ends that an attacker executed: the loader's, for "no such program".
 */
export const EXECUTED_STATUS = 127;
export const SECRET = "what only the VMM may know";
export const VICTIM = "victim";

export interface Finding {
  reached: boolean;
  /** What happened: a result, an errno. */
  detail: string;
}

export interface Goal {
  name: string;
  /** How it ends with all walls standing: denied, a signal, or what the attempt finds. */
  stop: string;
  /**
   * Walls with which it must succeed, or the goal would also fail for other reasons than the walls;
   * undefined if it must not be tried or cannot succeed anywhere, and then `why` says so.
   */
  canary: "no filter" | "nothing" | undefined;
  why: string;
  /** Walls with which it is not tried because it would do harm. */
  spared: readonly Walls[];
  /** The VMM reads nothing while it is tried. */
  deaf: boolean;
  /** ABI of Landlock from which on that alone stops it; undefined if it does not. */
  landlock: number | undefined;
  attempt(native: Native, context: Context): Finding;
}

type Attempt = (native: Native, context: Context) => Finding | number;

interface GoalOptions {
  stop?: string;
  canary?: "no filter" | "nothing";
  landlock?: number;
  why?: string;
  spared?: readonly Walls[];
  deaf?: boolean;
}

/** A result of a system call as a finding: what did not fail is reached. */
export function found(result: number): Finding {
  if (result >= 0) return { reached: true, detail: `result ${result}` };
  return { reached: false, detail: nameOf(result) };
}

/** Reached if `text` holds `wanted`. */
export function foundText(text: string, wanted: string): Finding {
  const reached = text.includes(wanted);
  return { reached, detail: reached ? "read it" : text };
}

/**
 * Reached if the kernel got past its permission check: `errno` is what it says afterwards of
 * arguments that keep the machine from harm.
 */
export function permitted(result: number, errno: string): Finding {
  const reached = result >= 0 || nameOf(result) === errno;
  return { reached, detail: reached ? "permitted" : nameOf(result) };
}

/** One goal; without `stop` the filter must kill the process. */
export function goal(name: string, options: GoalOptions, attempt: Attempt): Goal {
  const { stop = "denied", canary, why = "", spared = [], deaf = false, landlock } = options;
  return {
    name,
    stop,
    canary,
    why,
    spared,
    deaf,
    landlock,
    attempt: (native, context) => {
      const result = attempt(native, context);
      return typeof result === "number" ? found(result) : result;
    },
  };
}
