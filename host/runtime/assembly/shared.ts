// Where batch.ts and pump.ts keep what they work on, and when a message is full. Nothing but
// numbers: TypeScript and AssemblyScript read this file.

/** Offsets in their memory: the headers of the two messages, then the state. */
export const REQUESTS_AT = 0;
export const REPLIES_AT = 2048;
export const STATE_AT = 4096;
/** A `struct msghdr` to receive with and one to send with, each with the iovecs behind it. */
export const RECEIVE_AT = 4352;
export const SEND_AT = 4480;
/** Of a msghdr of 56 bytes: two iovecs, that of the header and that of the payload. */
export const IOVECS = 64;
/** From RECEIVE_AT or SEND_AT on. */
export const MESSAGE_BYTES = 96;

/** Words of the state. Where in the device's memory requests are, and where replies go. */
export const INBOX = 0;
export const OUTBOX = 1;
/** The request that is next, or not plain, and where in the inbox its bytes are. */
export const NEXT = 2;
export const READABLE = 3;
export const REQUEST_BYTES = 4;
/** Replies that are packed, and their bytes at the front of the outbox. */
export const REPLY_COUNT = 5;
export const PACKED = 6;
/** What the device returned last. */
export const WRITTEN = 7;
/** For pump(): the socket, how many queues the device has, and where this memory is. */
export const SOCKET = 8;
export const QUEUES = 9;
export const ADDRESS_LOW = 10;
export const ADDRESS_HIGH = 11;
/** A word of the device's memory: when it changes, there is something to look at. */
export const WATCHED = 12;
/** Messages to serve at most. */
export const TURNS = 13;
/** Of the message that was received, or what recvmsg(2) returned instead. */
export const LENGTH = 14;
export const STATE_WORDS = 15;

/** Why batch() ended: the requests are over, a message is full, or a request is not plain. */
export const OVER = 0;
export const FULL = 1;
export const ODD = 2;
/** Why pump() did, if not so: a message that is not plain; its turns, or something to look at. */
export const MESSAGE = 3;
export const DONE = 4;

/**
 * A message goes as soon as it has so many replies, or bytes of them, whatever else is in the
 * batch: its receiver takes those, and asks for more, while the rest is being served. With all
 * replies of a full queue in one message, each side would sleep while the other works. Smaller
 * messages cost more than they gain: these are half of 32 requests in flight, or one long read.
 */
export const EAGER_CHAINS = 16;
export const EAGER_BYTES = 64 * 1024;
