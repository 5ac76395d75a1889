// The messages between VMM and device. One SOCK_SEQPACKET message is a header of fixed size, so that
// both sides can scatter the payload to its final place with a single recvmsg, and a payload:
//
//   word 0 type │ 1 queue │ 2 count │ 3 generation │ entry 0 │ entry 1 │ … │ entry 63 │ payload …
//   entry:  word 0 id │ 1 bytes │ 2 capacity │ 3 flags
//
// All words are 32-bit little-endian. The payload is the entries' bytes, one after the other.

/** VMM → device: the driver set DRIVER_OK; payload: accepted features, u64. */
export const ACTIVATE = 1;
/** VMM → device: the driver reset the device; every unanswered request is void. */
export const RESET = 2;
/** VMM → device: `count` requests of one queue; entry `bytes` readable, `capacity` writable. */
export const REQUESTS = 3;
/** Device → VMM: confinement is complete; payload: JSON, at most READY_BYTES_MAX. */
export const READY = 16;
/** Device → VMM: `count` replies of one queue; entry `bytes` for the chain's writable part. */
export const REPLIES = 17;
/** Device → VMM: the payload is one line of text for the log, at most LOG_BYTES_MAX. */
export const LOG = 18;

/** Entry flag: more bytes of this request or reply follow in the next message of this queue. */
export const MORE = 1;

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

/** The READY report: a few hundred bytes in practice; more is an attack on the VMM's parser. */
export const READY_BYTES_MAX = 16 * 1024;

/** One log line of a device; a hostile one must not fill the user's disk line by line. */
export const LOG_BYTES_MAX = 1024;
