// Starts the process of one device: a fresh node in namespaces of its own, with an empty
// environment and no descriptor but its own, running host/runtime/main.js.

import { closeSync, constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { constants as osConstants } from "node:os";
import { fileURLToPath } from "node:url";
import { VmmError } from "../errors.js";
import { checked, fcntl, socketpair, syscall } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { GRANT_FD_FIRST } from "./descriptors.js";
import { openGrants } from "./grant-open.js";
import { fdsOf, type GrantedFd, placeGrants, type ResolvedGrant } from "./grants.js";
import { FCNTL, SIGNAL } from "./linux.js";
import type { DeviceSetup, SeccompMode } from "./lockdown.js";
import { launchConfined, type Program } from "./namespaces.js";
import type { OptionValue } from "./options.js";
import { PidFd } from "./pidfd.js";
import type { Weakness } from "./pieces.js";
import { LIBRARIES_INSIDE } from "./root.js";
import { syscallNumber } from "./syscalls.js";

/**
 * Flags of a device's node. V8 must have written all its machine code by the lock-down: nothing is
 * compiled lazily, tiered up or optimised later (see forwarder.ts for what no flag switches off).
 * Wasm checks bounds in its code, not by faulting: then no signal handler is needed, and no
 * rt_sigreturn(2).
 */
export const NODE_FLAGS: readonly string[] = [
  "--single-threaded",
  "--v8-pool-size=0",
  // 2.5 ms: V8's snapshot keeps the seed of its hashes. Who knows it can choose keys that collide,
  // and would only slow down the process that he is in.
  "--no-rehash-snapshot",
  "--no-opt",
  "--no-sparkplug",
  "--no-wasm-tier-up",
  "--no-wasm-dynamic-tiering",
  "--no-wasm-lazy-compilation",
  "--wasm-enforce-bounds-checks",
  "--regexp-interpret-all",
  "--max-semi-space-size=1", // MiB: garbage is collected early, which saves 2 MiB a process
  "--optimize-for-size", // 0.2 MB less, and as fast
  "--expose-gc",
];

/**
 * One malloc arena: trimming several makes glibc open a file of /proc. One libuv thread at most. A
 * time zone, or the C library looks again and again whether /etc/localtime has changed.
 */
const ENVIRONMENT: readonly string[] = [
  "MALLOC_ARENA_MAX=1",
  "UV_THREADPOOL_SIZE=1",
  "TZ=UTC0",
  `LD_LIBRARY_PATH=${LIBRARIES_INSIDE}`,
];

/** The program of a device process, bundled or not, as this file is. */
const RUNTIME = fileURLToPath(new URL("../runtime/main.js", import.meta.url));

/** What a device may say on stderr, before its lock-down; the rest is dropped. */
const STDERR_CHARACTERS_MAX = 16 * 1024;
/**
 * Descriptors are kept above those that the child gets, so that dup3(2) overwrites none of them.
 */
const STAGED_FD_FIRST = 64;
/** A process that has closed its stderr is looked at again this much later until it has ended. */
const REAP_RETRY_MS = 2;
const WNOHANG = 1;
/** The part of a status of wait4(2) that is a signal. */
const WTERMSIG = 0x7f;
const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
/**
 * SOCK_CLOEXEC and SOCK_NONBLOCK have the values of O_CLOEXEC and O_NONBLOCK (bits/socket_type.h).
 */
const O_CLOEXEC = 0o2000000;
const { O_NONBLOCK, O_RDONLY, O_RDWR } = constants;
const F_SETFL = 4;

export interface SpawnOptions {
  id: string;
  /** Path of the module. */
  module: string;
  grants: readonly ResolvedGrant[];
  /** What the user set; nothing unless given. */
  options?: readonly OptionValue[];
  seccomp: SeccompMode;
  /** Start without the pieces that this kernel, or this user, cannot have (pieces.ts). */
  allowWeak?: boolean;
  /** Program of the process: the device runtime, unless a test has another. */
  entry?: string;
}

/** How a device process ended. */
export interface DeviceExit {
  status: number | undefined;
  /** Name of the signal that killed it. */
  signal: string | undefined;
  /** All that is known, in one line. */
  reason: string;
  stderr: string;
}

/** Two connected ends of a kind of pipe; `theirs` goes to the child. */
interface Ends {
  ours: number;
  theirs: number;
}

export function pairOf(make: (address: number) => number, what: string): [number, number] {
  const pair = Mapping.anonymous(8);
  checked(make(pair.address), what, "Cannot start a device process", "ERR_SANDBOX");
  const fds: [number, number] = [pair.words[0]!, pair.words[1]!];
  pair.close();
  return fds;
}

function socketEnds(): Ends {
  const type = SOCK_SEQPACKET | O_CLOEXEC;
  const make = (sv: number) => socketpair(AF_UNIX, type, 0, sv);
  const [ours, theirs] = pairOf(make, "socketpair");
  fcntl(ours, F_SETFL, O_NONBLOCK);
  return { ours, theirs };
}

function pipeEnds(): Ends {
  const make = (fds: number) => syscall(syscallNumber("pipe2"), fds, O_CLOEXEC, 0, 0, 0, 0);
  const [ours, theirs] = pairOf(make, "pipe2");
  return { ours, theirs };
}

/** Another descriptor of the same, out of the way of those that the child will get. */
export function stageCopy(fd: number): number {
  const high = fcntl(fd, FCNTL.F_DUPFD_CLOEXEC, STAGED_FD_FIRST);
  return checked(high, "fcntl", "Cannot start a device process", "ERR_SANDBOX");
}

/** Moves a descriptor out of the way of those that the child will get. */
export function stage(fd: number): number {
  try {
    return stageCopy(fd);
  } finally {
    closeSync(fd);
  }
}

function openModule(file: string): number {
  try {
    return openSync(file, O_RDONLY);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new VmmError("ERR_FILE", `Cannot open the module "${file}": ${reason}`, { cause });
  }
}

/** A device is not told any path. */
function withoutPath({ socketFile, directory, ...grant }: GrantedFd): GrantedFd {
  return grant;
}

/** Opens the module and what is granted; nothing stays open if one of them cannot be. */
function openAll({ module: file, grants }: SpawnOptions): { module: number; granted: GrantedFd[] } {
  const module = openModule(file);
  try {
    return { module, granted: openGrants(grants) };
  } catch (error) {
    closeSync(module);
    throw error;
  }
}

const SIGNAL_NAMES = new Map(
  Object.entries(osConstants.signals).map(([name, number]) => [number as number, name]),
);

/** Decodes a status of wait4(2). */
function exitOf(status: number, stderr: string): DeviceExit {
  const number = status & WTERMSIG;
  const signal = number === 0 ? undefined : (SIGNAL_NAMES.get(number) ?? `signal ${number}`);
  const code = number === 0 ? (status >> 8) & 0xff : undefined;
  const cause = number === SIGNAL.SIGSYS ? " (its policy forbids a call that it made)" : "";
  const how =
    signal === undefined ? `exited with status ${code}` : `was killed by ${signal}${cause}`;
  const said = stderr.trim().split("\n").at(-1) ?? "";
  const reason = said === "" ? how : `${how}: ${said}`;
  return { status: code, signal, reason, stderr };
}

/** A running device process, as its parent holds it. */
export class DeviceProcess {
  readonly pid: number;
  /** The VMM's end of the socket: SOCK_SEQPACKET, non-blocking, close-on-exec. */
  readonly socketFd: number;
  /** What its start had to do without; empty unless `allowWeak` was set. */
  readonly weak: readonly Weakness[];
  #stderr = "";
  #exit: DeviceExit | undefined;
  readonly #pidfd: PidFd;
  readonly #listeners: ((exit: DeviceExit) => void)[] = [];
  #socketOpen = true;

  constructor(
    pid: number,
    ends: { socketFd: number; stderrFd: number; weak: readonly Weakness[] },
  ) {
    this.pid = pid;
    this.#pidfd = new PidFd(pid);
    this.socketFd = ends.socketFd;
    this.weak = ends.weak;
    const pipe = new Socket({ fd: ends.stderrFd, readable: true, writable: false });
    pipe.setEncoding("utf8");
    pipe.on("data", (text: string) => this.#said(text));
    pipe.on("error", () => {});
    // The process holds the only other end, so this is its death.
    pipe.on("close", () => reap(this.pid, (status) => this.#ended(status)));
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Calls `listener` when the process has ended, at once if it has already. */
  onExit(listener: (exit: DeviceExit) => void): void {
    if (this.#exit === undefined) this.#listeners.push(listener);
    else listener(this.#exit);
  }

  /** Hands the VMM's end of the socket over: whoever takes it closes it. */
  takeSocket(): number {
    this.#socketOpen = false;
    return this.socketFd;
  }

  /** Ends the process; the exit is reported as any other. */
  kill(): void {
    if (this.#exit === undefined) this.#pidfd.kill();
  }

  /** Ends the process and closes the VMM's end of its socket, unless somebody took it. */
  close(): void {
    this.kill();
    if (this.#socketOpen) closeSync(this.socketFd);
    this.#socketOpen = false;
  }

  #said(text: string): void {
    this.#stderr = (this.#stderr + text).slice(0, STDERR_CHARACTERS_MAX);
  }

  #ended(status: number): void {
    this.#pidfd.close();
    this.#exit = exitOf(status, this.#stderr);
    for (const listener of this.#listeners) listener(this.#exit);
  }
}

/** Calls `ended` with the status of wait4(2) of a child that has ended or is about to. */
export function reap(pid: number, ended: (status: number) => void): void {
  const status = waitFor(pid, WNOHANG);
  if (status === undefined) setTimeout(() => reap(pid, ended), REAP_RETRY_MS);
  else ended(status);
}

/** Status of a child that has ended, or undefined while it runs. */
function waitFor(pid: number, options: number): number | undefined {
  const status = Mapping.anonymous(4);
  const result = syscall(syscallNumber("wait4"), pid, status.address, options, 0, 0, 0);
  const value = status.words[0];
  status.close();
  return result === pid ? value : undefined;
}

/**
 * Starts a device process. It confines itself and then says READY on the socket.
 *
 * @throws VmmError ERR_FILE (module), ERR_GRANT (a grant cannot be opened), ERR_SANDBOX (a
 *   piece of the sandbox cannot be had and `allowWeak` is not set)
 */
export function spawnDevice(options: SpawnOptions): DeviceProcess {
  const { id, seccomp, options: set = [] } = options;
  const entry = options.entry ?? RUNTIME;
  const { module, granted } = openAll(options);
  const [socket, stderr] = [socketEnds(), pipeEnds()];
  const fds = [
    stage(openSync("/dev/null", O_RDWR)),
    stage(openSync("/dev/null", O_RDWR)),
    stage(stderr.theirs),
    stage(socket.theirs),
    stage(module),
    ...fdsOf(granted).map(stage),
  ];
  const placed = placeGrants(granted, GRANT_FD_FIRST);
  const directories = placed.flatMap(({ fd, rights, directory }) =>
    directory === undefined ? [] : { fd, path: directory, isWritable: rights.includes("write") },
  );
  const grants = placed.map(withoutPath);
  const allowWeak = options.allowWeak === true;
  const programOf = (weak: Weakness[]): Program => {
    const parentPid = weak.some(({ piece }) => piece === "pid namespace") ? process.pid : 0;
    const isolation = { isolation: "process", parentPid, allowWeak, weak } as const;
    const argument = JSON.stringify({
      ...{ id, seccomp, grants, options: set },
      ...isolation,
    } satisfies DeviceSetup);
    return { entry, nodeFlags: NODE_FLAGS, argument, environment: ENVIRONMENT, fds, directories };
  };
  try {
    const { pid, weak } = launchConfined(programOf, { allowWeak });
    return new DeviceProcess(pid, { socketFd: socket.ours, stderrFd: stderr.ours, weak });
  } catch (error) {
    closeSync(socket.ours);
    closeSync(stderr.ours);
    throw error;
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}
