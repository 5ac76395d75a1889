// One end of the socket between VMM and device. Headers, iovecs and msghdrs are native memory that
// is laid out once, so a message of 64 requests costs one system call, no copy in JavaScript and no
// allocation: payload moves between the socket and the addresses given to gather() and scatter().

import { assert, errnoName, VmmError } from "../errors.js";
import { checked, errno, getsockopt, recvmsg, sendmsg, setsockopt } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { IOVEC, MSG, MSGHDR, SOL_SOCKET } from "../ffi/socket.js";
import { HEADER_BYTES, LOG, PAYLOAD_BYTES_MAX, TYPE } from "./format.js";
import { LOG_BYTES_MAX, READY_BYTES_MAX } from "./message.js";

/** send(): the message is on its way. */
export const SENT = 1;
/** send(): the socket is full; nothing was sent, build the message again when it is writable. */
export const FULL = 0;
/** send(): the other end is gone; nothing was sent. */
export const CLOSED = -1;

/** peek(): no message is there yet. */
export const NOTHING = -1;

/** Scratch for small payloads (ACTIVATE, READY, LOG); READY is the largest. */
export const CONTROL_BYTES_MAX = READY_BYTES_MAX;

/** Pieces of one message, its header included (IOV_MAX of Linux; sendmsg refuses more). */
export const IOV_MAX = 1024;

/**
 * What a DeviceLink needs of its device: whole messages in order, never blocking. Addresses are
 * native ones that stay mapped; nothing here checks them, so whoever calls has done so.
 */
export interface Channel {
  /** Header of the next message to send, HEADER_BYTES / 4 words. */
  readonly outgoing: Uint32Array;
  /** Scratch for a small payload to send; see gatherControl(). */
  readonly outgoingControl: Uint8Array;
  /** Header of the message that peek() found: a copy that the sender cannot change any more. */
  readonly incoming: Uint32Array;
  /** Where scatterControl() puts a small payload. */
  readonly incomingControl: Uint8Array;

  /** Adds `bytes` bytes at `address` to the payload of the next message. */
  gather(address: number, bytes: number): void;
  /** Adds the first `bytes` of `outgoingControl` to the payload of the next message. */
  gatherControl(bytes: number): void;
  /**
   * Sends header and gathered pieces as one message, whole or not at all: SENT, FULL or CLOSED. The
   * pieces are forgotten in any case.
   */
  send(): number;

  /** Length of the next message, which stays queued; 0 when the peer is gone, or NOTHING. */
  peek(): number;
  /**
   * Whether the message that peek() found came with descriptors. No device has any to give, and
   * while they wait they count for all of one user: enough of them, and no other device can start.
   */
  readonly hasDescriptors: boolean;
  /** Adds a stretch of memory for the payload of the message that peek() found. */
  scatter(address: number, bytes: number): void;
  /** Adds the first `bytes` of `incomingControl` as a place for payload. */
  scatterControl(bytes: number): void;
  /**
   * Consumes the message that peek() found and fills the scatter list with its payload; bytes
   * beyond the list are dropped. `incoming` keeps what peek() saw. Returns the length of the
   * message.
   */
  take(): number;

  /** Frees what the channel itself owns; the descriptor is not among it. */
  close(): void;
}

const SO_SNDBUF = 7;

const EINTR = 4;
const EAGAIN = 11;
const EPIPE = 32;
const ECONNRESET = 104;

const MSGHDR_PADDING = 8;
const MESSAGE_BYTES = MSGHDR.size + MSGHDR_PADDING + IOV_MAX * IOVEC.size;

const IOVEC_WORDS = IOVEC.size / 4;
const IOVLEN_WORD = MSGHDR.offsets.msg_iovlen / 4;

/** A msghdr and its iovecs in native memory: the header first, then the pieces pushed. */
class Message {
  readonly #words: Uint32Array;
  readonly #iov: number;
  readonly #msghdr: number;
  #count = 1;

  /** @param at offset of MESSAGE_BYTES in `memory`: msghdr, then IOV_MAX iovecs */
  constructor(memory: Mapping, at: number) {
    this.#words = memory.words;
    this.#msghdr = at / 4;
    this.#iov = (at + MSGHDR.size + MSGHDR_PADDING) / 4;
    this.#address(this.#msghdr + MSGHDR.offsets.msg_iov / 4, memory.address + this.#iov * 4);
  }

