// The pieces of the sandbox that a kernel may lack or refuse, and what to tell a user then. With
// --allow-weak-sandbox a device starts without such a piece, and everything says so. All else is
// needed even then, because every kernel that runs node has it: no_new_privs, no capabilities,
// limits, the parent-death signal, no page writable and executable, no descriptor but its own.

import { errnoName, VmmError } from "../errors.js";
import { CLONE } from "./linux.js";

/** Namespaces of namespaces(7) that a device has of its own, and the flag of clone(2) for each. */
export const NAMESPACE_FLAGS = {
  user: CLONE.CLONE_NEWUSER,
  mnt: CLONE.CLONE_NEWNS,
  pid: CLONE.CLONE_NEWPID,
  net: CLONE.CLONE_NEWNET,
  ipc: CLONE.CLONE_NEWIPC,
  uts: CLONE.CLONE_NEWUTS,
  cgroup: CLONE.CLONE_NEWCGROUP,
} as const;
export type Namespace = keyof typeof NAMESPACE_FLAGS;
export const NAMESPACES = Object.keys(NAMESPACE_FLAGS) as Namespace[];

/** What a kernel must have for each piece. */
const NEEDS = {
  "user namespace": "CONFIG_USER_NS",
  "mnt namespace": "CONFIG_NAMESPACES",
  "pid namespace": "CONFIG_PID_NS",
  "net namespace": "CONFIG_NET_NS",
  "ipc namespace": "CONFIG_IPC_NS",
  "uts namespace": "CONFIG_UTS_NS",
  "cgroup namespace": "CONFIG_CGROUPS",
  "root directory": "Linux 5.12 for mount_setattr(2), CONFIG_TMPFS",
  "change of user": "a user namespace that maps nobody (65534)",
  "not dumpable": "CONFIG_USER_NS",
  "system call filter": "CONFIG_SECCOMP_FILTER",
  Landlock: "CONFIG_SECURITY_LANDLOCK",
} as const;

export type Piece = keyof typeof NEEDS;

/** A piece that is missing, and why: `clone: EPERM`. */
export interface Weakness {
  piece: Piece;
  why: string;
}

export function isPiece(name: unknown): name is Piece {
  return typeof name === "string" && Object.hasOwn(NEEDS, name);
}

/** `cgroup namespace (clone: EPERM)`, as reports show it. */
export function describeWeakness({ piece, why }: Weakness): string {
  return `${piece} (${why})`;
}

function has(weak: readonly Weakness[], piece: Piece): boolean {
  return weak.some((each) => each.piece === piece);
}

/**
 * Adds what cannot be had without what is missing already: a root directory needs mounts of one's
 * own, nobody may be unable to read a runtime in somebody's home, and a VMM that does not own the
 * user namespace could not look at a process that is not dumpable (ptrace(2)).
 */
export function withConsequences(weak: readonly Weakness[]): Weakness[] {
  const all = [...weak];
  const follows = (piece: Piece, from: Piece) => {
    if (has(all, from) && !has(all, piece)) all.push({ piece, why: `it needs its own ${from}` });
  };
  follows("root directory", "mnt namespace");
  follows("change of user", "root directory");
  follows("not dumpable", "user namespace");
  return all;
}

/** Names the likely cause of `errno` where `piece` was refused. */
function causeOf(piece: Piece, errno: number): string {
  const name = errnoName(errno);
  const namespace = piece.endsWith(" namespace") ? piece.replace(" namespace", "") : "user";
  if (name === "ENOSPC" || name === "EUSERS") {
    return `is the sysctl user.max_${namespace}_namespaces 0 or used up?`;
  }
  if (name === "EPERM" || name === "EACCES") {
    return (
      "is it forbidden to this user, by a container's seccomp profile or by AppArmor " +
      "(sysctl kernel.apparmor_restrict_unprivileged_userns, kernel.unprivileged_userns_clone)?"
    );
  }
  return `does this kernel lack ${NEEDS[piece]}?`;
}

/** The error of a start that a kernel refuses a piece: names each piece, its errno, the cause. */
export function refusal(action: string, refused: Weakness[], errno: number): VmmError {
  const pieces = refused.map(({ piece, why }) => `${piece}: ${why}`).join("; ");
  const cause = causeOf(refused[0]!.piece, errno);
  return new VmmError("ERR_SANDBOX", `${action}: ${pieces}, ${cause}`, { errno });
}

/** Names the likely cause where something was refused that no start can do without. */
export function indispensable(
  message: string,
  { errno, syscall }: { errno: number; syscall: string },
): VmmError {
  const usedUp = ["EAGAIN", "ENOMEM", "ENOSPC"].includes(errnoName(errno));
  const cause = usedUp
    ? "are processes or memory used up?"
    : "does a container's seccomp profile forbid it, or is this kernel older than Linux 5.12? " +
      "No device starts without it";
  return new VmmError("ERR_SANDBOX", `${message}, ${cause}`, { errno, syscall });
}
