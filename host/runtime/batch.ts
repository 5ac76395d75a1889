// The requests of a message, served one after the other in WebAssembly. A confined process
// interprets its JavaScript, and a loop over 64 requests would take longer there than what they are
// about; so a module of our own, made at the start like the forwarder (host/sandbox/forwarder.ts),
// goes over the entries of a message, calls the device for each, and writes the entries of the
// replies. What is not plain it leaves to its caller: a request that waits, a reply that is too
// long.
//
// Its memory is not the device's, which could otherwise change an entry that was checked already.

import {
  assemble,
  FUNCTION,
  functionType,
  leb128,
  MEMORY,
  NO_RESULT,
  name,
  OP,
  SECTION,
  signedLeb128,
  sized,
  vector,
} from "../sandbox/wasm-writer.js";
import {
  BYTES,
  CAPACITY,
  ENTRY_WORDS,
  FLAGS,
  HEADER_BYTES,
  HEADER_WORDS,
  ID,
  PAYLOAD_BYTES_MAX,
} from "../wire/message.js";
import { EAGER_BYTES, EAGER_CHAINS } from "./outbox.js";

/** Why serving ended: the requests are over, a message is full, or one is not plain. */
export const OVER = 0;
export const FULL = 1;
export const ODD = 2;

/** Words of the state, before and after. */
const NEXT = 0;
const TOTAL = 1;
const READABLE = 2;
const REQUEST_BYTES = 3;
const COUNT = 4;
const PACKED = 5;
const WRITTEN = 6;

/** Where everything is in the memory, in bytes. */
const REQUESTS_AT = 0;
const REPLIES_AT = REQUESTS_AT + HEADER_BYTES;
const STATE_AT = REPLIES_AT + HEADER_BYTES;
const STATE_WORDS = 7;

/** V8's budget of calls from JavaScript is 1000 an instance; see Forwarder. */
const CALLS_MAX = 900;

const SHIFT = Math.log2(ENTRY_WORDS * 4);

/** Parameters and locals of the function. */
const QUEUE = 0;
const INBOX = 1;
const OUTBOX = 2;
const PARAMETERS = 3;
const STATE_LOCAL = PARAMETERS; // and those behind it: one for each word of the state
const ENTRY = STATE_LOCAL + STATE_WORDS;
const REPLY = ENTRY + 1;
const ROOM = ENTRY + 2;
const HOW = ENTRY + 3;
const LOCALS = HOW + 1 - PARAMETERS;

const I32_ALIGN = 2;
const get = (local: number) => [OP.local_get, local];
const set = (local: number) => [OP.local_set, local];
const i32 = (value: number) => [OP.i32_const, ...signedLeb128(value)];
const load = (at: number) => [OP.i32_load, I32_ALIGN, ...leb128(at)];
const store = (at: number) => [OP.i32_store, I32_ALIGN, ...leb128(at)];
const state = (word: number) => STATE_LOCAL + word;
const stateAt = (word: number) => STATE_AT + word * 4;
const add = (to: number, value: readonly number[]) => [
  ...get(to),
  ...value,
  OP.i32_add,
  ...set(to),
];

/** Leaves the loop with `how`, if `condition` holds; the block is two levels around this. */
function leave(how: number, ...condition: number[]): number[] {
  const away = [...i32(how), ...set(HOW), OP.br, 2];
  return [...condition, OP.if, NO_RESULT, ...away, OP.end];
}

/** Word of an entry, for `load` and `store` with the entry's offset on the stack. */
const requestAt = (word: number) => REQUESTS_AT + (HEADER_WORDS + word) * 4;
const replyAt = (word: number) => REPLIES_AT + (HEADER_WORDS + word) * 4;

/** Calls the device for the entry at `next`. */
const CALL_DEVICE = [
  ...get(state(NEXT)),
  ...i32(SHIFT),
  OP.i32_shl,
  ...set(ENTRY),
  // The bytes of the first are told, and may be more than its entry says: it came in pieces.
  ...[...get(state(NEXT)), OP.if, NO_RESULT],
  ...add(state(READABLE), get(state(REQUEST_BYTES))),
  ...[...get(ENTRY), ...load(requestAt(BYTES)), ...set(state(REQUEST_BYTES)), OP.end],
  ...[...get(ENTRY), ...load(requestAt(CAPACITY)), ...set(ROOM)],
  ...get(QUEUE),
  ...[...get(INBOX), ...get(state(READABLE)), OP.i32_add],
  ...get(state(REQUEST_BYTES)),
  ...[...get(OUTBOX), ...get(state(PACKED)), OP.i32_add],
  ...get(ROOM),
  ...[OP.call, 0],
  ...set(state(WRITTEN)),
];

/** Writes the entry of its reply. */
const PACK = [
  ...[...get(state(COUNT)), ...i32(SHIFT), OP.i32_shl, ...set(REPLY)],
  ...[...get(REPLY), ...get(ENTRY), ...load(requestAt(ID)), ...store(replyAt(ID))],
  ...[...get(REPLY), ...get(state(WRITTEN)), ...store(replyAt(BYTES))],
  ...[...get(REPLY), ...i32(0), ...store(replyAt(CAPACITY))],
  ...[...get(REPLY), ...i32(0), ...store(replyAt(FLAGS))],
  ...add(state(COUNT), i32(1)),
  ...add(state(PACKED), get(state(WRITTEN))),
  ...add(state(NEXT), i32(1)),
];

