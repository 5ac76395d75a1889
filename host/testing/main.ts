// What the test of a device imports as "bulkhead/testing": a built module, driven as a guest's
// driver drives it, over a real virtqueue and with the code that a VM has, in a world of memory.
//
//   const device = openDevice("dist/mine.wasm", { source: file("hello, guest") });
//   device.negotiate();
//   const reply = device.request(0, new Uint8Array(), 5);   // "hello"
//
// Everything is synchronous: what a call leads to has happened when it returns.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { InlineChannel } from "../runtime/inline.js";
import { DeviceInstance } from "../runtime/instance.js";
import { type Trace, TraceMap, traceOf } from "../runtime/source-map.js";
import { rightsOfWord } from "../sandbox/grant-kinds.js";
import { type GrantSpec, resolveGrants } from "../sandbox/grants.js";
import type { Manifest } from "../sandbox/manifest.js";
import { resolveOptions } from "../sandbox/options.js";
import { DeviceLink } from "../virtio/link.js";
import { MmioTransport, VIRTIO_MMIO_CONFIG } from "../virtio/mmio.js";
import * as reg from "../virtio/registers.js";
import { type Bytes, bytesOf, type Grant } from "./grants.js";
import { MockDriver } from "./mock-driver.js";
import type { MockQueue } from "./mock-queue.js";
import { MockRam } from "./mock-ram.js";
import { MemoryWorld } from "./world.js";

export type { Manifest } from "../sandbox/manifest.js";
export { directory, MemoryDirectory } from "./directory.js";
export {
  type Bytes,
  Clock,
  clock,
  endless,
  file,
  type Grant,
  MemoryFile,
  type RightsWord,
  random,
} from "./grants.js";
export { Listener, listener, Peer, Socket, socket, Tty, tty } from "./streams.js";
export { Tap, tap } from "./tap.js";

/** Memory of the driver: 16 requests of the largest size both ways are in flight at once. */
const RAM_BYTES = 48 * 1024 * 1024;

/** What the transport itself offers, and its driver accepts. */
const TRANSPORT_FEATURES =
  (1n << reg.VIRTIO_F_VERSION_1) |
  (1n << reg.VIRTIO_RING_F_INDIRECT_DESC) |
  (1n << reg.VIRTIO_RING_F_EVENT_IDX);

/**
 * A device that waits for what is there, without taking it, is woken for ever: in a VM that is a
 * busy process, in a test a failure.
 */
const WAKES_MAX = 10_000;

/** Milliseconds that pass whenever the link looks at its clock. */
const LOOK_MS = 1000;

/** How the runtime's words begin in the log of a VM. */
const SAYS = ": device says: ";

/** The device trapped, or did what no correct device does: it is gone, as its process would be. */
export class DeviceTrap extends Error {
  override readonly name = "DeviceTrap";
  /** Of a debug build, innermost first: "mine.ts:12:5 (mine/Mine#serve)". */
  readonly frames: readonly string[];
  /** What the log had until then, its last words included. */
  readonly log: readonly string[];

  constructor({ reason, frames }: Trace, log: readonly string[] = []) {
    super([reason, ...frames].join("\n    at "));
    this.frames = frames;
    this.log = [...log];
  }
}

/** A request that a device was given and may answer later. */
export interface Posted {
  /** Whether it was answered. */
  readonly done: boolean;
  /** The answer: as many bytes as the device wrote. Throws before there is one. */
  readonly reply: Uint8Array;
}

class Request implements Posted {
  answer: Uint8Array | undefined;

  get done(): boolean {
    return this.answer !== undefined;
  }

  get reply(): Uint8Array {
    if (this.answer === undefined) throw new Error("The device has not answered this request yet");
    return this.answer;
  }
}

function grantsOf(
  { capabilities }: Manifest,
  given: Readonly<Record<string, Grant>>,
): Record<string, GrantSpec> {
  const specs = Object.entries(given).map(([name, { kind, what, rights }]) => {
    const asked = capabilities.find((capability) => capability.name === name)?.rights ?? [];
    const words = rights === undefined ? asked : rightsOfWord(kind, rights);
    return [name, { kind, what, rights: [...(words ?? [])] }];
  });
  return Object.fromEntries(specs);
}

