// A device inside the VMM's own I/O worker (`--isolation inline`): a channel without a socket. What
// the VMM gathers is copied to the device's inbox, what the device answers is copied back from it.

import { assert } from "../errors.js";
import { memcpy } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import type { GrantedFd } from "../sandbox/grants.js";
import type { OptionValue } from "../sandbox/options.js";
import { type Channel, CLOSED, CONTROL_BYTES_MAX, FULL, NOTHING, SENT } from "../wire/channel.js";
import { HEADER_BYTES, LOG, PAYLOAD_BYTES_MAX, READY } from "../wire/format.js";
import { LINES_BURST_MAX } from "../wire/line-log.js";
import { encodeControl, LOG_BYTES_MAX, READY_BYTES_MAX } from "../wire/message.js";
import { type Attention, type Awaitable, awaitableOf } from "./attention.js";
import { Dispatcher } from "./dispatch.js";
import type { DeviceInstance } from "./instance.js";
import { lastWords } from "./last-words.js";

/** Where everything is in the channel's memory: scratch for both directions, and READY or LOG. */
const OUTGOING = 0;
const INCOMING = CONTROL_BYTES_MAX;
const TEXT = 2 * CONTROL_BYTES_MAX;

/** Lines that may wait to be peeked: more than ModuleLog lets through at once, and last words. */
const SAID_MAX = 2 * LINES_BURST_MAX;

/** Is told whenever the device's code begins to run, and when it is done. */
export interface Presence {
  enter(): void;
  leave(): void;
}

const NOBODY: Presence = { enter() {}, leave() {} };

export interface InlineOptions {
  /** What the user set. */
  options?: readonly OptionValue[];
  presence?: Presence;
}

export class InlineChannel implements Channel {
  readonly outgoing = new Uint32Array(HEADER_BYTES / 4);
  readonly incoming = new Uint32Array(HEADER_BYTES / 4);
  readonly outgoingControl: Uint8Array;
  readonly incomingControl: Uint8Array;
  readonly #memory = Mapping.anonymous(3 * CONTROL_BYTES_MAX);
  readonly #text: Uint8Array;
  /** Header of the message being served: the VMM may already be writing the next one. */
  readonly #requests = new Uint32Array(HEADER_BYTES / 4);
  readonly #dispatcher: Dispatcher;
  readonly #device: DeviceInstance;
  readonly #presence: Presence;
  #gathered = 0;
  /** READY and lines for the log, still to be peeked. */
  readonly #said: { type: number; text: string; bytesMax: number }[] = [];
  #failed = false;
  /** The message that peek() found: its length (or NOTHING), and what of its payload is left. */
  #peeked = NOTHING;
  #payload = 0;
  #rest = 0;

