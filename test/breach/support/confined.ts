// A hostile module in a real device process, confined as any, and the VMM's end of its socket.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Mapping } from "../../../host/ffi/memory.js";
import type { ResolvedGrant } from "../../../host/sandbox/grants.js";
import type { Right } from "../../../host/sandbox/manifest.js";
import type { OptionValue } from "../../../host/sandbox/options.js";
import { type DeviceExit, type DeviceProcess, spawnDevice } from "../../../host/sandbox/spawn.js";
import { NOTHING, SENT, SocketChannel } from "../../../host/wire/channel.js";
import {
  GENERATION,
  HEADER_BYTES,
  PAYLOAD_BYTES_MAX,
  RESET,
  TYPE,
} from "../../../host/wire/format.js";
import {
  encodeActivate,
  encodeConfigure,
  encodeRequests,
  type Message,
  messageOf,
  type Request,
} from "../../runtime/support.js";
import { Guard } from "../../support/guard.js";

const POLL_MS = 1;
/** A device that says nothing for that long is killed, so that its test fails and does not hang. */
const SILENCE_MS_MAX = 20_000;

/** Scratch files of this test process; they go with it. */
export const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-breach-"));
process.once("exit", () => fs.rmSync(directory, { recursive: true, force: true }));

let files = 0;

/** A new file with these contents. */
export function scratchFile(contents: Uint8Array | string): string {
  files += 1;
  const file = path.join(directory, `${files}`);
  fs.writeFileSync(file, contents);
  return file;
}

const alive = new Set<ConfinedDevice>();

/** Ends what a test has left running, as one does that fails. */
export async function endAll(): Promise<void> {
  await Promise.all([...alive].map((device) => device.close()));
}

/** The capability "data", granted. */
export function grantOf(file: string, rights: readonly Right[]): ResolvedGrant {
  return { name: "data", kind: "file", what: file, rights: [...rights] };
}

export class ConfinedDevice {
  readonly process: DeviceProcess;
  readonly exit: Promise<DeviceExit>;
  /** Messages sent and received so far. */
  sent = 0;
  received = 0;
  readonly guard: Guard;
  readonly #channel: SocketChannel;
  readonly #payload = Mapping.anonymous(PAYLOAD_BYTES_MAX);

  /** @param module the module itself, or the path of its file */
  constructor(
    module: Uint8Array | string,
    grants: readonly ResolvedGrant[] = [],
    options: readonly OptionValue[] = [],
  ) {
    const file = typeof module === "string" ? module : scratchFile(module);
    this.process = spawnDevice({
      id: "hostile0",
      module: file,
      grants,
      options,
      seccomp: "enforce",
    });
    this.#channel = new SocketChannel(this.process.socketFd);
    this.guard = new Guard(this.process, "enforce");
    this.exit = new Promise((resolve) => this.process.onExit(resolve));
    alive.add(this);
  }

  /** The next message, or undefined when the device has closed its end, so has ended. */
  async receive(): Promise<Message | undefined> {
    const silence = setTimeout(() => this.process.kill(), SILENCE_MS_MAX);
    let length = this.#peek();
    for (; length === NOTHING; length = this.#peek()) await sleep(POLL_MS);
    clearTimeout(silence);
    if (length === 0) return undefined;
    this.#channel.scatter(this.#payload.address, length - HEADER_BYTES);
    this.#channel.take();
    this.received += 1;
    const payload = new Uint8Array(this.#payload.view.buffer).slice(0, length - HEADER_BYTES);
    return messageOf(this.#channel.incoming, payload);
  }

  #peek(): number {
    return this.guard.poll() ? this.#channel.peek() : NOTHING;
  }

  activate(features = 0n): void {
    encodeActivate(this.#channel, features);
    this.#send();
  }

  configure(offset: number, value: number, bytes = 4): void {
    encodeConfigure(this.#channel, [offset, bytes, value]);
    this.#send();
  }

  reset(): void {
    this.#channel.outgoing.fill(0);
    this.#channel.outgoing[TYPE] = RESET;
    this.#channel.outgoing[GENERATION] = 1;
    this.#send();
  }

  /** Sends requests of queue 0; all that they carry must fit into one message. */
  request(...requests: Request[]): void {
    this.send(requests);
  }

  /** Sends requests of any queue; all that they carry must fit into one message. */
  send(requests: Request[], queue = 0): void {
    encodeRequests(this.#channel, requests, { queue });
    let at = 0;
    for (const { readable = new Uint8Array() } of requests) {
      new Uint8Array(this.#payload.view.buffer).set(readable, at);
      at += readable.length;
    }
    this.#channel.gather(this.#payload.address, at);
    this.#send();
  }

  /** All that the device still says before it ends. */
  async receiveAll(): Promise<Message[]> {
    const messages: Message[] = [];
    for (;;) {
      const message = await this.receive();
      if (message === undefined) return messages;
      messages.push(message);
    }
  }

  /** Closes the VMM's end, at which an honest device leaves; returns how it ended. */
  leave(): Promise<DeviceExit> {
    fs.closeSync(this.process.takeSocket());
    this.#free();
    return this.exit;
  }

  /** Closes the VMM's end, and kills what does not leave by itself. */
  async close(): Promise<void> {
    this.process.close();
    await this.exit;
    this.#free();
  }

  #free(): void {
    if (!alive.delete(this)) return;
    this.guard.close();
    this.#channel.close();
    this.#payload.close();
  }

  /** A device that has ended reads nothing any more: that is for receive() to find out. */
  #send(): void {
    if (this.#channel.send() === SENT) this.sent += 1;
  }
}
