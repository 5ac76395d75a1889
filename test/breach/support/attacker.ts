// The VMM's side of an attack: starts an attacker behind some or all walls, gives it what it needs,
// and sees how it ends.

import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { VmmError } from "../../../host/errors.js";
import { recvmsg, syscall } from "../../../host/ffi/libc.js";
import { Mapping } from "../../../host/ffi/memory.js";
import { IOVEC, MSGHDR } from "../../../host/ffi/socket.js";
import type { ResolvedGrant } from "../../../host/sandbox/grants.js";
import type { SeccompMode } from "../../../host/sandbox/lockdown.js";
import type { ImportedFunction } from "../../../host/sandbox/sections.js";
import {
  type DeviceExit,
  type DeviceProcess,
  type SpawnOptions,
  spawnDevice,
} from "../../../host/sandbox/spawn.js";
import { syscallNumber } from "../../../host/sandbox/syscalls.js";
import { NOTHING, SocketChannel } from "../../../host/wire/channel.js";
import { HEADER_BYTES, PAYLOAD_BYTES_MAX } from "../../../host/wire/format.js";
import { Guard } from "../../support/guard.js";
import type { Order } from "../process/deeds.js";
import {
  type Context,
  EXECUTED_STATUS,
  type Finding,
  type Goal,
  SECRET,
  VICTIM,
  type Walls,
} from "../process/goal.js";
import { directory as scratch, scratchFile } from "./confined.js";
import { spawnUnisolated } from "./unisolated.js";

const ATTACKER = fileURLToPath(new URL("../process/attacker.js", import.meta.url));
export const RNG_MODULE = fileURLToPath(new URL("../../../devices/rng.wasm", import.meta.url));
/** First word of a message that carries what the attacker found (attacker.ts). */
const SAID = 0x5a1d;
const POLL_MS = 1;
const CONTROL_BYTES = 4096;
/** Time in which an attacker finishes whatever it can without the VMM. */
const DEAF_MS = 300;
/** Against hangs only: then it is killed, which is how no goal ends. */
const ATTACK_MS_MAX = 60_000;
const MSG_NOSIGNAL = 0x4000;

const CONFINED: Readonly<Record<Walls, Order["confine"]>> = {
  all: "wholly",
  "no filter": "wholly",
  "no namespaces": "wholly",
  "Landlock alone": "by Landlock",
  nothing: "not at all",
};

export interface AttackerOptions {
  walls?: Walls;
  seccomp?: SeccompMode;
  /** Imports to make the policy of, instead of those of the module. */
  imports?: readonly ImportedFunction[];
  grants?: readonly ResolvedGrant[];
  module?: string;
  /** What it does itself to be confined, if not what belongs to its walls. */
  confine?: Order["confine"];
  unsignalled?: boolean;
}

/** An image that anyone may read and write, if only they could open it. */
export function imageGrant(): ResolvedGrant {
  const what = scratchFile("a read-only image".repeat(1000));
  fs.chmodSync(what, 0o666);
  return { name: "source", kind: "file", what, rights: ["read"] };
}

/** Knows no more than who the VMM is. */
export const NOBODY: Context = {
  walls: "all",
  vmmPid: process.pid,
  secretAddress: 0,
  siblingPid: 0,
  siblingImage: "",
  tcpPort: 0,
  abstractName: "",
  directory: "",
};

/** A process of the attacker's, and the VMM's end of its socket. */
export class Attacker {
  readonly process: DeviceProcess;
  readonly exit: Promise<DeviceExit>;
  readonly guard: Guard;
  readonly #channel: SocketChannel;
  readonly #payload = Mapping.anonymous(PAYLOAD_BYTES_MAX);
  readonly #naive: Mapping | undefined;
  #answered = false;

