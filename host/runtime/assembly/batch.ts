// The requests of a message, served one after the other. A confined process interprets its
// JavaScript, and a loop over 64 requests would take longer there than what they are about.

import { BYTES, CAPACITY, COUNT, FLAGS, ID, PAYLOAD_BYTES_MAX, QUEUE } from "../../wire/format";
import { serve } from "./device";
import {
  EAGER_BYTES,
  EAGER_CHAINS,
  FULL,
  INBOX,
  NEXT,
  ODD,
  OUTBOX,
  OVER,
  PACKED,
  READABLE,
  REPLY_COUNT,
  REQUEST_BYTES,
  WRITTEN,
} from "./shared";
import { entryAt, request, setReply, setState, state } from "./words";

/**
 * Has the device answer requests, from NEXT of the state on, and packs the replies behind those
 * that are in the outbox already.
 *
 * @returns OVER, FULL, or ODD: the request at NEXT waits, or its reply, of WRITTEN bytes, does not
 * fit
 */
export function batch(): u32 {
  const queue = request(QUEUE);
  const inbox = state(INBOX);
  const outbox = state(OUTBOX);
  const total = request(COUNT);
  let next = state(NEXT);
  let readable = state(READABLE);
  let bytes = state(REQUEST_BYTES);
  let count = state(REPLY_COUNT);
  let packed = state(PACKED);
  let written: u32 = 0;
  let how: u32 = OVER;
  while (next < total) {
    const entry = entryAt(next);
    // The bytes of the first are told, and may be more than its entry says: it came in pieces.
    if (next > 0) {
      readable += bytes;
      bytes = request(entry + BYTES);
    }
    const capacity = request(entry + CAPACITY);
    written = serve(queue, inbox + readable, bytes, outbox + packed, capacity);
    if (written > capacity || packed + written > <u32>PAYLOAD_BYTES_MAX) {
      how = ODD;
      break;
    }
    const reply = entryAt(count);
    setReply(reply + ID, request(entry + ID));
    setReply(reply + BYTES, written);
    setReply(reply + CAPACITY, 0);
    setReply(reply + FLAGS, 0);
    next += 1;
    count += 1;
    packed += written;
    if (count >= <u32>EAGER_CHAINS || packed >= <u32>EAGER_BYTES) {
      how = FULL;
      break;
    }
  }
  setState(NEXT, next);
  setState(READABLE, readable);
  setState(REQUEST_BYTES, bytes);
  setState(REPLY_COUNT, count);
  setState(PACKED, packed);
  setState(WRITTEN, written);
  return how;
}
