// What a device process must look like from outside before a guest may run on it.

import { VmmError } from "../errors.js";
import { GRANT_FD_FIRST, MODULE_FD, openedFds } from "./descriptors.js";
import { hasFd, openableCount } from "./grants.js";
import { liveSyscalls } from "./live-filter.js";
import type { SeccompMode } from "./lockdown.js";
import { isPiece, NAMESPACES, type Piece, type Weakness } from "./pieces.js";
import { type Walls, wallsOf } from "./proof.js";
import type { DevicePlan } from "./starter.js";

/** Mode 2 of /proc/PID/status, Seccomp: a filter (proc(5)). */
const SECCOMP_MODE_FILTER = 2;

export interface Expected {
  id: string;
  seccomp: SeccompMode;
  /** Descriptors granted. */
  grantCount: number;
  /** Connections and files that may come of them. */
  openableCount?: number;
  /** The pieces that it is known to lack; empty unless the user accepted that. */
  weak: readonly Weakness[];
}

/** Pieces that only the process itself can find missing, at its lock-down. */
const FOUND_INSIDE: readonly Piece[] = ["system call filter", "Landlock"];
/** An errno's name behind a system call's. */
const WHY = /^\w{1,40}: [\w ]{1,40}$/;

/**
 * What a process says in READY that its lock-down had to do without. Its module has run by then, so
 * only what may be missing is taken from it, and at most once.
 */
export function weaknessesIn(report: object): Weakness[] {
  const { weak } = report as { weak?: unknown };
  const all = Array.isArray(weak) ? (weak as unknown[]) : [];
  return FOUND_INSIDE.flatMap((piece) => {
    const claims = all.filter((each): each is Partial<Weakness> => isClaim(each, piece));
    const why = claims[0]?.why;
    return claims.length === 0 ? [] : [{ piece, why: WHY.test(String(why)) ? String(why) : "?" }];
  });
}

function isClaim(value: unknown, piece: Piece): boolean {
  if (typeof value !== "object" || value === null || !("piece" in value)) return false;
  return isPiece(value.piece) && value.piece === piece;
}

/** What of the sandbox is missing, in a user's words; empty when everything is there. */
export function missingFrom(proof: Walls, expected: Expected): string[] {
  const missing: string[] = [];
  const need = (holds: boolean, what: string) => {
    if (!holds) missing.push(what);
  };
  const fdsMax = GRANT_FD_FIRST + expected.grantCount;
  const connections = openedFds(expected.grantCount, expected.openableCount ?? 0);
  const extra = proof.fds.filter(
    ({ fd }) => (fd >= fdsMax || fd === MODULE_FD) && !connections.includes(fd),
  );
  const lacks = (piece: Piece) => expected.weak.some((each) => each.piece === piece);
  if (expected.seccomp !== "off" && !lacks("system call filter")) {
    // Where a container's filter is around the VMM, that alone makes the mode of all the same.
    const filtered = proof.seccomp === SECCOMP_MODE_FILTER && proof.seccompFilters > 0;
    need(filtered, "a system call filter of its own on every thread");
  }
  need(proof.noNewPrivs, "no_new_privs on every thread");
  need(/^0+$/.test(proof.capabilities), `no capabilities (it has ${proof.capabilities})`);
  need(proof.wxPages === 0, `no page writable and executable (it has ${proof.wxPages})`);
  need(
    extra.length === 0,
    `no descriptors but its own (it has ${extra.map(({ target }) => target)})`,
  );
  const wanted = NAMESPACES.filter((name) => !lacks(`${name} namespace`));
  const shared = wanted.filter((name) => !proof.namespaces.includes(name));
  need(shared.length === 0, `namespaces of its own (it shares ${shared.join(", ")})`);
  return missing;
}

/**
 * Refuses a device that is less confined than was asked for.
 *
 * @throws VmmError ERR_SANDBOX naming each piece that is missing
 */
export function verifyProof(proof: Walls, expected: Expected): void {
  const missing = missingFrom(proof, expected);
  if (missing.length === 0) return;
  const { id } = expected;
  throw new VmmError(
    "ERR_SANDBOX",
    `Cannot trust device ${id}, process ${proof.pid}: from outside it lacks ${missing.join("; ")}`,
  );
}

/**
 * Compares the filter that the kernel holds for process `pid` with the policy; where only an
 * administrator may read it and this is none, the policy is taken at its word.
 *
 * @returns how many system calls the process may make
 * @throws VmmError ERR_SANDBOX naming what the kernel lets through beyond the policy
 */
export function verifyFilter(pid: number, policy: { id: string; syscalls: string[] }): number {
  const { id, syscalls } = policy;
  const live = liveSyscalls(pid);
  if (live === undefined) return syscalls.length;
  const beyond = live.filter((name) => !syscalls.includes(name));
  if (beyond.length === 0) return live.length;
  const what = `its filter lets through ${beyond.join(", ")}, which its policy does not`;
  throw new VmmError("ERR_SANDBOX", `Cannot trust device ${id}, process ${pid}: ${what}`);
}

/** A device that was found as confined as it must be. */
export interface Verified {
  proof: Walls;
  /** System calls that its filter lets through; null where it has none. */
  syscalls: number | null;
  /** What it does without, and the user accepted that. */
  weak: readonly Weakness[];
}

/**
 * Looks at process `pid` from outside, and believes nothing else: may it see requests of a guest?
 *
 * @param weak the pieces that it is known to lack, and those that it says it lacks, which only
 *   a plan with `allowWeak` excuses
 * @throws VmmError ERR_SANDBOX when it is gone, or less confined than `plan` asks for
 */
export function verifyDevice(
  pid: number,
  plan: DevicePlan,
  { known, said }: { known: readonly Weakness[]; said: readonly Weakness[] },
): Verified {
  const { id, seccomp, grants, syscalls } = plan;
  const proof = wallsOf(pid);
  const excused = plan.allowWeak === true ? said : [];
  const weak = [
    ...known,
    ...excused.filter(({ piece }) => known.every((each) => each.piece !== piece)),
  ];
  verifyProof(proof, {
    id,
    seccomp,
    grantCount: grants.filter(({ kind }) => hasFd(kind)).length,
    openableCount: openableCount(grants),
    weak,
  });
  const unfiltered = weak.some(({ piece }) => piece === "system call filter");
  if (seccomp === "off" || unfiltered) return { proof, syscalls: null, weak };
  // A filter that only logs lets everything through, and where it has no listener, says so.
  const allowed = seccomp === "log" ? syscalls.length : verifyFilter(pid, { id, syscalls });
  return { proof, syscalls: allowed, weak };
}