  /** Starts `device` and says READY, with nothing of a sandbox: nothing here is confined. */
  constructor(device: DeviceInstance, { options = [], presence = NOBODY }: InlineOptions = {}) {
    this.#device = device;
    this.#presence = presence;
    const { buffer } = this.#memory.view;
    this.outgoingControl = new Uint8Array(buffer, OUTGOING, CONTROL_BYTES_MAX);
    this.incomingControl = new Uint8Array(buffer, INCOMING, CONTROL_BYTES_MAX);
    this.#text = new Uint8Array(buffer, TEXT, CONTROL_BYTES_MAX);
    this.#dispatcher = new Dispatcher(device, { requests: this.#requests, replies: this.incoming });
    device.say = (text) => this.#say(LOG, text);
    this.#guard(() => this.#dispatcher.start(options));
    if (this.#failed) return;
    const { withheld } = device.attention;
    this.#say(READY, JSON.stringify({ withheld }));
  }

  /** What the device waits for besides requests; undefined when it is not alive. */
  get attention(): Attention | undefined {
    return this.#failed ? undefined : this.#device.attention;
  }

  /** What the device may wait for, with these grants. */
  awaitable(grants: readonly GrantedFd[]): Awaitable | undefined {
    const device = this.#device;
    return awaitableOf(device.facts.manifest, grants, (index) => device.connectionOf(index));
  }

  /** Has `listener` called before the device closes a connection. */
  beforeClose(listener: (fd: number) => void): void {
    this.#device.beforeClose(listener);
  }

  /**
   * Tells the device that these of its interests have come, or its deadline. A device that has more
   * to say first is not told: what it waits for stays as it was.
   */
  wake(bits: number, isDue: boolean): void {
    if (this.#busy || this.#failed) return;
    this.#device.attention.settle(bits, isDue);
    this.#guard(() => this.#dispatcher.wake());
  }

  #say(type: number, text: string): void {
    const bytesMax = type === READY ? READY_BYTES_MAX : LOG_BYTES_MAX;
    if (this.#said.length < SAID_MAX) this.#said.push({ type, text, bytesMax });
  }

  /**
   * Whether the VMM should look again, peek() or send(): what readiness of a socket tells
   * elsewhere. After each send() the owner calls the link until this is false.
   */
  get ready(): boolean {
    return this.#busy || this.#failed || this.#said.length > 0 || this.#peeked !== NOTHING;
  }

  get #busy(): boolean {
    return this.#dispatcher.busy && !this.#failed;
  }

  gather(address: number, bytes: number): void {
    if (this.#busy || this.#failed) return; // send() will say so; the inbox is in use
    assert(this.#gathered + bytes <= PAYLOAD_BYTES_MAX, "more payload than one message may have");
    memcpy(this.#dispatcher.receiveAddress + this.#gathered, address, bytes);
    this.#gathered += bytes;
  }

  gatherControl(bytes: number): void {
    this.gather(this.#memory.address + OUTGOING, bytes);
  }

  send(): number {
    const length = HEADER_BYTES + this.#gathered;
    this.#gathered = 0;
    if (this.#failed) return CLOSED;
    if (this.#busy) return FULL;
    this.#requests.set(this.outgoing);
    this.#guard(() => this.#dispatcher.begin(length));
    return SENT;
  }

  peek(): number {
    if (this.#peeked !== NOTHING) return this.#peeked;
    if (this.#said[0]?.type === LOG) return this.#peekControl();
    if (this.#busy) this.#guard(() => this.#step());
    if (this.#peeked !== NOTHING) return this.#peeked;
    if (this.#said.length > 0) return this.#peekControl();
    return this.#failed ? 0 : NOTHING;
  }

  /** What runs in this process has no socket to send any through. */
  get hasDescriptors(): boolean {
    return false;
  }

  scatter(address: number, bytes: number): void {
    const count = Math.min(bytes, this.#rest);
    memcpy(address, this.#payload, count);
    this.#payload += count;
    this.#rest -= count;
  }

  scatterControl(bytes: number): void {
    this.scatter(this.#memory.address + INCOMING, bytes);
  }

  take(): number {
    const length = this.#peeked;
    this.#peeked = NOTHING;
    this.#rest = 0;
    return length;
  }

  /** Gives up what the device opened itself: it is not served any more. */
  release(): void {
    this.#device.release();
  }

  close(): void {
    this.#memory.close();
  }

  #step(): void {
    if (this.#dispatcher.step()) {
      this.#found(this.#dispatcher.payloadAddress, this.#dispatcher.payloadBytes);
    }
  }

  #peekControl(): number {
    const bytes = encodeControl(this.incoming, { ...this.#said.shift()!, scratch: this.#text });
    return this.#found(this.#memory.address + TEXT, bytes);
  }

  #found(payload: number, bytes: number): number {
    this.#payload = payload;
    this.#rest = bytes;
    this.#peeked = HEADER_BYTES + bytes;
    return this.#peeked;
  }

  /** What would end a device's process ends this one: a line for the log, then a closed channel. */
  #guard(run: () => void): void {
    this.#presence.enter();
    try {
      run();
    } catch (error) {
      const ready = this.#said.findIndex(({ type }) => type === READY);
      if (ready >= 0) this.#said.splice(ready, 1);
      // The last words count more than what was said before them.
      if (this.#said.length === SAID_MAX) this.#said.pop();
      this.#say(LOG, lastWords(error));
      this.#failed = true;
    } finally {
      this.#presence.leave();
    }
  }
}
