// REPLIES to chains. The header is a copy, but its words are a device's: nothing of a message may
// move before repliesFault() has found nothing wrong with all of it.

import type { Channel } from "../wire/channel.js";
import { BYTES, COUNT, FLAGS, ID, MORE } from "../wire/format.js";
import { entryAt } from "../wire/message.js";
import type { Chains } from "./chains.js";
import type { Queue } from "./virtqueue.js";

/** What is wrong with replies whose form is right, given what is in flight; or undefined. */
export function repliesFault(chains: Chains, header: Uint32Array): string | undefined {
  chains.beginClaims();
  for (let index = 0; index < header[COUNT]!; index += 1) {
    const entry = entryAt(index);
    const id = header[entry + ID]!;
    const bytes = header[entry + BYTES]!;
    if (!chains.answerable(id)) return `id ${id}, which is not in flight`;
    if (!chains.claim(id)) return `id ${id} twice`;
    const room = chains.writableBytes[id]! - chains.receivedBytes[id]!;
    if (bytes > room) return `${bytes} bytes for id ${id}, which has room for ${room}`;
  }
  return undefined;
}

/** Points `channel` at the writable segments that the replies in its `incoming` are for. */
export function scatterReplies(chains: Chains, channel: Channel): void {
  const header = channel.incoming;
  for (let index = 0; index < header[COUNT]!; index += 1) {
    const entry = entryAt(index);
    const slot = header[entry + ID]!;
    const bytes = header[entry + BYTES]!;
    if (bytes > 0) chains.seekWritable(slot, chains.receivedBytes[slot]!);
    for (let left = bytes; left > 0; ) {
      const piece = chains.next(left);
      channel.scatter(chains.pieceHva, piece);
      left -= piece;
    }
  }
}

/** Pushes the chains that are answered now into the used ring; false when there was none. */
export function useReplies(queue: Queue, header: Uint32Array): boolean {
  const { chains } = queue;
  let used = false;
  for (let index = 0; index < header[COUNT]!; index += 1) {
    const entry = entryAt(index);
    const slot = header[entry + ID]!;
    chains.receivedBytes[slot]! += header[entry + BYTES]!;
    if (header[entry + FLAGS] === MORE) continue;
    queue.push(slot, chains.receivedBytes[slot]!);
    used = true;
  }
  return used;
}
