// One device module, running: a Wasm instance with its two windows. The same class serves the
// confined process, the VMM's own I/O worker, tests and the fuzzer; they differ in the World they
// pass.

import { assert, VmmError } from "../errors.js";
import { type DeviceExports, EXPORTS } from "../sandbox/contract.js";
import { Forwarder, type Signature } from "../sandbox/forwarder.js";
import { checkImports } from "../sandbox/grants.js";
import { inspectModule, type ModuleFacts } from "../sandbox/manifest.js";
import type { OptionValue } from "../sandbox/options.js";
import { signatureOf } from "../sandbox/signatures.js";
import { CHAIN_BYTES_MAX, PAYLOAD_BYTES_MAX } from "../wire/format.js";
import { ATTENTION_BYTES, Attention } from "./attention.js";
import { Batch } from "./batch.js";
import { LinearMemory } from "./linear-memory.js";

/**
 * Bytes of each window: a whole chain, and beside it the payload of one message. The inbox holds
 * the pieces of a chain that is still arriving while another message comes in; the outbox holds the
 * replies of a batch while one more is being written.
 */
export const WINDOW_BYTES = CHAIN_BYTES_MAX + PAYLOAD_BYTES_MAX;

/** Result of serve(): the request waits, and is to be offered again. */
export const WAITS = 0xffff_ffff;

/** A function that a module imports: integers in (64-bit ones as bigint), an errno out. */
export type ImportedCall = WebAssembly.ImportedFunction;

/** A driver's write to the config space, `bytes` wide at `offset`. */
export interface ConfigWrite {
  offset: number;
  bytes: number;
  value: number;
}

/** Takes a line that the module writes for the log. */
export type Say = (line: string) => void;

/** Outside world of a module: what its imports do. */
export interface World {
  /** Functions of wasi_snapshot_preview1, by name; the instance links what the module imports. */
  link(module: WebAssembly.Module): Record<string, ImportedCall>;
  /** Called once, after linking and before any code of the module runs. */
  attach(instance: WebAssembly.Instance, memory: LinearMemory, say: Say): void;
  /** Closes what the module opened itself, if its process goes on without it. */
  release?(): void;
  /** The connection that the module accepted from its n-th capability, if there is one now. */
  connectionOf?(index: number): number | undefined;
  /** Has `listener` called before a connection is closed. */
  beforeClose?(listener: (fd: number) => void): void;
}

/** All that a module exports, for the Forwarder. */
const SIGNATURES: Readonly<Record<string, Signature>> = Object.fromEntries(
  Object.entries(EXPORTS).map(([name, type]) => [name, signatureOf(type)]),
);

/**
 * The module broke: it trapped, or it answered what no correct module answers. It must not go on.
 */
export class DeviceFault extends Error {
  override readonly name = "DeviceFault";
}

export class DeviceInstance {
  readonly facts: ModuleFacts;
  readonly memory: LinearMemory;
  /** Where lines for the log go: its owner sets it before start(). */
  say: Say = () => {};
  /** The requests of a message: see serveBatch(). */
  readonly batch: Batch;
  readonly #functions: Forwarder<DeviceExports>;
  #world: World | undefined;
  #attention: Attention | undefined;
  #inbox = 0;
  #outbox = 0;

  private constructor(facts: ModuleFacts, instance: WebAssembly.Instance, batch: Batch) {
    this.facts = facts;
    this.memory = new LinearMemory(instance.exports.memory as WebAssembly.Memory);
    this.#functions = new Forwarder(instance.exports, SIGNATURES);
    this.batch = batch;
  }

  /**
   * Checks, compiles and links a module. No code of it runs: that begins with start().
   *
   * @param module the bytes of a `.wasm` file, not trusted
   * @param worldOf the outside world for a module with these facts
   * @param batchOf what is to serve its requests, from its exports
   * @throws VmmError ERR_MODULE
   */
  static create(
    module: Uint8Array,
    worldOf: (facts: ModuleFacts) => World,
    batchOf = (exports: WebAssembly.Exports) => new Batch(exports),
  ): DeviceInstance {
    const facts = inspectModule(module);
    checkImports(facts);
    const compiled = compile(module);
    const world = worldOf(facts);
    const functions = world.link(compiled);
    const linked: Record<string, ImportedCall> = {};
    for (const { name } of facts.imports) {
      const call = functions[name];
      if (!call)
        throw new VmmError("ERR_MODULE", `Cannot link import "${name}": nothing grants it`);
      linked[name] = call;
    }
    const instance = instantiate(compiled, linked);
    const device = new DeviceInstance(facts, instance, batchOf(instance.exports));
    world.attach(instance, device.memory, (line) => device.say(line));
    device.#world = world;
    return device;
  }

  /** Native address of the window that requests are received into. */
  get inboxAddress(): number {
    this.memory.update();
    return this.memory.address + this.#inbox;
  }

  /** Native address of the window that replies are sent from. */
  get outboxAddress(): number {
    this.memory.update();
    return this.memory.address + this.#outbox;
  }

