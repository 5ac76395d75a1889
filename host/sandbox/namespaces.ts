// The steps between clone(2) and execve(2): descriptors in place, new namespaces, a root of its
// own, no user and no capability that means anything outside; and which pieces of that can be done
// without where a kernel refuses them.

import { readFileSync } from "node:fs";
import { errnoName, VmmError } from "../errors.js";
import { prctl } from "../ffi/libc.js";
import { type Directory, landlockAbi, startLayer } from "./landlock.js";
import { Launch, LaunchError } from "./launcher.js";
import {
  allBits,
  CLONE,
  FCNTL,
  MOUNT,
  NOBODY,
  PRCTL,
  RLIMIT,
  SECUREBITS,
  SIGNAL,
} from "./linux.js";
import {
  indispensable,
  NAMESPACE_FLAGS,
  NAMESPACES,
  type Namespace,
  type Piece,
  refusal,
  type Weakness,
  withConsequences,
} from "./pieces.js";
import { enterRoot, mountAttributes, NODE_INSIDE, pathInside } from "./root.js";

/** Highest descriptor number, for close_range(2). */
const UINT_MAX = 0xffff_ffff;
/** The step that a kernel refuses which has no namespaces for this user. */
const CREATE = "create namespaces";
const HOSTNAME = "bulkhead";
/**
 * Writable memory while the module is compiled: node has 42 MiB then, and the largest honest module
 * adds 30. A hostile one of 5 kB makes V8 allocate a gigabyte, and more with every further byte.
 */
const START_DATA_BYTES_MAX = 160 * 1024 * 1024;
/**
 * The child has this process's memory until execve(2), as after vfork(2): it writes nothing but the
 * results of its calls. A copy would take 2 ms, during which no thread can touch a new page.
 */
const FORK = CLONE.CLONE_VM | CLONE.CLONE_VFORK | SIGNAL.SIGCHLD;

/** Pieces that a start does without. */
type Missing = ReadonlySet<Piece>;

export interface Program {
  /** Program to run: a file of the package, outside its namespaces. */
  entry: string;
  nodeFlags: readonly string[];
  argument: string;
  environment: readonly string[];
  /** Descriptors of this process, above those that the child gets, in the child's order from 0. */
  fds: readonly number[];
  /** Directories that it gets a mount of, in the place of descriptors that the child has. */
  directories?: readonly (Directory & { path: string })[];
}

function placeDescriptors(launch: Launch, fds: readonly number[]): void {
  for (const [target, fd] of fds.entries()) {
    launch.step(`pass descriptor ${target}`, "dup3", fd, target, 0);
  }
  launch.step("close all other descriptors", "close_range", fds.length, UINT_MAX, 0);
}

/**
 * Puts a mount of its own in the place of each directory. It is part of no tree, so ".." of it is
 * itself; no link in it is followed, and nothing on it is a device, executable, or set-user-id.
 */
function mountDirectories(launch: Launch, { fds, directories = [] }: Program): void {
  const { MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV } = MOUNT;
  const { MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSYMFOLLOW, OPEN_TREE_CLONE } = MOUNT;
  const always = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;
  const { AT_FDCWD, AT_EMPTY_PATH, O_CLOEXEC } = FCNTL;
  const mount = fds.length; // the lowest descriptor that is free
  for (const { fd, path, isWritable } of directories) {
    const attributes = mountAttributes(always | (isWritable ? 0 : MOUNT_ATTR_RDONLY));
    const what = `mount ${path} by itself`;
    launch
      .step(what, "open_tree", AT_FDCWD, path, OPEN_TREE_CLONE | O_CLOEXEC)
      .step(what, "mount_setattr", mount, "", AT_EMPTY_PATH, attributes, attributes.length)
      .step(what, "dup3", mount, fd, 0)
      .step(what, "close", mount);
  }
}

/** struct rlimit64: soft and hard limit, so that it can only be lowered, as the lock-down does. */
function limitOf(value: number): Uint8Array {
  return new Uint8Array(new BigUint64Array([BigInt(value), BigInt(value)]).buffer);
}

/** After execve(2) even root has no capabilities, and can never get any again. */
function dropPrivileges(launch: Launch): void {
  const bits = allBits(SECUREBITS);
  launch.step("make root mean nothing", "prctl", PRCTL.PR_SET_SECUREBITS, bits, 0, 0, 0);
}

/** The ABI of Landlock; refused, it is a piece of the sandbox as any other. */
function askForLandlock(): number {
  try {
    return landlockAbi();
  } catch (error) {
    if (!(error instanceof VmmError)) throw error;
    const { errno = 0, syscall = "" } = error;
    throw new LaunchError({ what: "ask for Landlock", syscall, piece: "Landlock" }, errno);
  }
}

