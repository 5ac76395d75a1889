// The steps between clone(2) and execve(2): descriptors in place, new namespaces, a root of its
// own, no user and no capability that means anything outside.

import { readFileSync } from "node:fs";
import { landlockAbi, startLayer } from "./landlock.js";
import { Launch, LaunchError } from "./launcher.js";
import { allBits, CLONE, PRCTL, RLIMIT, SECUREBITS, SIGNAL } from "./linux.js";
import { enterRoot, NODE_INSIDE, pathInside } from "./root.js";

/** "nobody", the user and group that own nothing. */
const NOBODY = 65534;
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
const { CLONE_VFORK, CLONE_NEWUSER, ...CLONE_NEW } = CLONE;

export interface Program {
  /** Program to run: a file of the package, outside its namespaces. */
  entry: string;
  nodeFlags: readonly string[];
  argument: string;
  environment: readonly string[];
  /** Descriptors of this process, above those that the child gets, in the child's order from 0. */
  fds: readonly number[];
}

function placeDescriptors(launch: Launch, fds: readonly number[]): void {
  for (const [target, fd] of fds.entries()) {
    launch.step(`pass descriptor ${target}`, "dup3", fd, target, 0);
  }
  launch.step("close all other descriptors", "close_range", fds.length, UINT_MAX, 0);
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

/** The first layer of Landlock (landlock.ts), for the threads that node will start. */
function enterLandlock(launch: Launch, fd: number): void {
  const abi = landlockAbi();
  if (abi === 0) return;
  launch.step("give up privileges", "prctl", PRCTL.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  for (const [call, ...args] of startLayer(abi, fd)) {
    launch.step("leave only reading and executing", call, ...args);
  }
}

function execute(launch: Launch, program: Program, paths: { node: string; entry: string }): void {
  const argv = [paths.node, ...program.nodeFlags, paths.entry, program.argument];
  const dataMax = limitOf(START_DATA_BYTES_MAX);
  enterLandlock(launch, program.fds.length);
  launch
    .step("limit the memory of its start", "prlimit64", 0, RLIMIT.RLIMIT_DATA, dataMax, 0)
    .step("make root mean nothing", "prctl", PRCTL.PR_SET_SECUREBITS, allBits(SECUREBITS), 0, 0, 0)
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

/** From root to nobody, and into a user namespace in which even that is nobody. */
function becomeNobody(launch: Launch): void {
  launch
    .step("leave all groups", "setgroups", 0, 0)
    .step("become nobody", "setresgid", NOBODY, NOBODY, NOBODY)
    .step("become nobody", "setresuid", NOBODY, NOBODY, NOBODY)
    .step("enter a user namespace", "unshare", CLONE_NEWUSER);
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

function launchAs(user: "nobody" | "self", program: Program): number {
  const newUser = user === "self" ? CLONE_NEWUSER : 0;
  const flags = allBits(CLONE_NEW) | CLONE_VFORK | SIGNAL.SIGCHLD | newUser;
  const launch = new Launch().step(CREATE, "clone", flags, 0, 0, 0, 0);
  placeDescriptors(launch, program.fds);
  if (user === "self") mapUser(launch, program.fds.length);
  launch.step("set the host name", "sethostname", HOSTNAME, HOSTNAME.length);
  enterRoot(launch, program.entry);
  if (user === "nobody") becomeNobody(launch);
  dropPrivileges(launch);
  execute(launch, program, { node: NODE_INSIDE, entry: pathInside(program.entry) });
  return launch.run();
}

/**
 * Starts `program` in new user, mount, pid, net, ipc, uts and cgroup namespaces and a minimal root.
 * Root starts it as nobody; anybody else as himself, but without any right that this user has.
 *
 * @returns its pid
 * @throws LaunchError naming the step that this kernel refuses
 */
export function launchIsolated(program: Program): number {
  if (canBecomeNobody()) {
    try {
      return launchAs("nobody", program);
    } catch (error) {
      // A root without CAP_SYS_ADMIN, as in many containers, is no more than an ordinary user.
      if (!(error instanceof LaunchError) || error.step !== CREATE) throw error;
    }
  }
  return launchAs("self", program);
}

/** Starts `program` as it is, where there are no namespaces to be had. */
export function launchWeak(program: Program): number {
  const flags = CLONE_VFORK | SIGNAL.SIGCHLD;
  const launch = new Launch().step("create a process", "clone", flags, 0, 0, 0, 0);
  placeDescriptors(launch, program.fds);
  if (process.geteuid?.() === 0) dropPrivileges(launch);
  execute(launch, program, { node: process.execPath, entry: program.entry });
  return launch.run();
}

/** What to tell a user whose kernel refuses a step. */
export function hintFor(error: LaunchError): string {
  if (error.step !== CREATE) return "";
  return ", are user namespaces switched off here (sysctl user.max_user_namespaces, a container)?";
}
