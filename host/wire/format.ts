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
//
// Nothing but numbers is here: AssemblyScript reads this file, too (host/runtime/assembly).

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