function body(): number[] {
  const words = Array.from({ length: STATE_WORDS }, (_, word) => word);
  const loadState = words.flatMap((word) => [
    ...i32(0),
    ...load(stateAt(word)),
    ...set(state(word)),
  ]);
  const storeState = words.flatMap((word) => [
    ...i32(0),
    ...get(state(word)),
    ...store(stateAt(word)),
  ]);
  const code = [
    ...loadState,
    ...[OP.block, NO_RESULT, OP.loop, NO_RESULT],
    ...leave(OVER, ...get(state(NEXT)), ...get(state(TOTAL)), OP.i32_ge_u),
    ...CALL_DEVICE,
    ...leave(ODD, ...get(state(WRITTEN)), ...get(ROOM), OP.i32_gt_u),
    ...leave(
      ODD,
      ...[...get(state(PACKED)), ...get(state(WRITTEN)), OP.i32_add],
      ...[...i32(PAYLOAD_BYTES_MAX), OP.i32_gt_u],
    ),
    ...PACK,
    ...leave(FULL, ...get(state(COUNT)), ...i32(EAGER_CHAINS), OP.i32_ge_u),
    ...leave(FULL, ...get(state(PACKED)), ...i32(EAGER_BYTES), OP.i32_ge_u),
    ...[OP.br, 0, OP.end, OP.end],
    ...storeState,
    ...get(HOW),
    OP.end,
  ];
  const locals = vector([[...leb128(LOCALS), 0x7f]]);
  return sized([...locals, ...code]);
}

function moduleBytes(): Uint8Array<ArrayBuffer> {
  const serve = functionType(["i32", "i32", "i32", "i32", "i32"], ["i32"]);
  const batch = functionType(["i32", "i32", "i32"], ["i32"]);
  const from = (what: string) => [...name("of"), ...name(what)];
  return assemble([
    [SECTION.type, vector([serve, batch])],
    [
      SECTION.import,
      vector([
        [...from("serve"), FUNCTION, 0],
        [...from("memory"), MEMORY, 0x00, 1],
      ]),
    ],
    [SECTION.function, vector([[1]])],
    [SECTION.export, vector([[...name("batch"), FUNCTION, 1]])],
    [SECTION.code, vector([body()])],
  ]);
}

type Serve = (queue: number, inbox: number, outbox: number) => number;

/** The entries of one message, and how far the device has got with them. */
export class Batch {
  /** Headers with the entries of the requests, and of the replies so far. */
  readonly requests: Uint32Array;
  readonly replies: Uint32Array;
  /** After serve(): the request that is next, or not plain, and where its bytes are. */
  next = 0;
  readable = 0;
  bytes = 0;
  /** Replies in `replies`, and bytes of them at the front of the outbox. */
  count = 0;
  packed = 0;
  /** What the device returned last. */
  written = 0;
  readonly #state: Uint32Array;
  readonly #module = new WebAssembly.Module(moduleBytes());
  readonly #imports: WebAssembly.Imports;
  #serve: Serve;
  #callsLeft = CALLS_MAX;

  /** @param device its exports, of which `serve` has the type that it must have */
  constructor({ serve }: WebAssembly.Exports) {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
    const words = (at: number, count: number) => new Uint32Array(memory.buffer, at, count);
    this.requests = words(REQUESTS_AT, HEADER_BYTES / 4);
    this.replies = words(REPLIES_AT, HEADER_BYTES / 4);
    this.#state = words(STATE_AT, STATE_WORDS);
    this.#imports = { of: { serve, memory } } as unknown as WebAssembly.Imports;
    this.#serve = this.#renew();
  }

  #renew(): Serve {
    this.#callsLeft = CALLS_MAX;
    return new WebAssembly.Instance(this.#module, this.#imports).exports.batch as Serve;
  }

  /** Points at request `next` of `total`, whose `bytes` bytes are at `readable` in the inbox. */
  seek(
    next: number,
    total: number,
    { readable, bytes }: { readable: number; bytes: number },
  ): void {
    const words = this.#state;
    words[NEXT] = next;
    words[TOTAL] = total;
    words[READABLE] = readable;
    words[REQUEST_BYTES] = bytes;
    words[COUNT] = 0;
    words[PACKED] = 0;
  }

  /** Serves from there on: OVER, FULL or ODD. */
  serve(queue: number, inbox: number, outbox: number): number {
    if (this.#callsLeft === 0) this.#serve = this.#renew();
    this.#callsLeft -= 1;
    const how = this.#serve(queue, inbox, outbox);
    const words = this.#state;
    this.next = words[NEXT]!;
    this.readable = words[READABLE]!;
    this.bytes = words[REQUEST_BYTES]!;
    this.count = words[COUNT]!;
    this.packed = words[PACKED]!;
    this.written = words[WRITTEN]!;
    return how;
  }
}
