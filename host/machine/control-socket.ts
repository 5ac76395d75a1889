// The control socket of a VM, from its claim to its end. It exists before the VMM confines itself,
// which can make none later; whoever holds it holds the name of the VM.

import { constants, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { VmmError } from "../errors.js";
import { close, fcntl, open, syscall } from "../ffi/libc.js";
import type { SocketFile } from "../sandbox/grants.js";
import { FCNTL } from "../sandbox/linux.js";
import { syscallNumber } from "../sandbox/syscalls.js";
import { isStale, listenAt, removeSocketFile } from "../sandbox/unix-socket.js";
import type { UntimedEvent } from "./config.js";
import type { Controlled } from "./control.js";
import {
  BACKLOG,
  controlDirectories,
  makeControlDirectory,
  SOCKET_SUFFIX,
  socketIn,
  trustedDirectories,
} from "./control-path.js";
import type { ControlServer } from "./control-server.js";

/** How a VM is called, and where it is asked. */
export interface ControlConfig {
  name: string;
  /** Path of its socket; by default one that follows from its name. */
  path?: string;
  /** The user asked for it: there is no VM without it. */
  required: boolean;
}

/**
 * Descriptor of the listening socket, if it is free: the policy names it, and so can whoever prints
 * the policy. Below those that are staged for devices.
 */
export const CONTROL_FD = 63;

/** flock(2) */
const LOCK_EX = 2;
const LOCK_NB = 4;
/** Two VMs that start at once hold it for a millisecond each; a stranger may hold it for ever. */
const LOCK_TRIES = 100;
const LOCK_RETRY_MS = 10;

const pause = new Int32Array(new SharedArrayBuffer(4));

/**
 * Runs `body` while no other VM claims a socket in `directory`: between bind(2) and listen(2) a
 * socket looks as one that was left behind, and would be removed.
 */
function alone<T>(directory: string, body: () => T): T {
  const fd = open(directory, constants.O_RDONLY | constants.O_DIRECTORY | FCNTL.O_CLOEXEC, 0);
  try {
    const nr = syscallNumber("flock");
    for (let tries = 0; fd !== -1 && tries < LOCK_TRIES; tries += 1) {
      if (syscall(nr, fd, LOCK_EX | LOCK_NB, 0, 0, 0, 0) === 0) break;
      Atomics.wait(pause, 0, 0, LOCK_RETRY_MS);
    }
    return body();
  } finally {
    if (fd !== -1) close(fd);
  }
}

/** Removes what VMs of this user left behind that were killed together with their wardens. */
export function removeStaleSockets(): void {
  for (const directory of trustedDirectories()) {
    alone(directory, () => {
      for (const name of readdirSync(directory)) {
        if (!name.endsWith(SOCKET_SUFFIX)) continue;
        const file = path.join(directory, name);
        const fault = (cause: string) => new VmmError("ERR_FILE", `Cannot use "${file}": ${cause}`);
        if (isStale({ path: file, fault })) rmSync(file, { force: true });
      }
    });
  }
}

/** Moves a descriptor to CONTROL_FD, or to the next one that is free. */
function place(fd: number): number {
  const placed = fcntl(fd, FCNTL.F_DUPFD_CLOEXEC, CONTROL_FD);
  if (placed === -1) return fd;
  close(fd);
  return placed;
}

/** The name of a VM and the socket to it, taken. */
class ControlSocket {
  readonly name: string;
  readonly path: string;
  readonly fd: number;
  readonly #file: SocketFile;
  #taken = false;
  #handedOver = false;

  private constructor(name: string, { fd, socketFile }: { fd: number; socketFile: SocketFile }) {
    this.name = name;
    this.path = socketFile.path;
    this.#file = socketFile;
    this.fd = place(fd);
  }

  /**
   * Takes the socket of the VM `name`, in the place of one that a dead VM left behind.
   *
   * @throws VmmError ERR_USAGE when a living VM has it, ERR_FILE when there can be none
   */
  static claim({ name, path: given }: ControlConfig): ControlSocket {
    const [directory = ""] = controlDirectories();
    if (given === undefined) makeControlDirectory(directory);
    const file = given === undefined ? socketIn(directory, name) : path.resolve(given);
    const what =
      given === undefined ? `name this VM "${name}"` : `listen at --api-socket "${given}"`;
    const taken = "a VM that runs has it\nbulkhead list shows it, bulkhead stop ends it";
    const fault = (cause: string) => new VmmError("ERR_USAGE", `Cannot ${what}: ${cause}`);
    const listened = alone(path.dirname(file), () =>
      listenAt({ path: file, taken, fault }, BACKLOG),
    );
    return new ControlSocket(name, listened);
  }

  /** The file, for whoever can remove it once this process cannot. */
  handOver(): SocketFile {
    this.#handedOver = true;
    return this.#file;
  }

  /** The listening descriptor, from now on the caller's to close. */
  take(): number {
    this.#taken = true;
    return this.fd;
  }

  close(): void {
    if (!this.#taken) close(this.fd);
    if (!this.#handedOver) removeSocketFile(this.#file);
  }
}

/** How others control a VM. */
export class Control {
  readonly #socket: ControlSocket;
  #server: ControlServer | undefined;
  #hasVm: (vm: Controlled) => void = () => {};
  readonly #vm = new Promise<Controlled>((resolve) => {
    this.#hasVm = resolve;
  });

  private constructor(socket: ControlSocket) {
    this.#socket = socket;
  }

  /**
   * Takes name and socket, if there shall be one; where it cannot be had and nobody asked for it,
   * that is said.
   *
   * @throws VmmError ERR_USAGE or ERR_FILE when it is required and cannot be had
   */
  static claim(
    config: ControlConfig | undefined,
    emit: (event: UntimedEvent) => void,
  ): Control | undefined {
    if (config === undefined) return undefined;
    try {
      return new Control(ControlSocket.claim(config));
    } catch (error) {
      if (config.required || !(error instanceof VmmError)) throw error;
      const text = `no control socket: ${error.message}`;
      emit({ event: "log", level: "warning", text });
      return undefined;
    }
  }

  get name(): string {
    return this.#socket.name;
  }

  get path(): string {
    return this.#socket.path;
  }

  /** The listening descriptor. */
  get fd(): number {
    return this.#socket.fd;
  }

  /** The file, for whoever can remove it once this process cannot. */
  handOver(): SocketFile {
    return this.#socket.handOver();
  }

  /** Listens to clients, who wait until there is a VM; it takes 3 ms, when nobody waits for it. */
  async listen(): Promise<void> {
    const { ControlServer } = await import("./control-server.js");
    this.#server = new ControlServer(this.#socket.take(), this.#vm);
  }

  /** Answers requests about `vm` from now on. */
  serve(vm: Controlled): void {
    this.#hasVm(vm);
  }

  async close(): Promise<void> {
    await this.#server?.close();
    this.#socket.close();
  }
}