/** The first layer of Landlock (landlock.ts), for the threads that node will start. */
function enterLandlock(launch: Launch, { fds, directories = [] }: Program): void {
  const abi = askForLandlock();
  if (abi === 0) return;
  for (const [call, ...args] of startLayer(abi, { fd: fds.length, directories })) {
    launch.for("Landlock").step("leave only reading and executing", call, ...args);
  }
  launch.for(undefined);
}

function execute(launch: Launch, program: Program, paths: { node: string; entry: string }): void {
  const argv = [paths.node, ...program.nodeFlags, paths.entry, program.argument];
  const dataMax = limitOf(START_DATA_BYTES_MAX);
  launch
    .step("limit the memory of its start", "prlimit64", 0, RLIMIT.RLIMIT_DATA, dataMax, 0)
    .step("end with the VMM", "prctl", PRCTL.PR_SET_PDEATHSIG, SIGNAL.SIGKILL, 0, 0, 0)
    .step("execute node", "execve", paths.node, argv, program.environment);
}

/** A user namespace in which this user is root: what an ordinary user needs for all the others. */
function mapUser(launch: Launch, fd: number): void {
  const write = (file: string, text: string) =>
    launch
      .step(`open ${file}`, "open", `/proc/self/${file}`, 1, 0)
      .step(`write ${file}`, "write", fd, text, text.length)
      .step(`close ${file}`, "close", fd);
  // Without this an unprivileged user may not map its group (user_namespaces(7)).
  write("setgroups", "deny");
  write("uid_map", `0 ${process.geteuid?.()} 1`);
  write("gid_map", `0 ${process.getegid?.()} 1`);
}

/** From root to nobody. */
function becomeNobody(launch: Launch): void {
  launch
    .step("leave all groups", "setgroups", 0, 0)
    .step("become nobody", "setresgid", NOBODY, NOBODY, NOBODY)
    .step("become nobody", "setresuid", NOBODY, NOBODY, NOBODY);
}

/** Whether root is the real one, or one that has a nobody to become (user_namespaces(7)). */
function canBecomeNobody(): boolean {
  if (process.geteuid?.() !== 0) return false;
  const mapsNobody = (file: string) =>
    readFileSync(file, "latin1")
      .trim()
      .split("\n")
      .map((line) => line.trim().split(/\s+/).map(Number))
      .some(([first = 0, , count = 0]) => first <= NOBODY && NOBODY < first + count);
  return mapsNobody("/proc/self/uid_map") && mapsNobody("/proc/self/gid_map");
}

/** Namespaces, by the flag of clone(2) for each, that are wanted although `without` is missing. */
function wanted(without: Missing): Namespace[] {
  return NAMESPACES.filter((name) => !without.has(`${name} namespace`));
}

/**
 * Root becomes nobody, whose user namespace comes after that; anybody else is himself in one that
 * must be there before the others.
 */
