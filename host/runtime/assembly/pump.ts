// What a confined process does all day, without a line of JavaScript: receive requests, have the
// device answer them, send the replies. Everything that is not as plain as that ends it, and is
// for the dispatcher: it looks at such a message again, and knows what is wrong with it.

import {
  BATCH_CHAINS_MAX,
  BYTES,
  CAPACITY,
  CHAIN_BYTES_MAX,
  COUNT,
  FLAGS,
  GENERATION,
  HEADER_BYTES,
  PAYLOAD_BYTES_MAX,
  QUEUE,
  REPLIES,
  REQUESTS,
  TYPE,
} from "../../wire/format";
import { batch } from "./batch";
import { recvmsg, sendmsg } from "./libc";
import {
  ADDRESS_HIGH,
  ADDRESS_LOW,
  DONE,
  IOVECS,
  LENGTH,
  MESSAGE,
  NEXT,
  ODD,
  OVER,
  PACKED,
  QUEUES,
  READABLE,
  RECEIVE_AT,
  REPLY_COUNT,
  REQUEST_BYTES,
  SEND_AT,
  SOCKET,
  TURNS,
  WATCHED,
} from "./shared";
import { pages, word } from "./view";
import { entryAt, request, setReply, setState, state } from "./words";

export { batch };

/** socket(2) flags: the length of a message that is longer than there is room for. */
const MSG_TRUNC = 0x20;
const MSG_NOSIGNAL = 0x4000;

/** From a msghdr to the length of the payload's iovec. */
const PAYLOAD_LENGTH = IOVECS + 16 + 8;

/** Whether a message of `length` bytes, or none, has nothing but whole requests. */
function isPlain(length: i32): bool {
  if (request(TYPE) !== REQUESTS) return false;
  const count = request(COUNT);
  if (count === 0 || count > <u32>BATCH_CHAINS_MAX || request(QUEUE) >= state(QUEUES)) return false;
  let payload: u32 = 0;
  for (let index: u32 = 0; index < count; index += 1) {
    const entry = entryAt(index);
    const bytes = request(entry + BYTES);
    if (request(entry + FLAGS) !== 0 || bytes > <u32>PAYLOAD_BYTES_MAX) return false;
    if (request(entry + CAPACITY) > <u32>CHAIN_BYTES_MAX) return false;
    payload += bytes;
  }
  return payload <= <u32>PAYLOAD_BYTES_MAX && <u32>length === <u32>HEADER_BYTES + payload;
}

/** Native address of `offset` in this memory, as JavaScript has numbers. */
function addressOf(offset: i32): f64 {
  return <f64>state(ADDRESS_HIGH) * 4294967296 + <f64>state(ADDRESS_LOW) + <f64>offset;
}

/** Waits for a message: its length, 0 when the peer is gone, or -1. */
function receive(): i32 {
  return recvmsg(state(SOCKET), addressOf(RECEIVE_AT), MSG_TRUNC);
}

/** Sends the replies that are packed; whether that went well. */
function reply(): bool {
  setReply(TYPE, REPLIES);
  setReply(QUEUE, request(QUEUE));
  setReply(COUNT, state(REPLY_COUNT));
  setReply(GENERATION, request(GENERATION));
  store<u64>(<usize>(SEND_AT + PAYLOAD_LENGTH), state(PACKED));
  return sendmsg(state(SOCKET), addressOf(SEND_AT), MSG_NOSIGNAL) >= 0;
}

/** Serves the requests that were received: DONE, or why not all of the replies are sent. */
function serve(pagesBefore: i32): u32 {
  setState(NEXT, 0);
  setState(READABLE, 0);
  setState(REQUEST_BYTES, request(entryAt(0) + BYTES));
  while (true) {
    setState(REPLY_COUNT, 0);
    setState(PACKED, 0);
    const how = batch();
    if (how === ODD) return how;
    // Memory that grew may be elsewhere, and where is not for this module to find out.
    if (pages() !== pagesBefore || (state(REPLY_COUNT) > 0 && !reply())) return how;
    if (how === OVER) return DONE;
  }
}

/**
 * Serves messages until one is not plain, or TURNS are served.
 *
 * @returns MESSAGE: one of LENGTH bytes was received; DONE: the turns are over, or there is
 * something to look at; ODD as batch() says, OVER or FULL if the replies could not be sent
 */
export function pump(): u32 {
  const watched = word(state(WATCHED));
  const size = pages();
  for (let turn: u32 = 0; turn < state(TURNS); turn += 1) {
    const length = receive();
    if (!isPlain(length)) {
      setState(LENGTH, length);
      return MESSAGE;
    }
    const how = serve(size);
    if (how !== DONE) return how;
    if (word(state(WATCHED)) !== watched) break;
  }
  return DONE;
}
