// What the tests of the runtime share: modules made from WAT, scripted worlds, and the VMM's end of
// a conversation with a device.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import wabtOf from "wabt";
import { Mapping } from "../../host/ffi/memory.js";
import { InlineChannel } from "../../host/runtime/inline.js";
import { DeviceInstance, type ImportedCall, type World } from "../../host/runtime/instance.js";
import type { LinearMemory } from "../../host/runtime/linear-memory.js";
import { withCustomSection } from "../../host/sandbox/custom-section.js";
import { CONTRACT, MANIFEST_SECTION, type Manifest } from "../../host/sandbox/manifest.js";
import type { OptionValue } from "../../host/sandbox/options.js";
import type { Channel } from "../../host/wire/channel.js";
import {
  ACTIVATE,
  BYTES,
  CAPACITY,
  CONFIG,
  CONFIGURE,
  CONFIGURE_BYTES,
  COUNT,
  FLAGS,
  GENERATION,
  HEADER_BYTES,
  ID,
  LOG,
  PAYLOAD_BYTES_MAX,
  QUEUE,
  READY,
  REPLIES,
  REQUESTS,
  RESET,
  TYPE,
} from "../../host/wire/format.js";
import { entryAt } from "../../host/wire/message.js";

/** The module that `npm run build` made of devices-as/NAME.ts. */
export function builtDevice(name: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(fs.readFileSync(new URL(`../../devices/${name}.wasm`, import.meta.url)));
}

/** All modules that `npm run build` makes, those of the examples and the debug builds included. */
export function builtModules(): { name: string; file: string }[] {
  const folder = fileURLToPath(new URL("../../devices", import.meta.url));
  const files = fs.readdirSync(folder, { recursive: true, encoding: "utf8" });
  return files
    .filter((name) => name.endsWith(".wasm"))
    .map((name) => ({ name, file: path.join(folder, name) }));
}

/** A manifest with one queue and no capabilities, changed as given. */
export function manifest(changes: Partial<Manifest> = {}): Manifest {
  const base = {
    virtioId: 4,
    queues: [64],
    features: "0x0",
    config: 0,
    capabilities: [],
    options: [],
  };
  return { contract: CONTRACT, name: "test", ...base, ...changes };
}

const wabt = await wabtOf();

/** Assembles a module from text and gives it a manifest. */
export function assemble(wat: string, given = manifest()): Uint8Array<ArrayBuffer> {
  const module = wabt.parseWat("module.wat", wat, {});
  const { buffer } = module.toBinary({});
  module.destroy();
  const json = new TextEncoder().encode(JSON.stringify(given));
  return withCustomSection(new Uint8Array(buffer), MANIFEST_SECTION, json);
}

/** Parts of a correct module in text format; a test replaces the one that it is about. */
const PARTS = {
  imports: "",
  memory: '(memory (export "memory") 64 256)',
  initialize: '(func (export "_initialize"))',
  // Hands out two windows: from 65536 and from 65536 + 2 MiB.
  reserve: `(global $next (mut i32) (i32.const 65536))
    (func (export "reserve") (param i32) (result i32)
      global.get $next
      (global.set $next (i32.add (global.get $next) (i32.const 0x200000))))`,
  set: '(func (export "set") (param i32 i64 i32 i32))',
  start: '(func (export "start"))',
  activate: '(func (export "activate") (param i64))',
  reset: '(func (export "reset"))',
  configure: '(func (export "configure") (param i32 i32 i32))',
  wake: '(func (export "wake"))',
  // Address 0, where all is zero: it waits for nothing.
  attention: '(func (export "attention") (result i32) i32.const 0)',
  // Copies the request to the reply, as much as fits.
  serve: `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
      (local $n i32)
      (local.set $n (select (local.get 2) (local.get 4) (i32.lt_u (local.get 2) (local.get 4))))
      (memory.copy (local.get 3) (local.get 1) (local.get $n))
      (local.get $n))`,
  describe: '(func (export "describe") (result i32) i32.const 0)',
  more: "",
};

/** A device module that echoes, with parts of it replaced. */
export function moduleWith(
  parts: Partial<typeof PARTS> = {},
  given = manifest(),
): Uint8Array<ArrayBuffer> {
  return assemble(`(module ${Object.values({ ...PARTS, ...parts }).join("\n")})`, given);
}

/** A world in which every fd_read is answered from a list: bytes, or the errno of a failure. */
export class ScriptedFile implements World {
  readonly asked: { fd: number; bytes: number }[] = [];
  #answers: (Uint8Array | number)[];
  #memory: LinearMemory | undefined;

  constructor(...answers: (Uint8Array | number)[]) {
    this.#answers = answers;
  }

  link(): Record<string, ImportedCall> {
    return { fd_read: this.#read.bind(this) };
  }

  attach(_instance: WebAssembly.Instance, memory: LinearMemory): void {
    this.#memory = memory;
  }

  #read(fd: number, iovs: number, _count: number, nread: number): number {
    this.#memory!.update();
    const { view } = this.#memory!;
    const at = view.getUint32(iovs, true);
    const bytes = view.getUint32(iovs + 4, true);
    this.asked.push({ fd, bytes });
    const answer = this.#answers.shift() ?? new Uint8Array();
    if (typeof answer === "number") return answer;
    const part = answer.subarray(0, bytes);
    new Uint8Array(view.buffer).set(part, at);
    view.setUint32(nread, part.length, true);
    return 0;
  }
}

/** A world without any function. */
export const NOTHING_GRANTED: World = { link: () => ({}), attach: () => undefined };

export interface Request {
  id: number;
  readable?: Uint8Array;
  capacity?: number;
  flags?: number;
}