/** What a user would give a device on the command line. */
interface Setting {
  grants?: Readonly<Record<string, Grant>>;
  options?: Readonly<Record<string, string | number | bigint | true>>;
}

function optionsOf(options: NonNullable<Setting["options"]>): Record<string, string | true> {
  const words = Object.entries(options).map(([name, word]) => [
    name,
    word === true ? word : `${word}`,
  ]);
  return Object.fromEntries(words);
}

/** A device and its driver. */
export class DeviceUnderTest {
  readonly manifest: Manifest;
  /** Lines of the device and of the transport, such as "driver bug: …", without the device's id. */
  readonly log: string[] = [];
  /** Times that the driver was told of a change of the config space, or that it must reset. */
  configChanges = 0;
  readonly #ram = new MockRam(RAM_BYTES);
  readonly #driver: MockDriver;
  readonly #link: DeviceLink;
  readonly #channel: InlineChannel;
  #world: MemoryWorld | undefined;
  readonly #posted = new Map<MockQueue, Map<number, Request>>();
  readonly #map: TraceMap | undefined;
  /** Of the link, which lets a device say only so much in a second: here it never waits for one. */
  #now = 0;
  /** Why the device is gone. */
  #end: string | undefined;

  constructor(module: string | Uint8Array, { grants = {}, options = {} }: Setting) {
    const isFile = typeof module === "string";
    this.#map = isFile ? TraceMap.beside(module) : undefined;
    const read = isFile ? readFileSync(module) : module;
    const bytes = isFile && this.#map ? TraceMap.announce(read, module) : read;
    const device = DeviceInstance.create(bytes, ({ manifest }) => {
      const granted = resolveGrants(manifest, grantsOf(manifest, grants));
      this.#world = new MemoryWorld(manifest, granted, {
        sources: grants,
        log: (line) => this.log.push(line),
        changed: () => this.#settle(),
      });
      return this.#world;
    });
    this.manifest = device.facts.manifest;
    const { name, virtioId, queues, features, config } = this.manifest;
    const log = (line: string) => this.#say(line.slice(name.length + 2));
    const registers = new reg.RegisterFile(this.#ram.memory, {
      id: name,
      virtioId,
      queueSizesMax: queues,
      features: BigInt(features),
      configBytes: config,
      interruptStatus: new Int32Array(new SharedArrayBuffer(4)),
      interruptIndex: 0,
      interrupt: () => {},
      log,
    });
    this.#driver = new MockDriver(this.#ram, new MmioTransport(registers));
    this.#link = new DeviceLink(registers, {
      log,
      ready: () => this.#link.approve(),
      closed: () => this.#ended(this.log.at(-1) ?? "it ended without a word"),
      broken: (reason) => this.#ended(reason),
      now: () => (this.#now += LOOK_MS),
    });
    const values = resolveOptions(this.manifest, optionsOf(options));
    this.#channel = new InlineChannel(device, { options: values });
    this.#link.attach(this.#channel);
    this.#settle();
  }

  /**
   * Begins anew, as a driver does that finds the device (virtio v1.2 §3.1.1): reset, features, all
   * queues at their largest size, DRIVER_OK.
   *
   * @param features of the device's own; all that it offers, unless said otherwise
   * @returns those that are accepted
   */
  negotiate(features?: bigint): bigint {
    const offered = this.#driver.readFeatures() & ~TRANSPORT_FEATURES;
    const accepted = features ?? offered;
    const queues = this.manifest.queues.map(() => ({}));
    this.#posted.clear();
    this.#driver.start({ features: accepted | TRANSPORT_FEATURES, queues });
    this.#settle();
    return accepted;
  }

  /**
   * Has the device answer one request: `readable` is what the driver wrote for it, `capacity` how
   * many bytes it may answer.
   *
   * @throws DeviceTrap
   */
  request(queue: number, readable: Bytes = "", capacity = 0): Uint8Array {
    const posted = this.post(queue, readable, capacity);
    if (posted.done) return posted.reply;
    throw new Error(`The device lets a request of queue ${queue} wait: use post() for it`);
  }

  /** Gives the device a request that it may answer now or later. */
  post(queue: number, readable: Bytes = "", capacity = 0): Posted {
    const driven = this.#driver.queues[queue];
    if (driven === undefined) {
      const what = this.#driver.queues.length === 0 ? "negotiate() first" : "it has no such queue";
      throw new Error(`Cannot make a request of queue ${queue}: ${what}`);
    }
    const contents = bytesOf(readable);
    const head = driven.add({
      readable: contents.length > 0 ? [contents] : [],
      writable: capacity > 0 || contents.length === 0 ? [capacity] : [],
    });
    const posted = new Request();
    const waiting = this.#posted.get(driven) ?? new Map<number, Request>();
    this.#posted.set(driven, waiting.set(head, posted));
    this.#driver.kick(driven);
    this.#settle();
    return posted;
  }

  /** Bytes of the config space as the driver reads them; all of it, unless said otherwise. */
  readConfig(offset = 0, bytes = this.manifest.config - offset): Uint8Array {
    this.#settle();
    const { transport } = this.#driver;
    const at = VIRTIO_MMIO_CONFIG + offset;
    return Uint8Array.from({ length: bytes }, (_, i) => transport.read(at + i, 1));
  }

  /** Has the driver write `value`, of 1, 2 or 4 `bytes`, to the config space. */
  writeConfig(offset: number, value: number, bytes: 1 | 2 | 4 = 1): void {
    this.#driver.transport.write(VIRTIO_MMIO_CONFIG + offset, bytes, value >>> 0);
    this.#settle();
  }

  /** Has the device look again at what it was granted: a terminal has another size. */
  lookAgain(): void {
    this.#link.wake();
    this.#settle();
  }

  /** The driver resets the device; what was posted is void. */
  reset(): void {
    this.#posted.clear();
    this.#driver.reset();
    this.#settle();
  }

  /** Frees the memory of device and driver; the end of the process does as well. */
  close(): void {
    this.#link.detach();
    this.#channel.close();
    this.#ram.close();
  }

  #say(line: string): void {
    const text = `: ${line}`;
    this.log.push(text.startsWith(SAYS) ? text.slice(SAYS.length) : line);
  }

  #ended(reason: string): void {
    this.#end = reason;
  }

  /** Carries messages to and fro until there are none. */
  #exchange(): void {
    while (this.#end === undefined) {
      if (this.#link.wantsWritable) this.#link.onWritable();
      if (!this.#channel.ready) return;
      this.#link.onReadable();
    }
  }

  /** Wakes the device if what it waits for has come. */
  #wake(): boolean {
    const { attention } = this.#channel;
    if (attention === undefined) return false;
    const bits = this.#world!.comeOf(attention.interest);
    const isDue = this.#world!.isDue(attention.deadline);
    if (bits === 0 && !isDue) return false;
    this.#channel.wake(bits, isDue);
    return true;
  }

  /** Lets device and driver go on until neither has anything to do. */
  #settle(): void {
    this.#exchange();
    for (let wakes = 0; this.#wake(); wakes++) {
      if (wakes === WAKES_MAX) throw new Error(`The device was woken ${wakes} times, to no end`);
      this.#exchange();
    }
    if (this.#end !== undefined) throw new DeviceTrap(traceOf(this.#end, this.#map), this.log);
    if ((this.#driver.takeInterrupt() & reg.INT_CONFIG) !== 0) this.configChanges += 1;
    for (const [queue, waiting] of this.#posted) {
      for (const { head, data } of queue.collect()) {
        waiting.get(head)!.answer = data;
        waiting.delete(head);
      }
    }
  }
}

/**
 * Opens the device in `module`, a file or its bytes, with `grants` by the names in its manifest,
 * and `options` as they would stand behind the module in --device; `true` for one without a value.
 *
 * @throws what `bulkhead run` would print: it is no device, lacks a grant, or did not ask for one
 */
export function openDevice(
  module: string | URL | Uint8Array,
  grants: Readonly<Record<string, Grant>> = {},
  options: Readonly<Record<string, string | number | bigint | true>> = {},
): DeviceUnderTest {
  const file = module instanceof URL ? fileURLToPath(module) : module;
  return new DeviceUnderTest(file, { grants, options });
}