  constructor(order: Pick<Order, "deed" | "context">, options: AttackerOptions = {}) {
    const { walls = "all", grants = [imageGrant()], module = RNG_MODULE } = options;
    const plain = CONFINED[walls] !== "wholly";
    const { confine = CONFINED[walls], unsignalled = false } = options;
    const imports = options.imports === undefined ? {} : { imports: options.imports };
    const id = JSON.stringify({ ...order, confine, unsignalled, ...imports } satisfies Order);
    const off = plain || confine === "not at all" || walls === "no filter";
    const seccomp = options.seccomp ?? (off ? "off" : "enforce");
    const all: SpawnOptions = { id, module, grants, seccomp, entry: ATTACKER };
    const isolated = walls === "all" || walls === "no filter";
    this.process = isolated
      ? spawnDevice(all)
      : spawnUnisolated({ ...all, entry: ATTACKER, plain });
    this.exit = new Promise((resolve) => this.process.onExit(resolve));
    this.#channel = new SocketChannel(this.process.socketFd);
    this.guard = new Guard(this.process, seccomp);
    this.#naive = walls !== "nothing" ? undefined : Mapping.anonymous(CONTROL_BYTES);
  }

  /**
   * The next thing that the attacker says, or undefined when it is gone. The first of all other
   * messages is answered.
   */
  async hear(): Promise<string | undefined> {
    for (;;) {
      const length = this.guard.poll() ? this.#channel.peek() : NOTHING;
      if (length === 0) return undefined;
      if (length === NOTHING) {
        await sleep(POLL_MS);
        continue;
      }
      const bytes = Math.max(0, Math.min(length - HEADER_BYTES, PAYLOAD_BYTES_MAX));
      this.#channel.scatter(this.#payload.address, bytes);
      this.#take(length);
      if (this.#channel.incoming[0] !== SAID) {
        if (!this.#answered) this.go();
        this.#answered = true;
        continue;
      }
      return new TextDecoder().decode(this.#payload.view.buffer.slice(0, bytes));
    }
  }

  /**
   * Takes the message that peek() found: behind no walls, as a VMM would that accepts descriptors.
   */
  #take(length: number): void {
    if (this.#naive === undefined || this.#channel.incoming[0] === SAID) {
      this.#channel.take();
      return;
    }
    const { address, view } = this.#naive;
    const iovec = { iov_base: BigInt(this.#payload.address), iov_len: BigInt(length) };
    IOVEC.write(view, MSGHDR.size, iovec);
    MSGHDR.write(view, 0, {
      msg_iov: BigInt(address + MSGHDR.size),
      msg_iovlen: 1n,
      msg_control: BigInt(address + CONTROL_BYTES / 2),
      msg_controllen: BigInt(CONTROL_BYTES / 2),
    });
    recvmsg(this.process.socketFd, address, 0);
  }

  /** Sends one byte, so that the attacker goes on. */
  go(): void {
    const { socketFd } = this.process;
    const nr = syscallNumber("sendto");
    syscall(nr, socketFd, this.#payload.address, 1, MSG_NOSIGNAL, 0, 0);
  }

  /** Waits until the attacker stands where it is to attack from. */
  async ready(): Promise<void> {
    const said = await this.hear();
    if (said === "ready") return;
    throw new Error(`the attacker did not get ready: ${said ?? (await this.exit).reason}`);
  }

  /** How it ended, once it has said its last. */
  async end(): Promise<End> {
    return { ...(await this.exit), denied: this.guard.denied[0] };
  }

  async close(): Promise<DeviceExit> {
    this.process.close();
    const exit = await this.exit;
    this.guard.close();
    this.#channel.close();
    this.#payload.close();
    this.#naive?.close();
    return exit;
  }
}

/** `denied`: the system call that it was ended for, with its arguments. */
export type End = DeviceExit & { denied: string | undefined };

export interface Outcome extends Finding {
  denied: string | undefined;
}

/** What a death is called in the tables: `denied` if the filter was the reason. */
export function deathOf({ denied, signal }: End): string | undefined {
  return denied === undefined ? signal : "denied";
}

/** Why processes cannot be isolated here; undefined if they can. */
export async function missingNamespaces(): Promise<string | undefined> {
  try {
    await new Attacker({ deed: "nothing", context: NOBODY }).close();
    return undefined;
  } catch (error) {
    if (error instanceof VmmError) return error.message;
    throw error;
  }
}

/** What the VMM has that attackers want: listens, remembers a secret, and runs another device. */
export class World {
  readonly #secret = Mapping.anonymous(SECRET.length);
  readonly #tcp: net.Server;
  readonly #abstract: net.Server;
  readonly #sibling: Attacker;
  readonly #siblingImage: ResolvedGrant;
  readonly #base: Context;

  private constructor(tcp: net.Server, abstract: net.Server, abstractName: string) {
    this.#tcp = tcp;
    this.#abstract = abstract;
    new Uint8Array(this.#secret.view.buffer).set(new TextEncoder().encode(SECRET));
    this.#siblingImage = imageGrant();
    const { port } = tcp.address() as net.AddressInfo;
    this.#base = {
      ...NOBODY,
      secretAddress: this.#secret.address,
      siblingImage: this.#siblingImage.what,
      tcpPort: port,
      abstractName,
    };
    const grants = [this.#siblingImage];
    this.#sibling = new Attacker({ deed: "nothing", context: this.#base }, { grants });
  }

  static async create(): Promise<World> {
    const abstractName = `bulkhead-breach-${process.pid}`;
    const tcp = net.createServer((socket) => socket.end(SECRET));
    const abstract = net.createServer((socket) => socket.end(SECRET));
    await new Promise<void>((resolve) => tcp.listen(0, "127.0.0.1", resolve));
    await new Promise<void>((resolve) => abstract.listen(`\0${abstractName}`, resolve));
    const world = new World(tcp, abstract, abstractName);
    await world.#sibling.ready();
    return world;
  }

  /** What an attacker knows of this world; its directory is new. */
  context(walls: Walls): Context {
    const directory = scratchDirectory();
    fs.writeFileSync(path.join(directory, VICTIM), VICTIM);
    return { ...this.#base, walls, siblingPid: this.#sibling.process.pid, directory };
  }

  /** Lets an attacker behind `walls` go for `goal`. */
  async attack({ name, deaf }: Goal, walls: Walls): Promise<Outcome> {
    const image = imageGrant();
    const before = fingerprint(image.what);
    const context = this.context(walls);
    const attacker = new Attacker({ deed: name, context }, { walls, grants: [image] });
    const limit = setTimeout(() => attacker.process.kill(), ATTACK_MS_MAX);
    try {
      await attacker.ready();
      attacker.go();
      if (deaf) await sleep(DEAF_MS);
      const said = (await attacker.hear()) ?? (await attacker.end());
      const outcome = typeof said === "string" ? heard(said) : ended(said);
      const effect = effectOn(image.what, before);
      return effect === undefined ? outcome : { ...outcome, reached: true, detail: effect };
    } catch (cause) {
      throw new Error(`cannot ${name}, walls: ${walls}`, { cause });
    } finally {
      clearTimeout(limit);
      await attacker.close();
    }
  }

  async close(): Promise<void> {
    await this.#sibling.close();
    this.#tcp.close();
    this.#abstract.close();
    this.#secret.close();
  }
}

function heard(said: string): Outcome {
  return { ...(JSON.parse(said) as Finding), denied: undefined };
}

function ended(end: End): Outcome {
  const { status, reason, denied } = end;
  const reached = status === EXECUTED_STATUS;
  return { reached, detail: deathOf(end) ?? (reached ? "executed it" : reason), denied };
}

/** A new directory that everyone may write to. */
function scratchDirectory(): string {
  const directory = fs.mkdtempSync(path.join(scratch, "attack-"));
  fs.chmodSync(directory, 0o777);
  return directory;
}

/** What of an attack on `image` the VMM sees that nobody told it. */
function effectOn(image: string, before: string): string | undefined {
  if (fingerprint(image) !== before) return "changed its image";
  const fds = fs.readdirSync("/proc/self/fd").map((fd) => `/proc/self/fd/${fd}`);
  const got = fds.filter((fd) => fs.existsSync(fd) && fs.readlinkSync(fd) === image);
  for (const fd of got) fs.closeSync(Number(path.basename(fd)));
  return got.length === 0 ? undefined : `gave the VMM ${got.length} descriptors`;
}

/** All that an attacker could change of a file. */
function fingerprint(file: string): string {
  const { mode, uid, gid, size, mtimeMs, ctimeMs } = fs.statSync(file);
  return [mode, uid, gid, size, mtimeMs, ctimeMs].join();
}