export interface Reply {
  id: number;
  bytes: Uint8Array;
  flags: number;
}

/** A message of the device, taken apart. */
export interface Message {
  type: number;
  queue: number;
  generation: number;
  text: string;
  /** Of CONFIG: the config space. */
  config: number[];
  replies: Reply[];
}

/** Writes an ACTIVATE message, ready to be sent. */
export function encodeActivate(channel: Channel, features: bigint): void {
  const { buffer, byteOffset } = channel.outgoingControl;
  new DataView(buffer, byteOffset).setBigUint64(0, features, true);
  channel.outgoing.fill(0);
  channel.outgoing[TYPE] = ACTIVATE;
  channel.gatherControl(8);
}

/** Writes a CONFIGURE message, ready to be sent. */
export function encodeConfigure(channel: Channel, write: readonly number[]): void {
  const { buffer, byteOffset } = channel.outgoingControl;
  const view = new DataView(buffer, byteOffset);
  for (const [index, word] of write.entries()) view.setUint32(index * 4, word, true);
  channel.outgoing.fill(0);
  channel.outgoing[TYPE] = CONFIGURE;
  channel.gatherControl(CONFIGURE_BYTES);
}

/** Writes the header of a REQUESTS message; the payload is the caller's to gather. */
export function encodeRequests(
  { outgoing }: Channel,
  requests: Request[],
  { queue = 0, generation = 0 } = {},
): void {
  outgoing.fill(0);
  outgoing.set([REQUESTS, queue, requests.length, generation]);
  for (const [index, { id, readable, capacity = 0, flags = 0 }] of requests.entries()) {
    const entry = entryAt(index);
    outgoing[entry + ID] = id;
    outgoing[entry + BYTES] = readable?.length ?? 0;
    outgoing[entry + CAPACITY] = capacity;
    outgoing[entry + FLAGS] = flags;
  }
}

/** The VMM's side of a device that runs inline. */
export class Conversation {
  readonly channel: InlineChannel;
  readonly #payload = Mapping.anonymous(PAYLOAD_BYTES_MAX);
  /** Whether the channel was found closed. */
  closed = false;

  constructor(
    module: Uint8Array,
    world: World = NOTHING_GRANTED,
    options: readonly OptionValue[] = [],
  ) {
    this.channel = new InlineChannel(
      DeviceInstance.create(module, () => world),
      { options },
    );
  }

  /** A conversation in which the device is ready and activated. */
  static started(
    module: Uint8Array,
    world?: World,
    options?: readonly OptionValue[],
  ): Conversation {
    const conversation = new Conversation(module, world, options);
    const ready = conversation.receive().at(-1);
    if (ready?.type !== READY) throw new Error(`not ready: ${ready?.text}`);
    conversation.activate(0n);
    return conversation;
  }

  activate(features: bigint): void {
    encodeActivate(this.channel, features);
    this.channel.send();
  }

  reset(generation: number): void {
    this.channel.outgoing.fill(0);
    this.channel.outgoing[TYPE] = RESET;
    this.channel.outgoing[GENERATION] = generation;
    this.channel.send();
  }

  /** The driver writes `value` to the config space; returns what the device says to that. */
  configure(offset: number, value: number, bytes = 4): Message[] {
    encodeConfigure(this.channel, [offset, bytes, value]);
    this.channel.send();
    return this.receive();
  }

  /** Sends REQUESTS as they are, right or wrong; returns the result of send(). */
  send(requests: Request[], { queue = 0, generation = 0 } = {}): number {
    encodeRequests(this.channel, requests, { queue, generation });
    let at = 0;
    for (const { readable } of requests) {
      new Uint8Array(this.#payload.view.buffer).set(readable ?? [], at);
      at += readable?.length ?? 0;
    }
    this.channel.gather(this.#payload.address, at);
    return this.channel.send();
  }

  /** Takes every message that the device has ready. */
  receive(): Message[] {
    const messages: Message[] = [];
    for (;;) {
      const length = this.channel.peek();
      if (length === 0) this.closed = true;
      if (length <= 0) return messages;
      this.channel.scatter(this.#payload.address, length - HEADER_BYTES);
      this.channel.take();
      const payload = new Uint8Array(this.#payload.view.buffer).slice(0, length - HEADER_BYTES);
      messages.push(messageOf(this.channel.incoming, payload));
    }
  }

  /** Sends requests and returns the replies to them, from all messages. */
  ask(...requests: Request[]): Reply[] {
    this.send(requests);
    return this.receive().flatMap((message) => message.replies);
  }

  /** The line that the device, having failed, left in the log. */
  lastWords(): string {
    const line = this.receive().find((message) => message.type === LOG);
    return line?.text ?? "";
  }
}

/** Takes a message apart. */
export function messageOf(header: Uint32Array, payload: Uint8Array): Message {
  const type = header[TYPE]!;
  const replies: Reply[] = [];
  let at = 0;
  for (let i = 0; type === REPLIES && i < header[COUNT]!; i++) {
    const entry = entryAt(i);
    const bytes = payload.slice(at, at + header[entry + BYTES]!);
    replies.push({ id: header[entry + ID]!, bytes, flags: header[entry + FLAGS]! });
    at += bytes.length;
  }
  const isText = type !== REPLIES && type !== CONFIG;
  const text = isText ? new TextDecoder().decode(payload) : "";
  const config = type === CONFIG ? [...payload] : [];
  return { type, queue: header[QUEUE]!, generation: header[GENERATION]!, text, config, replies };
}

/** `count` bytes that differ from their neighbours. */
export function pattern(count: number, seed = 1): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(
    { length: count },
    (_, i) => (i * 31 + (i >> 8) + (i >> 16) * 7 + seed) & 0xff,
  );
}