function launchAs(user: "nobody" | "self", program: Program, without: Missing): number {
  const names = wanted(without).filter((name) => user === "self" || name !== "user");
  const flags = names.reduce((all, name) => all | NAMESPACE_FLAGS[name], 0);
  const hasUser = !without.has("user namespace");
  const hasRoot = !without.has("root directory");
  const launch = new Launch().step(CREATE, "clone", flags | FORK, 0, 0, 0, 0);
  placeDescriptors(launch, program.fds);
  if (user === "self" && hasUser) mapUser(launch.for("user namespace"), program.fds.length);
  if (!without.has("uts namespace")) {
    launch.for("uts namespace").step("name it", "sethostname", HOSTNAME, HOSTNAME.length);
  }
  mountDirectories(launch.for(undefined), program);
  if (hasRoot) enterRoot(launch.for("root directory"), program.entry);
  if (user === "nobody") becomeNobody(launch.for("change of user"));
  if (user === "nobody" && hasUser) {
    launch.for("user namespace").step("enter a user namespace", "unshare", CLONE.CLONE_NEWUSER);
  }
  launch.for(undefined);
  // Whoever is no root, here or in his namespace, has nothing to drop, and would not be allowed to.
  if (hasUser || (user === "self" && process.geteuid?.() === 0)) dropPrivileges(launch);
  launch.step("give up privileges", "prctl", PRCTL.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (!without.has("Landlock")) enterLandlock(launch, program);
  const inside = { node: NODE_INSIDE, entry: pathInside(program.entry) };
  execute(launch, program, hasRoot ? inside : { node: process.execPath, entry: program.entry });
  return keepDumpable(() => launch.run());
}

/** A child that changes its user makes memory that it shares as closed as its own (prctl(2)). */
function keepDumpable<T>(body: () => T): T {
  const dumpable = prctl(PRCTL.PR_GET_DUMPABLE, 0, 0, 0, 0);
  try {
    return body();
  } finally {
    if (dumpable === 1) prctl(PRCTL.PR_SET_DUMPABLE, dumpable, 0, 0, 0);
  }
}

/** Whether `error` only says that this root may not do what root may, as in many containers. */
function isNoRealRoot(error: unknown): boolean {
  if (!(error instanceof LaunchError)) return false;
  return error.step === CREATE || error.piece === "change of user";
}

/** Root starts a program as nobody; anybody else as himself, without any right that he has. */
function launchWithout(program: Program, without: Missing): number {
  if (!without.has("change of user") && canBecomeNobody()) {
    try {
      return launchAs("nobody", program, without);
    } catch (error) {
      if (!isNoRealRoot(error)) throw error;
    }
  }
  return launchAs("self", program, without);
}

/** The errno of clone(2) with these flags; 0 if it works. Its child ends at once. */
function errnoOfClone(flags: number): number {
  const launch = new Launch().step(CREATE, "clone", flags | FORK, 0, 0, 0, 0);
  try {
    // The list must end in a child that ends, and that is what a step without success does.
    return launch.step("end", "close", -1).run();
  } catch (error) {
    if (!(error instanceof LaunchError)) throw error;
    return error.step === CREATE ? error.errno : 0;
  }
}

/** Which of the namespaces that were asked for together clone(2) refuses, each tried alone. */
function refusedNamespaces(without: Missing): Weakness[] {
  if (errnoOfClone(0) !== 0) return [];
  const names = wanted(without);
  const user = names.includes("user") ? NAMESPACE_FLAGS.user : 0;
  const refused = (name: Namespace): Weakness[] => {
    const errno = errnoOfClone(NAMESPACE_FLAGS[name] | user);
    const why = `clone: ${errnoName(errno)}`;
    return errno === 0 ? [] : [{ piece: `${name} namespace`, why }];
  };
  const first = user === 0 ? [] : refused("user"); // the others depend on it
  return first.length > 0 ? first : names.flatMap(refused);
}

function refusedBy(error: LaunchError, without: Missing): Weakness[] {
  if (error.step === CREATE) return refusedNamespaces(without);
  if (error.piece === undefined) return [];
  return [{ piece: error.piece, why: `${error.syscall}: ${errnoName(error.errno)}` }];
}

/** A started program, and the pieces of the sandbox that it does not have. */
export interface Launched {
  pid: number;
  weak: Weakness[];
}

/**
 * Starts a program in new user, mount, pid, net, ipc, uts and cgroup namespaces, a minimal root and
 * the first layer of Landlock.
 *
 * @param programOf the program, given the pieces that it will not have
 * @param options allowWeak: start without the pieces that this kernel refuses, and only those;
 *   weak: pieces that are not even tried
 * @throws VmmError ERR_SANDBOX naming the pieces that this kernel refuses
 */
export function launchConfined(
  programOf: (weak: Weakness[]) => Program,
  options: { allowWeak: boolean; weak?: readonly Weakness[] },
): Launched {
  let weak = withConsequences(options.weak ?? []);
  for (;;) {
    const without: Missing = new Set(weak.map(({ piece }) => piece));
    try {
      return { pid: launchWithout(programOf(weak), without), weak };
    } catch (error) {
      if (!(error instanceof LaunchError)) throw error;
      const refused = refusedBy(error, without).filter(({ piece }) => !without.has(piece));
      if (refused.length === 0) throw indispensable(error.message, error);
      if (!options.allowWeak) throw refusal("Cannot set up the sandbox", refused, error.errno);
      weak = withConsequences([...weak, ...refused]);
    }
  }
}

/**
 * Starts a program of ours that is not confined but helps the VMM and ends with it, in a session of
 * its own: a key on the user's terminal, Ctrl-C, is not meant for it.
 */
export function launchHelper(program: Program): number {
  const launch = new Launch().step("create a process", "clone", FORK, 0, 0, 0, 0);
  placeDescriptors(launch, program.fds);
  const argv = [process.execPath, ...program.nodeFlags, program.entry, program.argument];
  return launch
    .step("leave the terminal", "setsid")
    .step("end with the VMM", "prctl", PRCTL.PR_SET_PDEATHSIG, SIGNAL.SIGKILL, 0, 0, 0)
    .step("gain nothing by execve", "prctl", PRCTL.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    .step("execute node", "execve", process.execPath, argv, program.environment)
    .run();
}
