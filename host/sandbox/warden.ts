// The VMM's hold on its warden: the process that starts devices again. It exists because the VMM,
// once a guest runs, may neither create processes nor open files; what it can still ask for is only
// what was on the command line.

import { spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { VmmError } from "../errors.js";
import { checked, socketpair } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { receiveDescriptor } from "../ffi/scm.js";
import type { Proof } from "./proof.js";
import type { DeviceExit, SpawnOptions } from "./spawn.js";
import {
  Lines,
  type WardenAnswer,
  type WardenRequest,
  type WardenSetup,
} from "./warden-messages.js";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_SEQPACKET = 5;
const SOCK_CLOEXEC = 0x80000;

function pairOf(type: number): [ours: number, theirs: number] {
  const pair = Mapping.anonymous(8);
  const result = socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair.address);
  checked(result, "socketpair", "Cannot start the warden", "ERR_SANDBOX");
  const fds: [number, number] = [pair.view.getInt32(0, true), pair.view.getInt32(4, true)];
  pair.close();
  return fds;
}

interface Waiter<T> {
  resolve: (value: T) => void;
  reject: (error: Error) => void;
}

/** A device process that the warden started. */
export interface WardedDevice {
  pid: number;
  /** The VMM's end of its socket, the receiver's to close. */
  socketFd: number;
}

export class Warden {
  readonly #messages: Socket;
  readonly #descriptors: number;
  readonly #starts = new Map<number, Waiter<WardedDevice>>();
  readonly #proofs = new Map<number, Waiter<Proof>>();
  readonly #exits = new Map<number, (exit: DeviceExit) => void>();
  readonly #gone: Promise<void>;
  #tickets = 0;
  #closing = false;
  /** Called when the warden ends although nobody asked it to. */
  onFailure: (reason: string) => void = () => {};

  private constructor(ends: { messages: number; descriptors: number; gone: Promise<void> }) {
    this.#descriptors = ends.descriptors;
    this.#gone = ends.gone;
    this.#messages = new Socket({ fd: ends.messages, readable: true, writable: true });
    const lines = new Lines();
    this.#messages.setEncoding("utf8");
    this.#messages.on("data", (text: string) => {
      for (const answer of lines.take<WardenAnswer>(text)) this.#take(answer);
    });
    this.#messages.on("error", () => {});
    this.#messages.on("close", () => this.#ended());
  }

  /** Starts the warden; from then on it may start each of `devices`, and nothing else. */
  static start(devices: SpawnOptions[]): Warden {
    const [ours, theirs] = pairOf(SOCK_STREAM);
    const [descriptors, theirDescriptors] = pairOf(SOCK_SEQPACKET);
    const setup: WardenSetup = { devices, vmmPid: process.pid };
    const entry = fileURLToPath(new URL("../sandbox/warden-main.js", import.meta.url));
    const child = spawn(process.execPath, [entry, JSON.stringify(setup)], {
      stdio: ["ignore", "ignore", "inherit", theirs, theirDescriptors],
      env: {},
    });
    closeSync(theirs);
    closeSync(theirDescriptors);
    const gone = new Promise<void>((resolve) => {
      child.once("exit", () => resolve());
      child.once("error", () => resolve());
    });
    return new Warden({ messages: ours, descriptors, gone });
  }

  /** Starts device `index`; `onExit` is called when its process has ended and was reaped. */
  spawn(index: number, onExit: (exit: DeviceExit) => void): Promise<WardedDevice> {
    const started = new Promise<WardedDevice>((resolve, reject) => {
      this.#starts.set(index, { resolve, reject });
    });
    this.#ask({ ask: "start", device: index });
    return started.then((device) => {
      this.#exits.set(device.pid, onExit);
      return device;
    });
  }

  /** Lets the warden kill and look at a process that the VMM itself started. */
  adopt(pid: number): void {
    this.#ask({ ask: "adopt", pid });
  }

  kill(pid: number): void {
    this.#ask({ ask: "kill", pid });
  }

  /**
   * What the kernel says of a device's process now; rejects with ERR_SANDBOX when it cannot be
   * read.
   */
  prove(pid: number): Promise<Proof> {
    this.#tickets += 1;
    const ticket = this.#tickets;
    this.#ask({ ask: "prove", pid, ticket });
    return new Promise((resolve, reject) => this.#proofs.set(ticket, { resolve, reject }));
  }

  /** Ends the warden, and with it what it started. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#messages.destroy();
    await this.#gone;
    closeSync(this.#descriptors);
  }

  #ask(request: WardenRequest): void {
    this.#messages.write(`${JSON.stringify(request)}\n`);
  }

  #take(answer: WardenAnswer): void {
    switch (answer.tell) {
      case "started":
        this.#started(answer);
        break;
      case "not-started":
        take(this.#starts, answer.device)?.reject(new VmmError("ERR_SANDBOX", answer.message));
        break;
      case "exit":
        take(this.#exits, answer.pid)?.(answer.exit);
        break;
      case "proof":
        take(this.#proofs, answer.ticket)?.resolve(answer.proof);
        break;
      case "no-proof":
        take(this.#proofs, answer.ticket)?.reject(new VmmError("ERR_SANDBOX", answer.message));
        break;
    }
  }

  #started({ device, pid }: { device: number; pid: number }): void {
    const waiter = take(this.#starts, device);
    const socketFd = receiveDescriptor(this.#descriptors);
    if (socketFd !== undefined) waiter?.resolve({ pid, socketFd });
    else waiter?.reject(new VmmError("ERR_SANDBOX", "The warden sent no descriptor"));
  }

  #ended(): void {
    const error = new VmmError("ERR_SANDBOX", "The warden, which starts devices again, is gone");
    for (const { reject } of [...this.#starts.values(), ...this.#proofs.values()]) reject(error);
    this.#starts.clear();
    this.#proofs.clear();
    if (!this.#closing) this.onFailure(error.message);
  }
}

/** Removes and returns the entry of `key`. */
function take<K, V>(map: Map<K, V>, key: K): V | undefined {
  const value = map.get(key);
  map.delete(key);
  return value;
}
