// Granted descriptors with somebody at their other end, who is the test: sockets and terminals.

import { wasiErrno } from "../runtime/errno.js";
import type { Right } from "../sandbox/grants.js";
import { Descriptor } from "./descriptor.js";
import { type Bytes, bytesOf, type Grant } from "./grants.js";

/**
 * Bytes that a device may write before the test takes them; then it has to wait for room, as on a
 * socket whose peer does not read.
 */
export const STREAM_BYTES_MAX = 256 * 1024;

const ERRNO_AGAIN = wasiErrno("AGAIN");
const ERRNO_IO = wasiErrno("IO");
const ERRNO_PIPE = wasiErrno("PIPE");

/** The test's end of a stream of bytes. */
export class Peer {
  /** What the test sent and the device has not read; what the device wrote and nobody took. */
  #sent = new Uint8Array(0);
  #written = new Uint8Array(0);
  #hasEnded = false;
  #isAway = false;
  #wasClosed = false;
  #changed = () => {};
  /** What the device reads as the size of this: rows << 16 | columns of a terminal. */
  protected shape = 0;

  /** Sends bytes; a device that waits for them is woken. */
  push(bytes: Bytes): void {
    this.#sent = joined(this.#sent, bytesOf(bytes));
    this.#changed();
  }

  /** All that the device has written since the last call; one that waits for room is woken. */
  take(): Uint8Array {
    const taken = this.#written;
    this.#written = new Uint8Array(0);
    this.#changed();
    return taken;
  }

  /** Hangs up: behind what was sent, the device reads the end. */
  end(): void {
    this.#hasEnded = true;
    this.#changed();
  }

  /** Leaves, and may come back: as who closes the slave of a pseudo-terminal. */
  leave(): void {
    this.#isAway = true;
    this.#changed();
  }

  /** Comes back; the device looks when it is told to: DeviceUnderTest.lookAgain(). */
  come(): void {
    this.#isAway = false;
  }

  /** Whether the device closed its end. */
  get closed(): boolean {
    return this.#wasClosed;
  }

  /** The device's end. */
  connected(changed: () => void): Descriptor {
    this.#changed = changed;
    return new PeerDescriptor({
      read: (into) => this.#read(into),
      write: (from) => this.#write(from),
      isReadable: () => this.#sent.length > 0 || this.#hasEnded || this.#isAway,
      isWritable: () => this.#written.length < STREAM_BYTES_MAX || this.#hasEnded || this.#isAway,
      size: () => this.shape,
      close: () => {
        this.#wasClosed = true;
      },
    });
  }

  #read(into: Uint8Array): number {
    if (this.#sent.length === 0 && this.#isAway) return -ERRNO_IO;
    if (this.#sent.length === 0) return this.#hasEnded ? 0 : -ERRNO_AGAIN;
    const part = this.#sent.subarray(0, into.length);
    into.set(part);
    this.#sent = this.#sent.slice(part.length);
    return part.length;
  }

  #write(from: Uint8Array): number {
    if (this.#hasEnded) return -ERRNO_PIPE;
    const room = STREAM_BYTES_MAX - this.#written.length;
    if (this.#isAway && (room === 0 || from.length === 0)) return -ERRNO_IO;
    if (room === 0 && from.length > 0) return -ERRNO_AGAIN;
    const part = from.subarray(0, room);
    this.#written = joined(this.#written, part);
    return part.length;
  }
}

interface End {
  read(into: Uint8Array): number;
  write(from: Uint8Array): number;
  isReadable(): boolean;
  isWritable(): boolean;
  size(): number;
  close(): void;
}

class PeerDescriptor extends Descriptor {
  readonly #end: End;

  constructor(end: End) {
    super();
    this.#end = end;
  }

  override get readable(): boolean {
    return this.#end.isReadable();
  }

  override get writable(): boolean {
    return this.#end.isWritable();
  }

  override get size(): number {
    return this.#end.size();
  }

  override read(into: Uint8Array): number {
    return this.#end.read(into);
  }

  override write(from: Uint8Array): number {
    return this.#end.write(from);
  }

  override close(): void {
    this.#end.close();
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

/** A peer that the device is connected to: `unix:PATH:connect`. */
export class Socket extends Peer implements Grant {
  readonly kind = "unix";
  readonly what = "in memory";
  readonly rights = "connect";

  open(_rights: readonly Right[], changed: () => void): Descriptor {
    return this.connected(changed);
  }
}

/** Peers connect to the device, one after the other: `unix:PATH:listen`. */
export class Listener implements Grant {
  readonly kind = "unix";
  readonly what = "in memory";
  readonly rights = "listen";
  readonly #waiting: Peer[] = [];
  #changed = () => {};

  /** Somebody connects; the device accepts when it is ready for that. */
  connect(): Peer {
    const peer = new Peer();
    this.#waiting.push(peer);
    this.#changed();
    return peer;
  }

  open(_rights: readonly Right[], changed: () => void): Descriptor {
    this.#changed = changed;
    return new ListeningDescriptor(this.#waiting, changed);
  }
}

class ListeningDescriptor extends Descriptor {
  readonly #waiting: Peer[];
  readonly #changed: () => void;

  constructor(waiting: Peer[], changed: () => void) {
    super();
    this.#waiting = waiting;
    this.#changed = changed;
  }

  override get readable(): boolean {
    return this.#waiting.length > 0;
  }

  override accept(): Descriptor | number {
    return this.#waiting.shift()?.connected(this.#changed) ?? -ERRNO_AGAIN;
  }
}

/** A terminal, with the test at its keyboard. */
export class Tty extends Peer implements Grant {
  readonly kind = "tty";
  readonly what = "in memory";
  readonly rights = undefined;

  /** Gives it another size; the device looks when it is told to: DeviceUnderTest.lookAgain(). */
  resize(rows: number, columns: number): void {
    this.shape = ((rows << 16) | columns) >>> 0;
  }

  open(_rights: readonly Right[], changed: () => void): Descriptor {
    return this.connected(changed);
  }
}

/** A terminal: the test types with push() and reads with take(). */
export function tty(): Tty {
  return new Tty();
}

/** A connected socket, with the test as the peer. */
export function socket(): Socket {
  return new Socket();
}

/** A listening socket, to which the test connects. */
export function listener(): Listener {
  return new Listener();
}
