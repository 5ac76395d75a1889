// The messages between VMM and device. One SOCK_SEQPACKET message is a header of fixed size, so
// that both sides can scatter the payload to its final place with a single recvmsg, and a payload:
//
//   word 0 type │ 1 queue │ 2 count │ 3 generation │ entry 0 │ entry 1 │ … │ entry 63 │ payload …
//   entry:  word 0 id │ 1 bytes │ 2 capacity │ 3 flags
//
// All words are 32-bit little-endian. The payload is the entries' bytes, one after the other, and
// the message ends with it. Readable or writable parts above PAYLOAD_BYTES_MAX travel in pieces:
// all but the last carry MORE, and each is alone in its message, so that a receiver can put it
// where the chain continues without moving anything. Pieces of a request follow each other
// directly.
//
// A fresh device sends READY once, then hears ACTIVATE, then REQUESTS; replies repeat the
// generation of their requests, so that after a RESET the answers to what is void can be told
// apart. One with a config space sends CONFIG before READY, after each CONFIGURE (which may come at
// any time, also between the pieces of a request), and whenever it changes the space by itself.

/** VMM → device: the driver set DRIVER_OK; payload: accepted features, u64. */
export const ACTIVATE = 1;
/** VMM → device: the driver reset the device; every unanswered request is void. */
export const RESET = 2;
/** VMM → device: `count` requests of one queue; entry `bytes` readable, `capacity` writable. */
export const REQUESTS = 3;
/**
 * VMM → device: the driver wrote to the config space; payload: offset, bytes (1, 2 or 4) and value,
 * u32 each.
 */
export const CONFIGURE = 4;
/**
 * VMM → device: look again at what you were granted, it may have changed; no payload. Comes at any
 * time, also between the pieces of a request.
 */
export const WAKE = 5;
/**
 * Device → VMM: confinement is complete; payload: JSON, at most READY_BYTES_MAX. `withheld` in it
 * are features 0 to 31 of the manifest that the device does not offer, none if it is missing.
 */
export const READY = 16;
/** Device → VMM: `count` replies of one queue; entry `bytes` for the chain's writable part. */
export const REPLIES = 17;
/** Device → VMM: the payload is one line of text for the log, at most LOG_BYTES_MAX. */
export const LOG = 18;
/**
 * Device → VMM: the payload is the whole config space; the generation is how many CONFIGURE
 * messages the device has taken since it started.
 */
export const CONFIG = 19;
/**
 * Device → VMM: it woke by itself and goes back to sleep, so it does not loop; no payload. A device
 * that lives of timers or of what comes from outside may be silent for days otherwise.
 */
export const IDLE = 20;

/** Entry flag: more bytes of this request or reply follow in the next message of this queue. */
export const MORE = 1;

/** Length of the payload of ACTIVATE. */
export const ACTIVATE_BYTES = 8;
/** Length of the payload of CONFIGURE. */
export const CONFIGURE_BYTES = 12;

/** Chains in one message: enough to hide two wake-ups, small enough for a fixed header. */
export const BATCH_CHAINS_MAX = 64;
export const HEADER_WORDS = 4;
export const ENTRY_WORDS = 4;
export const HEADER_BYTES = (HEADER_WORDS + BATCH_CHAINS_MAX * ENTRY_WORDS) * 4;

/**
 * Payload of one message. A SEQPACKET message may have SO_SNDBUF bytes, 2 × 212,992 where the
 * administrator changed nothing, and two of them should fit so that both sides work at once.
 */
export const PAYLOAD_BYTES_MAX = 192 * 1024;

/**
 * Readable or writable bytes of one chain that a device sees: a guest may offer 4 GiB to rng, and a
 * device holds a whole chain in its memory. Larger readable parts are refused, writable ones cut.
 */
export const CHAIN_BYTES_MAX = 1024 * 1024;

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

/** Words of a header. */
export const TYPE = 0;
export const QUEUE = 1;
export const COUNT = 2;
export const GENERATION = 3;

/** Words of an entry, counted from entryAt(). */
export const ID = 0;
export const BYTES = 1;
export const CAPACITY = 2;
export const FLAGS = 3;

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

// Escape sequences would let a device write to the terminal of whoever reads the log, line breaks
// would let it forge lines, and bidirectional controls let a line look like another.
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Text of a device for a log or an error message: one line, printable, whatever the bytes were. */
export function printable(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes).replace(UNPRINTABLE, "\ufffd");
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
