// Chains to REQUESTS: which chains travel in the next message, and how much of each.

import type { Channel } from "../wire/channel.js";
import {
  BATCH_CHAINS_MAX,
  BYTES,
  CAPACITY,
  COUNT,
  FLAGS,
  ID,
  MORE,
  PAYLOAD_BYTES_MAX,
  QUEUE,
  REQUESTS,
  TYPE,
} from "../wire/format.js";
import { entryAt, UNANSWERED_BYTES_MAX } from "../wire/message.js";
import { type Chains, NONE } from "./chains.js";
import type { Queue } from "./virtqueue.js";

/** Readable bytes that a device with these queues can be sent before it answers something. */
export function roomBeside(queues: readonly Queue[]): number {
  return queues.reduce((room, { chains }) => room - chains.begunBytes, UNANSWERED_BYTES_MAX);
}

/**
 * Builds a message of as many unsent chains as fit, oldest first, their bytes gathered from guest
 * memory. Nothing changes but the channel, so what cannot be sent now is built again later.
 *
 * @param room readable bytes of further chains that the device has room for
 * @returns false when there is not enough room for the first of them
 */
export function packRequests({ chains, index }: Queue, channel: Channel, room: number): boolean {
  const header = channel.outgoing;
  let count = 0;
  let payload = 0;
  let begun = 0;
  for (let slot = chains.unsent; slot !== NONE; slot = chains.newerThan(slot)) {
    const inPieces = chains.readableBytes[slot]! > PAYLOAD_BYTES_MAX;
    const rest = chains.readableBytes[slot]! - chains.sentBytes[slot]!;
    if (count > 0 && payload + rest > PAYLOAD_BYTES_MAX) break;
    if (chains.sentBytes[slot] === 0) begun += rest;
    if (begun > room) break;
    const bytes = Math.min(rest, PAYLOAD_BYTES_MAX);
    const entry = entryAt(count);
    header[entry + ID] = slot;
    header[entry + BYTES] = bytes;
    header[entry + CAPACITY] = chains.writableBytes[slot]!;
    header[entry + FLAGS] = bytes < rest ? MORE : 0;
    if (bytes > 0) chains.seekReadable(slot, chains.sentBytes[slot]!);
    for (let left = bytes; left > 0; ) {
      const piece = chains.next(left);
      channel.gather(chains.pieceHva, piece);
      left -= piece;
    }
    count += 1;
    payload += bytes;
    if (inPieces || count === BATCH_CHAINS_MAX) break;
  }
  header[TYPE] = REQUESTS;
  header[QUEUE] = index;
  header[COUNT] = count;
  return count > 0;
}

/** Notes that the message whose header is `sent`, built by packRequests(), is on its way. */
export function noteSent(chains: Chains, sent: Uint32Array): void {
  for (let index = 0; index < sent[COUNT]!; index += 1) {
    const entry = entryAt(index);
    chains.noteSent(sent[entry + BYTES]!);
    if (sent[entry + FLAGS] !== MORE) chains.markSent();
  }
}