  #address(word: number, address: number): void {
    this.#words[word] = address;
    this.#words[word + 1] = address / 2 ** 32;
  }

  /** Where the HEADER_BYTES of the header are. */
  header(address: number): void {
    this.#address(this.#iov, address);
    this.#words[this.#iov + 2] = HEADER_BYTES;
  }

  push(address: number, bytes: number): void {
    if (bytes === 0) return;
    assert(this.#count < IOV_MAX, "more pieces than one message may have");
    const words = this.#words;
    const word = this.#iov + this.#count * IOVEC_WORDS;
    words[word] = address;
    words[word + 1] = address / 2 ** 32;
    words[word + 2] = bytes;
    this.#count += 1;
  }

  /** What the kernel said of the message that was received last. */
  get flags(): number {
    return this.#words[this.#msghdr + MSGHDR.offsets.msg_flags / 4]!;
  }

  /** Makes the msghdr describe the pieces pushed so far, and forgets them. */
  seal(): void {
    this.#words[this.#msghdr + IOVLEN_WORD] = this.#count;
    this.#count = 1;
  }
}

/** Where everything is in the channel's memory. */
const OUTGOING = 0;
const INCOMING = OUTGOING + HEADER_BYTES;
const SPENT = INCOMING + HEADER_BYTES;
const OUTGOING_CONTROL = SPENT + HEADER_BYTES;
const INCOMING_CONTROL = OUTGOING_CONTROL + CONTROL_BYTES_MAX;
const OPTION = INCOMING_CONTROL + CONTROL_BYTES_MAX;
const SEND = OPTION + 16;
const PEEK = SEND + MESSAGE_BYTES;
const TAKE = PEEK + MESSAGE_BYTES;
const SAY = TAKE + MESSAGE_BYTES;
const LINE_HEADER = SAY + MESSAGE_BYTES;
const LINE = LINE_HEADER + HEADER_BYTES;
const CHANNEL_BYTES = LINE + LOG_BYTES_MAX;

export interface SocketChannelOptions {
  /** The device's end waits in receive() and send(); the VMM's never does. */
  blocking?: boolean;
}

/** A Channel over a connected unix socket of type SOCK_SEQPACKET. */
export class SocketChannel implements Channel {
  readonly fd: number;
  readonly outgoing: Uint32Array<ArrayBuffer>;
  readonly outgoingControl: Uint8Array<ArrayBuffer>;
  readonly incoming: Uint32Array<ArrayBuffer>;
  readonly incomingControl: Uint8Array<ArrayBuffer>;
  readonly #memory: Mapping;
  readonly #flags: number;
  readonly #send: Message;
  readonly #peek: Message;
  readonly #take: Message;
  readonly #say: Message;
  readonly #line: Uint8Array<ArrayBuffer>;

  /**
   * Allocates everything that the channel will ever need, and makes room in the socket for a
   * message of full size. `fd` stays the caller's.
   */
  constructor(fd: number, { blocking = false }: SocketChannelOptions = {}) {
    this.fd = fd;
    this.#flags = blocking ? 0 : MSG.MSG_DONTWAIT;
    this.#memory = Mapping.anonymous(CHANNEL_BYTES);
    const { buffer } = this.#memory.view;
    this.outgoing = new Uint32Array(buffer, OUTGOING, HEADER_BYTES / 4);
    this.incoming = new Uint32Array(buffer, INCOMING, HEADER_BYTES / 4);
    this.outgoingControl = new Uint8Array(buffer, OUTGOING_CONTROL, CONTROL_BYTES_MAX);
    this.incomingControl = new Uint8Array(buffer, INCOMING_CONTROL, CONTROL_BYTES_MAX);
    this.#send = new Message(this.#memory, SEND);
    this.#peek = new Message(this.#memory, PEEK);
    this.#take = new Message(this.#memory, TAKE);
    this.#say = new Message(this.#memory, SAY);
    this.#line = new Uint8Array(buffer, LINE, LOG_BYTES_MAX);
    this.#memory.words[LINE_HEADER / 4 + TYPE] = LOG;
    this.#say.header(this.#memory.address + LINE_HEADER);
    this.#send.header(this.#memory.address + OUTGOING);
    this.#peek.header(this.#memory.address + INCOMING);
    this.#peek.seal();
    this.#reserveSendBuffer();
  }

