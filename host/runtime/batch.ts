// The requests of a message, served in WebAssembly (assembly/batch.ts): a confined process
// interprets its JavaScript. What is not plain it leaves to its caller: a request that waits, a
// reply that is too long. Its memory is not the device's, which could otherwise change an entry
// that was checked already.

import { HEADER_BYTES } from "../wire/format.js";
import * as at from "./assembly/shared.js";
import { wasmCode } from "./wasm-code.js";

/** V8's budget of calls from JavaScript is 1000 an instance; see Forwarder. */
const CALLS_MAX = 900;

/** One page: what is in it, and where, is in assembly/shared.ts. */
const MEMORY = { initial: 1, maximum: 1 };

type Imports = Record<string, Record<string, unknown>>;
type Functions = Record<"batch" | "pump", () => number>;

/** The entries of one message, and how far the device has got with them. */
export class Batch {
  /** Headers with the entries of the requests, and of the replies so far. */
  readonly requests: Uint32Array;
  readonly replies: Uint32Array;
  protected readonly memory = new WebAssembly.Memory(MEMORY);
  protected readonly state: Uint32Array;
  readonly #module: WebAssembly.Module;
  readonly #imports: WebAssembly.Imports;
  #functions: Functions;
  #callsLeft = CALLS_MAX;

  /**
   * @param device its exports, of which `serve` has the type that it must have
   * @param code the module of assembly/, and what it imports besides
   */
  constructor(
    { serve }: WebAssembly.Exports,
    { name, imports }: { name: string; imports: Imports } = { name: "batch", imports: {} },
  ) {
    const { buffer } = this.memory;
    this.requests = new Uint32Array(buffer, at.REQUESTS_AT, HEADER_BYTES / 4);
    this.replies = new Uint32Array(buffer, at.REPLIES_AT, HEADER_BYTES / 4);
    this.state = new Uint32Array(buffer, at.STATE_AT, at.STATE_WORDS);
    this.#module = new WebAssembly.Module(wasmCode(name));
    const own = { env: { memory: this.memory }, device: { serve } };
    this.#imports = { ...own, ...imports } as unknown as WebAssembly.Imports;
    this.#functions = this.#renew();
  }

  /** The request that is next, or not plain, and where its bytes are in the inbox. */
  get next(): number {
    return this.state[at.NEXT]!;
  }

  get readable(): number {
    return this.state[at.READABLE]!;
  }

  get bytes(): number {
    return this.state[at.REQUEST_BYTES]!;
  }

  /** Replies in `replies`, and bytes of them at the front of the outbox. */
  get count(): number {
    return this.state[at.REPLY_COUNT]!;
  }

  get packed(): number {
    return this.state[at.PACKED]!;
  }

  /** What the device returned last. */
  get written(): number {
    return this.state[at.WRITTEN]!;
  }

  #renew(): Functions {
    this.#callsLeft = CALLS_MAX;
    const { exports } = new WebAssembly.Instance(this.#module, this.#imports);
    return exports as unknown as Functions;
  }

  /** The module's functions, for one call. */
  protected get call(): Functions {
    if (this.#callsLeft === 0) this.#functions = this.#renew();
    this.#callsLeft -= 1;
    return this.#functions;
  }

  /** Points at request `next`, whose `bytes` bytes are at `readable` in the inbox. */
  seek(next: number, { readable, bytes }: { readable: number; bytes: number }): void {
    const { state } = this;
    state[at.NEXT] = next;
    state[at.READABLE] = readable;
    state[at.REQUEST_BYTES] = bytes;
    state[at.REPLY_COUNT] = 0;
    state[at.PACKED] = 0;
  }

  /** Serves from there on, with the windows at these offsets: OVER, FULL or ODD. */
  serve(inbox: number, outbox: number): number {
    this.state[at.INBOX] = inbox;
    this.state[at.OUTBOX] = outbox;
    return this.call.batch();
  }
}
