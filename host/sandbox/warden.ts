// The VMM's hold on its warden: the process that starts devices again. It exists because the VMM,
// once a guest runs, may neither create processes nor open files (vmm-policy.ts); what it can still
// ask for is only what was on the command line.

import { closeSync, openSync } from "node:fs";
import { Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { assert, VmmError } from "../errors.js";
import { socketpair } from "../ffi/libc.js";
import { receiveDescriptor } from "../ffi/scm.js";
import type { SocketFile } from "./grants.js";
import { launchHelper } from "./namespaces.js";
import { PidFd } from "./pidfd.js";
import type { Weakness } from "./pieces.js";
import type { Proof } from "./proof.js";
import { waitForTurn } from "./schedule.js";
import { type DeviceExit, pairOf, reap, stage, stageCopy } from "./spawn.js";
import type { DeviceStarter, Placed, StartedDevice } from "./starter.js";
import type { Verified } from "./verify.js";
import {
  HELD_FD_FIRST,
  Lines,
  type WardenAnswer,
  type WardenRequest,
  type WardenSetup,
} from "./warden-messages.js";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_SEQPACKET = 5;
const SOCK_CLOEXEC = 0x80000;

/** It starts processes and reads /proc: a small heap, no thread but its own. */
export const NODE_FLAGS: readonly string[] = [
  "--single-threaded",
  "--v8-pool-size=0",
  "--no-rehash-snapshot", // as in a device; it makes objects of what the VMM says, and of /proc
  "--max-semi-space-size=1", // MiB
];
const ENVIRONMENT: readonly string[] = ["MALLOC_ARENA_MAX=1", "UV_THREADPOOL_SIZE=1", "TZ=UTC0"];

const ENTRY = fileURLToPath(new URL("../sandbox/warden-main.js", import.meta.url));

interface Waiter {
  done: (value: unknown) => void;
  failed: (error: Error) => void;
}

/** A device process that the warden started, as the VMM holds it. */
class WardedDevice implements StartedDevice {
  readonly pid: number;
  readonly #socketFd: number;
  readonly #kill: () => void;
  readonly #listeners: ((exit: DeviceExit) => void)[] = [];
  #socketOpen = true;
  #exit: DeviceExit | undefined;

  constructor(pid: number, options: { socketFd: number; kill: () => void }) {
    this.pid = pid;
    this.#socketFd = options.socketFd;
    this.#kill = options.kill;
  }

  takeSocket(): number {
    this.#socketOpen = false;
    return this.#socketFd;
  }

  onExit(listener: (exit: DeviceExit) => void): void {
    if (this.#exit === undefined) this.#listeners.push(listener);
    else listener(this.#exit);
  }

  kill(): void {
    // Afterwards the warden would kill the next process of this device.
    if (this.#exit === undefined) this.#kill();
  }

  close(): void {
    this.kill();
    if (this.#socketOpen) closeSync(this.#socketFd);
    this.#socketOpen = false;
  }

  ended(exit: DeviceExit): void {
    this.#exit = exit;
    for (const listener of this.#listeners) listener(exit);
  }
}

/**
 * How long the warden may take to remove files, which takes a millisecond, before it is ended; one
 * of a VM that was short may still be starting, which takes seconds where many start at once.
 */
const LEAVE_TIMEOUT_MS = 10_000;

/** Devices as the warden is told of them, and copies of what it is to hold open for them. */
function handOver(devices: readonly Placed[]): { devices: Placed[]; held: number[] } {
  const held: number[] = [];
  const told = devices.map(({ plan, pid }) => {
    const grants = plan?.grants.map((grant) => {
      if (grant.held === undefined) return grant;
      return { ...grant, held: HELD_FD_FIRST + held.push(stageCopy(grant.held)) - 1 };
    });
    return { plan: plan && { ...plan, grants: grants ?? [] }, pid };
  });
  return { devices: told, held };
}

/** A pair of connected sockets of a type: the VMM's, and the warden's out of harm's way. */
function socketsOf(type: number): { ours: number; theirs: number } {
  const make = (sv: number) => socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, sv);
  const [ours, theirs] = pairOf(make, "socketpair");
  return { ours, theirs: stage(theirs) };
}

export class Warden implements DeviceStarter {
  readonly pid: number;
  readonly #pidfd: PidFd;
  readonly #messages: Socket;
  readonly #descriptors: number;
  readonly #waiters: Waiter[] = [];
  readonly #devices = new Map<number, WardedDevice>();
  readonly #onGone: (reason: string) => void;
  #runs = false;
  readonly #hasFiles: boolean;
  #lastWords = "";
  #gone: VmmError | undefined;
  #reaped: () => void = () => {};
  readonly #end = new Promise<void>((resolve) => {
    this.#reaped = resolve;
  });

  private constructor(
    pid: number,
    options: {
      pidfd: PidFd;
      messages: number;
      descriptors: number;
      hasFiles: boolean;
      onGone: (reason: string) => void;
    },
  ) {
    this.pid = pid;
    this.#hasFiles = options.hasFiles;
    this.#pidfd = options.pidfd;
    this.#descriptors = options.descriptors;
    this.#onGone = options.onGone;
    this.#messages = new Socket({ fd: options.messages, readable: true, writable: true });
    const lines = new Lines();
    this.#messages.setEncoding("utf8");
    this.#messages.on("data", (text: string) => {
      for (const answer of lines.take<WardenAnswer>(text)) this.#take(answer);
    });
    this.#messages.on("error", () => {});
    this.#messages.on("close", () => reap(this.pid, (status) => this.#ended(status)));
  }

  /**
   * Creates the warden, stopped: its node would take the processor from the devices, for which the
   * guest waits. It may start each of `devices` that has a plan, and nothing else.
   *
   * @param onGone called with the reason when it ends although nobody closed it
   * @param socketFiles what it removes at its end
   */
  static start(
    devices: readonly Placed[],
    onGone: (reason: string) => void,
    socketFiles: readonly SocketFile[] = [],
  ): Warden {
    const messages = socketsOf(SOCK_STREAM);
    const descriptors = socketsOf(SOCK_SEQPACKET);
    const { devices: told, held } = handOver(devices);
    const setup: WardenSetup = { devices: told, socketFiles };
    const nothing = () => stage(openSync("/dev/null", "r+"));
    const fds = [nothing(), nothing(), nothing(), messages.theirs, descriptors.theirs, ...held];
    try {
      const pid = launchHelper({
        entry: ENTRY,
        nodeFlags: NODE_FLAGS,
        argument: JSON.stringify(setup),
        environment: ENVIRONMENT,
        fds,
      });
      const pidfd = new PidFd(pid);
      pidfd.stop();
      waitForTurn(pid); // or when it is let go the guest, which is about to start, has to wait
      const ends = { pidfd, messages: messages.ours, descriptors: descriptors.ours };
      return new Warden(pid, { ...ends, hasFiles: socketFiles.length > 0, onGone });
    } catch (error) {
      closeSync(messages.ours);
      closeSync(descriptors.ours);
      throw error;
    } finally {
      for (const fd of fds) closeSync(fd);
    }
  }

  /** Lets it boot; it is at work some 50 ms later, and what is asked of it waits until then. */
  go(): void {
    this.#runs = true;
    this.#pidfd.go();
  }

  start(device: number): Promise<StartedDevice> {
    // Not in a later turn: the end of the process may be the very next message.
    return this.#ask({ ask: "start", device }, (pid) => this.#started(device, pid as number));
  }

  verify(device: number, said: readonly Weakness[]): Promise<Verified> {
    return this.#ask({ ask: "verify", device, said });
  }

  prove(device: number): Promise<Proof> {
    return this.#ask({ ask: "prove", device });
  }

  /** Removes what listening sockets leave behind, and ends the warden and what it started. */
  async close(): Promise<void> {
    if (this.#runs && this.#hasFiles) await this.#leave();
    if (this.#gone === undefined) {
      this.#gone = new VmmError("ERR_SANDBOX", "The warden was closed");
      this.#pidfd.kill();
    }
    await this.#end;
  }

  async #leave(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, LEAVE_TIMEOUT_MS);
    });
    await Promise.race([this.#ask({ ask: "leave", device: 0 }).catch(() => {}), late]);
    clearTimeout(timer);
  }

  #ask<T>(request: WardenRequest, read: (value: unknown) => T = (value) => value as T): Promise<T> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    this.#messages.write(`${JSON.stringify(request)}\n`);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ done: (value) => resolve(read(value)), failed: reject });
    });
  }

  #started(device: number, pid: number): StartedDevice {
    const socketFd = receiveDescriptor(this.#descriptors);
    assert(socketFd !== undefined, "the warden sends the socket of a device before its pid");
    const kill = () => void this.#ask({ ask: "kill", device }).catch(() => {});
    const started = new WardedDevice(pid, { socketFd, kill });
    this.#devices.set(device, started);
    return started;
  }

  #take(answer: WardenAnswer): void {
    switch (answer.tell) {
      case "done":
        this.#waiters.shift()?.done(answer.value);
        break;
      case "failed":
        this.#waiters.shift()?.failed(new VmmError(answer.code, answer.message));
        break;
      case "exit":
        this.#exited(answer.device, answer.exit);
        break;
      case "broken":
        this.#lastWords = `: ${answer.message}`;
        break;
    }
  }

  #exited(device: number, exit: DeviceExit): void {
    const ended = this.#devices.get(device);
    this.#devices.delete(device);
    ended?.ended(exit);
  }

  #ended(status: number): void {
    this.#pidfd.close();
    closeSync(this.#descriptors);
    this.#reaped();
    if (this.#gone === undefined) this.#failed(status);
  }

  /** What it started has ended with it (PR_SET_PDEATHSIG), and nothing can be started any more. */
  #failed(status: number): void {
    const how = status & 0x7f ? `killed by signal ${status & 0x7f}` : `status ${status >> 8}`;
    const reason = `the warden, which starts devices again, is gone (${how})${this.#lastWords}`;
    this.#gone = new VmmError("ERR_SANDBOX", reason);
    this.#onGone(reason);
    for (const { failed } of this.#waiters.splice(0)) failed(this.#gone);
    const exit = { status: undefined, signal: "SIGKILL", reason, stderr: "" };
    for (const device of [...this.#devices.keys()]) this.#exited(device, exit);
  }
}