  gather(address: number, bytes: number): void {
    this.#send.push(address, bytes);
  }

  gatherControl(bytes: number): void {
    assert(bytes <= CONTROL_BYTES_MAX, `${bytes} bytes of control payload`);
    this.#send.push(this.#memory.address + OUTGOING_CONTROL, bytes);
  }

  scatter(address: number, bytes: number): void {
    this.#take.push(address, bytes);
  }

  scatterControl(bytes: number): void {
    assert(bytes <= CONTROL_BYTES_MAX, `${bytes} bytes of control payload`);
    this.#take.push(this.#memory.address + INCOMING_CONTROL, bytes);
  }

  send(): number {
    this.#send.seal();
    return this.#transmit(SEND);
  }

  /**
   * Sends a line for the log, cut at LOG_BYTES_MAX. At any time: the message that is being made in
   * `outgoing` stays as it is.
   */
  say(line: string): number {
    const { written } = new TextEncoder().encodeInto(line, this.#line);
    this.#say.push(this.#memory.address + LINE, written);
    this.#say.seal();
    return this.#transmit(SAY);
  }

  #transmit(message: number): number {
    const address = this.#memory.address + message;
    for (;;) {
      const result = sendmsg(this.fd, address, this.#flags | MSG.MSG_NOSIGNAL);
      if (result !== -1) return SENT;
      const error = errno();
      if (error === EAGAIN) return FULL;
      if (error === EPIPE || error === ECONNRESET) return CLOSED;
      if (error !== EINTR) throw this.#failed("sendmsg", error);
    }
  }

  peek(): number {
    return this.#receive(PEEK, MSG.MSG_PEEK);
  }

  /** There is no room for any (MSG_CTRUNC), so the kernel closes them when the message is taken. */
  get hasDescriptors(): boolean {
    return (this.#peek.flags & MSG.MSG_CTRUNC) !== 0;
  }

  take(): number {
    this.#take.header(this.#memory.address + SPENT);
    this.#take.seal();
    return this.#receive(TAKE, 0);
  }

  /**
   * Waits for a message: header into `incoming`, payload into the scatter list. Returns its real
   * length, which is larger than what arrived when the list was too small; 0 when the peer is gone.
   */
  receive(): number {
    this.#take.header(this.#memory.address + INCOMING);
    this.#take.seal();
    return this.#receive(TAKE, 0);
  }

  close(): void {
    this.#memory.close();
  }

  #receive(message: number, flags: number): number {
    for (;;) {
      const all = flags | this.#flags | MSG.MSG_TRUNC;
      const result = recvmsg(this.fd, this.#memory.address + message, all);
      if (result !== -1) return result;
      const error = errno();
      if (error === EAGAIN) return NOTHING;
      if (error === ECONNRESET) return 0;
      if (error !== EINTR) throw this.#failed("recvmsg", error);
    }
  }

  /** The kernel doubles what is asked for, and caps it at the administrator's limit, silently. */
  #reserveSendBuffer(): void {
    const { view, address } = this.#memory;
    view.setUint32(OPTION, HEADER_BYTES + PAYLOAD_BYTES_MAX, true);
    setsockopt(this.fd, SOL_SOCKET, SO_SNDBUF, address + OPTION, 4);
    view.setUint32(OPTION + 4, 4, true);
    const result = getsockopt(
      this.fd,
      SOL_SOCKET,
      SO_SNDBUF,
      address + OPTION,
      address + OPTION + 4,
    );
    checked(result, "getsockopt", `Cannot use fd ${this.fd} as the socket of a device`);
    const room = view.getUint32(OPTION, true);
    if (room > HEADER_BYTES + PAYLOAD_BYTES_MAX) return;
    this.close();
    const cause = "too small for one message, is the sysctl net.core.wmem_max lowered?";
    throw new VmmError("ERR_SYSCALL", `Cannot use socket ${this.fd}: it buffers ${room}, ${cause}`);
  }

  #failed(syscall: string, error: number): VmmError {
    const message = `Cannot use the socket of a device: ${syscall}: ${errnoName(error)}`;
    return new VmmError("ERR_SYSCALL", message, { errno: error, syscall });
  }
}
