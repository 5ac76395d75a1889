// Device processes with fewer walls around them than spawnDevice() ever builds on a kernel that has
// them all: what attackers need who are to succeed.

import { closeSync, constants, openSync } from "node:fs";
import { fcntl, socketpair, syscall } from "../../../host/ffi/libc.js";
import { Mapping } from "../../../host/ffi/memory.js";
import { GRANT_FD_FIRST } from "../../../host/sandbox/descriptors.js";
import { openGrants } from "../../../host/sandbox/grant-open.js";
import { Launch } from "../../../host/sandbox/launcher.js";
import { CLONE, PRCTL, SIGNAL } from "../../../host/sandbox/linux.js";
import type { DeviceSetup } from "../../../host/sandbox/lockdown.js";
import { launchConfined, type Program } from "../../../host/sandbox/namespaces.js";
import { NAMESPACES, type Weakness, withConsequences } from "../../../host/sandbox/pieces.js";
import { DeviceProcess, NODE_FLAGS, type SpawnOptions } from "../../../host/sandbox/spawn.js";
import { syscallNumber } from "../../../host/sandbox/syscalls.js";

const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const O_CLOEXEC = 0o2000000;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;
const UINT_MAX = 0xffff_ffff;
const STAGED_FD_FIRST = 64;
const ENVIRONMENT = ["MALLOC_ARENA_MAX=1", "UV_THREADPOOL_SIZE=1", "TZ=UTC0"];
const why = "a test wants to know what its absence would let happen";
/** Everything that a start can do without, but Landlock. */
const WEAK: Weakness[] = withConsequences(
  NAMESPACES.map((name) => ({ piece: `${name} namespace`, why }) as const),
);

function pairOf(make: (address: number) => number): [ours: number, theirs: number] {
  const pair = Mapping.anonymous(8);
  if (make(pair.address) !== 0) throw new Error("no pair of descriptors");
  const fds: [number, number] = [pair.words[0]!, pair.words[1]!];
  pair.close();
  return fds;
}

/** Moves a descriptor above those that the child will get. */
function stage(fd: number): number {
  const high = fcntl(fd, F_DUPFD_CLOEXEC, STAGED_FD_FIRST);
  closeSync(fd);
  return high;
}

/** A child in no namespaces of its own. */
function launchWeak(program: Program): number {
  return launchConfined(() => program, { allowWeak: false, weak: WEAK }).pid;
}

/** A child of this process with all that this process may do. */
function launchPlain(program: Program): number {
  const { entry, nodeFlags, argument, environment, fds } = program;
  const flags = CLONE.CLONE_VFORK | SIGNAL.SIGCHLD;
  const launch = new Launch().step("create a process", "clone", flags, 0, 0, 0, 0);
  for (const [target, fd] of fds.entries()) launch.step("pass", "dup3", fd, target, 0);
  const argv = [process.execPath, ...nodeFlags, entry, argument];
  return launch
    .step("close the others", "close_range", fds.length, UINT_MAX, 0)
    .step("end with the VMM", "prctl", PRCTL.PR_SET_PDEATHSIG, SIGNAL.SIGKILL, 0, 0, 0)
    .step("execute node", "execve", process.execPath, argv, environment)
    .run();
}

export interface UnisolatedOptions extends SpawnOptions {
  entry: string;
  /** Not even without capabilities and with limits. */
  plain: boolean;
}

/** Does what spawnDevice() does where there are no namespaces to be had, or even less. */
export function spawnUnisolated(options: UnisolatedOptions): DeviceProcess {
  const { id, seccomp, entry } = options;
  const granted = openGrants(options.grants);
  const type = SOCK_SEQPACKET | O_CLOEXEC;
  const [socketFd, theirSocket] = pairOf((at) => socketpair(AF_UNIX, type, 0, at));
  const pipe2 = syscallNumber("pipe2");
  const [stderrFd, theirStderr] = pairOf((at) => syscall(pipe2, at, O_CLOEXEC, 0, 0, 0, 0));
  fcntl(socketFd, F_SETFL, constants.O_NONBLOCK);
  const fds = [
    openSync("/dev/null", constants.O_RDWR),
    openSync("/dev/null", constants.O_RDWR),
    theirStderr,
    theirSocket,
    openSync(options.module, constants.O_RDONLY),
    ...granted.map(({ fd }) => fd),
  ].map(stage);
  const grants = granted.map((grant, i) => ({ ...grant, fd: GRANT_FD_FIRST + i }));
  const parentPid = process.pid;
  const setup: DeviceSetup = {
    id,
    isolation: "process",
    seccomp,
    grants,
    options: [],
    parentPid,
    allowWeak: false,
    weak: WEAK,
  };
  const argument = JSON.stringify(setup);
  try {
    const program = { entry, nodeFlags: NODE_FLAGS, argument, environment: ENVIRONMENT, fds };
    const pid = options.plain ? launchPlain(program) : launchWeak(program);
    return new DeviceProcess(pid, { socketFd, stderrFd, weak: WEAK });
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}
