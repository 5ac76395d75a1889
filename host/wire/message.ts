// What is wrong with a message, and what is in those whose payload is text. How messages look is in
// format.ts.

import {
  BATCH_CHAINS_MAX,
  BYTES,
  CHAIN_BYTES_MAX,
  COUNT,
  ENTRY_WORDS,
  FLAGS,
  HEADER_BYTES,
  HEADER_WORDS,
  MORE,
  PAYLOAD_BYTES_MAX,
  TYPE,
} from "./format.js";

/**
 * Readable bytes of one device's requests that may be unanswered. A device keeps them in its own
 * memory while requests wait; because the VMM sends no more, the device can always read on, and
 * RESET is never stuck behind requests that nobody has room for. A socket holds a tenth of it, so
 * devices that answer at once never come near. At least CHAIN_BYTES_MAX, or a chain could not go.
 */
export const UNANSWERED_BYTES_MAX = 4 * CHAIN_BYTES_MAX;

/** The READY report: a few hundred bytes in practice; more is an attack on the VMM's parser. */
export const READY_BYTES_MAX = 16 * 1024;

/** One log line of a device; a hostile one must not fill the user's disk line by line. */
export const LOG_BYTES_MAX = 1024;

/** First word of entry `index`. */
export function entryAt(index: number): number {
  return HEADER_WORDS + index * ENTRY_WORDS;
}

/**
 * What is wrong with the entries of REQUESTS or REPLIES that `length` bytes were received of, or
 * undefined: everything that can be said without knowing which requests are in flight. `header`
 * must be a copy that the peer cannot change.
 */
export function entriesFault(header: Uint32Array, length: number): string | undefined {
  const count = header[COUNT]!;
  if (count === 0 || count > BATCH_CHAINS_MAX) return `a count of ${count}`;
  let payload = 0;
  const end = entryAt(count);
  for (let entry = entryAt(0); entry < end; entry += ENTRY_WORDS) {
    const bytes = header[entry + BYTES]!;
    const flags = header[entry + FLAGS]!;
    if ((flags & ~MORE) !== 0) return `flags 0x${flags.toString(16)}`;
    if (flags === MORE && count > 1) return "a piece that is not alone in its message";
    if (flags === MORE && bytes === 0) return "an empty piece";
    payload += bytes;
  }
  if (payload > PAYLOAD_BYTES_MAX) return `a payload of ${payload} bytes`;
  if (HEADER_BYTES + payload === length) return undefined;
  return `${length - HEADER_BYTES} bytes of payload where its entries say ${payload}`;
}

/** Text of a device for a log or an error message: one line, printable, whatever the bytes were. */
export function printable(bytes: Uint8Array): string {
  // Escape sequences would let a device write to the terminal of whoever reads the log, line breaks
  // would let it forge lines, and bidirectional controls let a line look like another. V8 takes a
  // millisecond for such a set of characters, and so not for a start that says nothing.
  const unprintable = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
  return new TextDecoder().decode(bytes).replace(unprintable, "\ufffd");
}

/** What READY says; `withheld` is a 32-bit number, all else is unchecked. */
export type Report = object & { withheld: number };

/** The report of a READY, or undefined if that is none. */
export function reportIn(bytes: Uint8Array): Report | undefined {
  const report = objectIn(bytes);
  if (report === undefined) return undefined;
  const { withheld = 0 } = report as { withheld?: unknown };
  if (typeof withheld !== "number" || withheld >>> 0 !== withheld) return undefined;
  return { ...report, withheld };
}

/** The JSON object in `bytes`, which may be anything; or undefined. */
export function objectIn(bytes: Uint8Array): object | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Text of READY or LOG and the scratch memory that it is sent from. */
export interface ControlText {
  type: number;
  text: string;
  scratch: Uint8Array;
  bytesMax: number;
}

/** Makes a message of text, cut at `bytesMax`; returns the bytes of its payload. */
export function encodeControl(header: Uint32Array, control: ControlText): number {
  const { type, text, scratch, bytesMax } = control;
  header.fill(0);
  header[TYPE] = type;
  return new TextEncoder().encodeInto(text, scratch.subarray(0, bytesMax)).written;
}