  /**
   * Runs the module's own initialization, reserves the windows, tells it what the user set, and
   * finds what it points out.
   *
   * @throws DeviceFault
   */
  start(options: readonly OptionValue[] = []): void {
    this.#call("_initialize", () => this.#functions.call._initialize());
    this.#inbox = this.#reserve();
    this.#outbox = this.#reserve();
    if (Math.abs(this.#outbox - this.#inbox) < WINDOW_BYTES) {
      // A reply over the requests that follow it: the module would hurt only itself, but none means
      // it.
      throw new DeviceFault(`reserve: windows at ${this.#inbox} and ${this.#outbox} overlap`);
    }
    for (const option of options) this.#set(option);
    this.#call("start", () => this.#functions.call.start());
    this.#attention = this.#findAttention();
  }

  #set({ index, number, text }: OptionValue): void {
    this.memory.update();
    const window = new Uint8Array(this.memory.view.buffer, this.#inbox, WINDOW_BYTES);
    const bytes = new TextEncoder().encodeInto(text, window).written;
    const set = () => this.#functions.call.set(index, BigInt(number), this.#inbox, bytes);
    this.#call("set", set);
  }

  /** Tells the device which features the driver accepted: `features` is at `at` in the inbox. */
  activate(at: number): void {
    this.memory.update();
    const features = this.memory.view.getBigUint64(this.#inbox + at, true);
    this.#call("activate", () => this.#functions.call.activate(features));
  }

  /** The 32-bit word that was received at `at` in the inbox. */
  word(at: number): number {
    this.memory.update();
    return this.memory.view.getUint32(this.#inbox + at, true);
  }

  /** The driver wrote to the config space; the caller has looked that it is inside. */
  configure({ offset, bytes, value }: ConfigWrite): void {
    this.#call("configure", () => this.#functions.call.configure(offset, bytes, value));
  }

  /** A number that changes when the device changes its config space. */
  get configGeneration(): number {
    return this.#attention!.configGeneration;
  }

  /**
   * Native address of the config space, as large as the manifest says.
   *
   * @throws DeviceFault when it is not in the module's memory
   */
  get configAddress(): number {
    const at = this.attention.configAddress;
    const { config } = this.facts.manifest;
    if (this.memory.contains(at, config)) return this.memory.address + at;
    throw new DeviceFault(
      `attention: ${config} bytes of config space at ${at} are not in its memory`,
    );
  }

  /** The connection that was accepted from the n-th capability, if there is one now. */
  connectionOf(index: number): number | undefined {
    return this.#world?.connectionOf?.(index);
  }

  /** Has `listener` called before the module closes a connection. */
  beforeClose(listener: (fd: number) => void): void {
    this.#world?.beforeClose?.(listener);
  }

  /** Gives up what the module opened; nothing of it may be called any more. */
  release(): void {
    this.#world?.release?.();
  }

  /** The driver reset the device, which then waits for nothing unless it says so again. */
  reset(): void {
    this.attention.clear();
    this.#call("reset", () => this.#functions.call.reset());
  }

  /** Tells the device that something it waited for has come. */
  wake(): void {
    this.#call("wake", () => this.#functions.call.wake());
  }

  /** What the device waits for, once it was started. */
  get attention(): Attention {
    assert(this.#attention !== undefined, "a device that was not started");
    return this.#attention;
  }

  /**
   * Has the device answer one request of `queue`.
   *
   * @param at the request's bytes in the inbox, and where in the outbox the reply goes
   * @returns bytes of the reply, at most `capacity`, or WAITS
   * @throws DeviceFault
   */
  serve(queue: number, at: Placement): number {
    let written: number;
    try {
      const readable = this.#inbox + at.readable;
      const writable = this.#outbox + at.writable;
      written = this.#functions.call.serve(queue, readable, at.bytes, writable, at.capacity) >>> 0;
    } catch (error) {
      throw trapped("serve", error);
    }
    if (written > at.capacity && written !== WAITS) throw claims(written, at.capacity);
    return written;
  }

  /**
   * Has the device answer the requests of `batch`, as far as they and their replies are plain.
   *
   * @returns why it went no further: OVER, FULL or ODD
   * @throws DeviceFault
   */
  serveBatch(): number {
    return this.#call("serve", () => this.batch.serve(this.#inbox, this.#outbox));
  }

  #findAttention(): Attention {
    const at = this.#call("attention", () => this.#functions.call.attention()) >>> 0;
    this.memory.update();
    if (this.memory.contains(at, ATTENTION_BYTES)) return new Attention(this.memory, at);
    throw new DeviceFault(`attention: ${ATTENTION_BYTES} bytes at ${at} are not in its memory`);
  }

  #reserve(): number {
    const at = this.#call("reserve", () => this.#functions.call.reserve(WINDOW_BYTES)) >>> 0;
    this.memory.update();
    if (!this.memory.contains(at, WINDOW_BYTES)) {
      throw new DeviceFault(`reserve: ${WINDOW_BYTES} bytes at ${at} are not in its memory`);
    }
    return at;
  }

  #call<T>(entry: string, run: () => T): T {
    try {
      return run();
    } catch (error) {
      throw trapped(entry, error);
    }
  }
}

/** Where one request and its reply are, as offsets into the inbox and the outbox. */
export interface Placement {
  readable: number;
  bytes: number;
  writable: number;
  capacity: number;
}

/** The fault of a device that says it wrote more than there is room for. */
export function claims(written: number, capacity: number): DeviceFault {
  return new DeviceFault(`serve: claims ${written} bytes of a capacity of ${capacity}`);
}

export function trapped(entry: string, error: unknown): DeviceFault {
  const reason = error instanceof Error ? error.message : String(error);
  return new DeviceFault(`${entry}: ${reason}`, { cause: error });
}

function compile(module: Uint8Array): WebAssembly.Module {
  try {
    return new WebAssembly.Module(new Uint8Array(module));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new VmmError("ERR_MODULE", `Cannot compile the module: ${reason}`, { cause });
  }
}

/** Copies data and element segments into place, too; one outside the memory or table is refused. */
function instantiate(
  module: WebAssembly.Module,
  functions: Record<string, ImportedCall>,
): WebAssembly.Instance {
  try {
    return new WebAssembly.Instance(module, { wasi_snapshot_preview1: functions });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new VmmError("ERR_MODULE", `Cannot link the module: ${reason}`, { cause });
  }
}
