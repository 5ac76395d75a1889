// The words that batch.ts and pump.ts read and write.

import { ENTRY_WORDS, HEADER_WORDS } from "../../wire/format";
import { REPLIES_AT, REQUESTS_AT, STATE_AT } from "./shared";

function at(base: i32, word: u32): usize {
  return <usize>(<u32>base + word * sizeof<u32>());
}

/** A word of the state. */
export function state(word: u32): u32 {
  return load<u32>(at(STATE_AT, word));
}

export function setState(word: u32, value: u32): void {
  store<u32>(at(STATE_AT, word), value);
}

/** A word of the header of the message that was received. */
export function request(word: u32): u32 {
  return load<u32>(at(REQUESTS_AT, word));
}

/** Sets a word of the header of the message that is to be sent. */
export function setReply(word: u32, value: u32): void {
  store<u32>(at(REPLIES_AT, word), value);
}

/** First word of entry `index`. */
export function entryAt(index: u32): u32 {
  return HEADER_WORDS + index * ENTRY_WORDS;
}
