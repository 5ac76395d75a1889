// One port of a console, and what is at its other end: a terminal, a file, or whoever is connected
// to a socket. Bytes move straight between that and the driver's buffers, and what cannot move yet
// stays where it is: nothing is kept here, so nothing here can grow or get lost.

import {
  Awaitable,
  Chain,
  Descriptor,
  errnoName,
  File,
  logLine,
  Tty,
  Unix,
  VIRTIO_CONSOLE_PORT_OPEN,
} from "bulkhead/sdk";

export class Port {
  /** The driver has opened it: before that it would throw away what it receives (§5.3.6.2). */
  isOpen: bool = false;
  /** The driver said that it knows the port. */
  isReady: bool = false;
  /** Control messages that the driver is to be told: bit n is the one whose event is n. */
  pending: u32 = 0;
  /** The driver got something from here: so a program has it open. */
  hasInput: bool = false;
  /** Whether somebody is there, as the driver was told last. */
  wasConnected: bool = false;

  /** Exactly one of these is there; none once a terminal has hung up. */
  private tty: Tty | null = null;
  private file: File | null = null;
  private socket: Unix | null = null;

  /** Bytes of the oldest transmit request that the other end has already. */
  private taken: u32 = 0;
  /** The peer of a connection that the user granted has gone: no other will come. */
  private isGone: bool = false;
  /** Nobody has the other end of a pseudo-terminal open for now; who opens it wakes the device. */
  private isAlone: bool = false;
  /** What a console said to nobody found no room: until somebody comes all that follows is lost. */
  private isFull: bool = false;
  private hasFailed: bool = false;

  /**
   * @param name of its capability and, for a port that is not the console, in the guest
   * @param isConsole what the guest says when nobody listens is lost, so that a guest that boots
   *   does not wait for somebody to look; other ports wait for their peer
   */
  constructor(
    public readonly name: string,
    public readonly isConsole: bool,
  ) {}

  /** Connects it to the outside. */
  useTty(tty: Tty): void {
    this.tty = tty;
  }

  useFile(file: File): void {
    this.file = file;
  }

  useSocket(socket: Unix): void {
    this.socket = socket;
  }

  /** Whether it is a terminal that has a size. */
  get hasSize(): bool {
    return this.tty != null;
  }

  /** Rows and columns of the terminal, rows in the upper 16 bits; 0 when there is none. */
  get size(): u32 {
    const tty = this.tty;
    return tty == null ? 0 : tty.size;
  }

  /** Whether somebody is there. */
  get isConnected(): bool {
    if (this.isAlone) return false;
    const socket = this.socket;
    return socket == null || (socket.connected && !this.isGone);
  }

  /** The driver is another one. */
  reset(): void {
    this.isOpen = false;
    this.isReady = false;
    this.hasInput = false;
    this.pending = 0;
    this.wasConnected = false;
    this.taken = 0;
  }

  /** Looks whether somebody is there, of those who come and go without a connection. */
  look(): void {
    const line = this.source();
    if (line == null) return;
    line.look();
    this.found(line.alone);
  }

  private found(isAlone: bool): void {
    this.isAlone = isAlone;
    if (!isAlone) this.isFull = false;
  }

  /** Looks whether somebody has come to a socket; if not, who comes wakes the device. */
  attend(): void {
    const socket = this.socket;
    if (socket == null || this.isGone || socket.connected) return;
    // Who comes next is somebody else: the driver hears first that the one before has gone.
    if ((this.pending & (1 << VIRTIO_CONSOLE_PORT_OPEN)) != 0) return;
    if (!socket.accept()) socket.awaitReadable();
  }

  /** What the driver transmits goes out; the request waits while there is no room for all of it. */
  transmit(chain: Chain): void {
    const out = this.output();
    if (out == null) return this.keep(chain);
    if (this.isFull) return; // the kernel has room again: what came now would leave a gap behind it
    chain.skip(min(this.taken, chain.readable));
    this.taken += chain.readInto(out, chain.readable);
    if (chain.readable == 0) {
      this.taken = 0;
    } else if (out.again) {
      this.awaitWritable();
      chain.wait();
    } else if (this.source() != null && this.source()!.alone) {
      this.isAlone = true; // and to wait until there is room would be to never sleep
      if (!this.isConsole) return chain.wait();
      this.isFull = true;
      this.taken = 0;
    } else {
      this.lose(out.errno);
      this.taken = 0; // who was to get the rest is gone
    }
  }

  /** Nobody is there: a console goes on, another port waits until somebody comes. */
  private keep(chain: Chain): void {
    if (!this.isConsole && this.socket != null && !this.isGone) chain.wait();
  }

  /** A buffer that the driver offers waits until there is something to put into it. */
  receive(chain: Chain): void {
    const source = this.source();
    if (chain.writable == 0) return; // the driver's own doing: nothing fits
    if (!this.isOpen || source == null) return chain.wait();
    if (chain.writeFrom(source, chain.writable) > 0) {
      this.hasInput = true;
      return; // an error comes again
    }
    this.found(source.alone);
    if (this.isAlone) return chain.wait();
    if (!source.again) {
      this.lose(source.errno);
      // A buffer of nothing is the end that a reader sees in the guest, and with it control
      // messages are offered again, in which the driver learns of it.
      if (!this.isConsole) return;
    }
    if (this.tty != null) this.tty!.awaitReadable();
    const socket = this.socket;
    if (socket != null && !this.isGone) socket.awaitReadable();
    chain.wait();
  }

  /** The byte of an emergency write, if there is room for it (§5.3.6.1). */
  say(byte: StaticArray<u8>): void {
    const out = this.output();
    if (out != null) out.writeBytes(byte, 0, 1);
  }

  private output(): Descriptor | null {
    return this.file != null ? this.file : this.source();
  }

  private source(): Awaitable | null {
    if (this.tty != null) return this.tty;
    const socket = this.socket;
    return socket != null && socket.connected && !this.isGone ? socket : null;
  }

  private awaitWritable(): void {
    if (this.tty != null) this.tty!.awaitWritable();
    const socket = this.socket;
    if (socket != null) socket.awaitWritable();
  }

  /** The other end is gone, or takes nothing more; `errno` is 0 where it just ended. */
  private lose(errno: u32): void {
    const socket = this.socket;
    if (this.file != null) {
      const why = errnoName(errno);
      if (!this.hasFailed) logLine(this.name).text(": output is lost: ").text(why).end();
      this.hasFailed = true;
    } else if (socket == null) {
      logLine(this.name).text(": hung up").end();
      this.tty = null; // it stays hung up, and to wait for it would be to never sleep
    } else {
      socket.close(); // the next may come …
      this.isGone = socket.connected; // … but nobody comes where the user granted a connection
    }
  }
}
