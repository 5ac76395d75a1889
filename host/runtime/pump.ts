// Receives, serves and sends in WebAssembly (assembly/pump.ts), as long as everything is plain.
// Only a process of its own has a socket to do so.

import { addressOf, recvmsg, sendmsg } from "../ffi/libc.js";
import { IOVEC, MSGHDR } from "../ffi/socket.js";
import { HEADER_BYTES, PAYLOAD_BYTES_MAX } from "../wire/format.js";
import * as at from "./assembly/shared.js";
import { Batch } from "./batch.js";
import { type DeviceInstance, trapped } from "./instance.js";
import { wasmCode } from "./wasm-code.js";

/** What pump() works on: a device that was started, and the socket that it is served through. */
export interface Place {
  device: DeviceInstance;
  socketFd: number;
}

/** A Batch that can fetch its requests by itself, and send their replies. */
export class Pump extends Batch {
  readonly #address: number;
  readonly #words: Uint32Array;

  /** @param exports of a device, whose types were checked */
  constructor(exports: WebAssembly.Exports) {
    const imports = { env: { memory: exports.memory } } as unknown as WebAssembly.Imports;
    const view = new WebAssembly.Instance(new WebAssembly.Module(wasmCode("memory")), imports);
    const libc = { recvmsg, sendmsg };
    super(exports, { name: "pump", imports: { view: view.exports, libc } });
    // It has all of its pages from the start, and so never moves.
    this.#address = addressOf(this.memory.buffer);
    this.#words = new Uint32Array(this.memory.buffer);
    this.#layOut(at.RECEIVE_AT, at.REQUESTS_AT);
    this.#layOut(at.SEND_AT, at.REPLIES_AT);
  }

  /** A msghdr at `message` of two iovecs, the first of which is the header at `header`. */
  #layOut(message: number, header: number): void {
    const iovecs = message + at.IOVECS;
    this.#point(message + MSGHDR.offsets.msg_iov, this.#address + iovecs);
    this.#words[(message + MSGHDR.offsets.msg_iovlen) / 4] = 2;
    this.#point(iovecs, this.#address + header);
    this.#words[(iovecs + IOVEC.offsets.iov_len) / 4] = HEADER_BYTES;
    this.#words[(iovecs + IOVEC.size + IOVEC.offsets.iov_len) / 4] = PAYLOAD_BYTES_MAX;
  }

  #point(offset: number, address: number): void {
    this.#words[offset / 4] = address;
    this.#words[offset / 4 + 1] = address / 2 ** 32;
  }

  /** Length of the message that ended run(); not positive if there is none. */
  get length(): number {
    return this.state[at.LENGTH]! | 0;
  }

  /**
   * Serves up to `turns` messages.
   *
   * @returns DONE, MESSAGE, or as far as batch() came with a message: see assembly/pump.ts
   * @throws DeviceFault
   */
  run({ device, socketFd }: Place, turns: number): number {
    const { state } = this;
    this.#point(at.RECEIVE_AT + at.IOVECS + IOVEC.size, device.inboxAddress);
    this.#point(at.SEND_AT + at.IOVECS + IOVEC.size, device.outboxAddress);
    this.#point(at.STATE_AT + at.ADDRESS_LOW * 4, this.#address);
    state[at.INBOX] = device.inboxAddress - device.memory.address;
    state[at.OUTBOX] = device.outboxAddress - device.memory.address;
    state[at.SOCKET] = socketFd;
    state[at.QUEUES] = device.facts.manifest.queues.length;
    state[at.WATCHED] = device.attention.configGenerationAt;
    state[at.TURNS] = turns;
    try {
      return this.call.pump();
    } catch (error) {
      throw trapped("serve", error);
    }
  }
}
