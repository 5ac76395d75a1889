// The 16550A serial port at COM1 (National Semiconductor PC16550D data sheet), as far as consoles
// use it: no baud rate, no modem but a loopback. Its state is shared words under a lock, so that
// each vCPU serves its own accesses: a console byte costs an exit and a write(2), no hop to another
// thread.

import { errno, poll, write } from "../../ffi/libc.js";
import { Mapping } from "../../ffi/memory.js";
import type { EventFd } from "../eventfd.js";
import { SharedLock } from "../lock.js";

/** Register offsets; the first two mean the divisor latch while LCR.DLAB is set. */
const RBR_THR_DLL = 0;
const IER_DLM = 1;
const IIR_FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;

const IER_RDI = 0x01;
const IER_THRI = 0x02;
const IIR_NO_INT = 0x01;
const IIR_THRI = 0x02;
const IIR_RDI = 0x04;
const IIR_FIFO_ENABLED = 0xc0;
const FCR_ENABLE_FIFO = 0x01;
const FCR_CLEAR_RCVR = 0x02;
const LCR_DLAB = 0x80;
const MCR_LOOP = 0x10;
const LSR_DR = 0x01;
const LSR_THRE = 0x20;
const LSR_TEMT = 0x40;
/** Carrier, data set ready, clear to send: a line that is always up. */
const MSR_UP = 0xb0;

/** Input that the guest has not read: a paste of a screen; what is beyond stays with the sender. */
const INPUT_BYTES_MAX = 512;

/** Words of this port's shared state. */
const LOCK = 0;
const REGISTERS = 8;
const DLL = REGISTERS + 8;
const DLM = REGISTERS + 9;
const THR_EMPTY_PENDING = REGISTERS + 10;
const FIFO_ENABLED = REGISTERS + 11;
const INPUT_READ = REGISTERS + 12;
const INPUT_WRITTEN = REGISTERS + 13;
const LOST = REGISTERS + 14;
const LAST = REGISTERS + 15;
const INPUT = 64;
/** How much shared state a port needs. */
export const SERIAL_WORDS = INPUT + INPUT_BYTES_MAX;

const NEWLINE = 0x0a;

/** Lost bytes are counted up to what a word holds: more than a guest writes in a day. */
const LOST_BYTES_MAX = 2 ** 31 - 1;

const EAGAIN = 11;
const EINTR = 4;
const POLLOUT = 4;

export interface SerialOptions {
  interrupt: EventFd;
  /** Descriptor that the output goes to. */
  outFd: number;
  /** Called with the errno when the first byte is lost, on the thread of the vCPU that wrote it. */
  onLost?: (errno: number) => void;
}

export class Serial {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #lock: SharedLock;
  readonly #interrupt: EventFd;
  readonly #outFd: number;
  readonly #onLost: (errno: number) => void;
  readonly #out = Mapping.anonymous(4096);

  /** `words`: SERIAL_WORDS of shared state, zeroed at first. */
  constructor(words: Int32Array<SharedArrayBuffer>, options: SerialOptions) {
    this.#words = words;
    this.#lock = new SharedLock(words, LOCK);
    this.#interrupt = options.interrupt;
    this.#outFd = options.outFd;
    this.#onLost = options.onLost ?? (() => {});
  }

  /** Bytes of output that could not be written anywhere. */
  get lostBytes(): number {
    return Atomics.load(this.#words, LOST);
  }

  /** Whether the output is in the middle of a line, which counts as ended from now on. */
  breakLine(): boolean {
    const last = Atomics.exchange(this.#words, LAST, NEWLINE);
    return last !== 0 && last !== NEWLINE;
  }

  /** A guest's read of register `offset` (0 to 7). */
  read(offset: number): number {
    return this.#lock.run(() => this.#read(offset));
  }

  /** A guest's write of `value` to register `offset` (0 to 7). */
  write(offset: number, value: number): void {
    this.#lock.run(() => this.#write(offset, value & 0xff));
  }

  /**
   * Bytes from the person at the terminal; returns how many fitted, the rest is still the caller's.
   */
  input(bytes: Uint8Array): number {
    return this.#lock.run(() => {
      let taken = 0;
      while (taken < bytes.length && this.#receive(bytes[taken] ?? 0)) taken++;
      this.#raise();
      return taken;
    });
  }

  #get(index: number): number {
    return this.#words[index] ?? 0;
  }

  get #latched(): boolean {
    return (this.#get(REGISTERS + LCR) & LCR_DLAB) !== 0;
  }

  get #inputCount(): number {
    return this.#get(INPUT_WRITTEN) - this.#get(INPUT_READ);
  }

  #read(offset: number): number {
    switch (offset) {
      case RBR_THR_DLL:
        return this.#latched ? this.#get(DLL) : this.#takeInput();
      case IER_DLM:
        return this.#get(this.#latched ? DLM : REGISTERS + IER_DLM);
      case IIR_FCR:
        return this.#identifyInterrupt();
      case LSR:
        return LSR_THRE | LSR_TEMT | (this.#inputCount > 0 ? LSR_DR : 0);
      case MSR:
        return this.#modemStatus();
      default:
        return this.#get(REGISTERS + offset);
    }
  }

  #write(offset: number, value: number): void {
    const words = this.#words;
    if (offset === RBR_THR_DLL) {
      if (this.#latched) words[DLL] = value;
      else this.#transmit(value);
    } else if (offset === IER_DLM) {
      words[this.#latched ? DLM : REGISTERS + IER_DLM] = value;
      if (!this.#latched && value & IER_THRI) words[THR_EMPTY_PENDING] = 1;
      this.#raise();
    } else if (offset === IIR_FCR) {
      words[FIFO_ENABLED] = value & FCR_ENABLE_FIFO;
      if (value & FCR_CLEAR_RCVR) words[INPUT_READ] = this.#get(INPUT_WRITTEN);
    } else if (offset === LCR || offset === MCR || offset === SCR) {
      words[REGISTERS + offset] = value;
    }
  }

  /** Interrupt Identification: reading it acknowledges "transmitter empty". */
  #identifyInterrupt(): number {
    const fifo = this.#get(FIFO_ENABLED) ? IIR_FIFO_ENABLED : 0;
    const enabled = this.#get(REGISTERS + IER_DLM);
    if (enabled & IER_RDI && this.#inputCount > 0) return fifo | IIR_RDI;
    if (enabled & IER_THRI && this.#get(THR_EMPTY_PENDING)) {
      this.#words[THR_EMPTY_PENDING] = 0;
      return fifo | IIR_THRI;
    }
    return fifo | IIR_NO_INT;
  }

  /**
   * In loopback the outputs of MCR come back as inputs: how drivers find out that a port is there.
   */
  #modemStatus(): number {
    const mcr = this.#get(REGISTERS + MCR);
    if (!(mcr & MCR_LOOP)) return MSR_UP;
    return ((mcr & 0x02) << 3) | ((mcr & 0x01) << 5) | ((mcr & 0x04) << 4) | ((mcr & 0x08) << 4);
  }

  #takeInput(): number {
    if (this.#inputCount === 0) return 0;
    const index = this.#get(INPUT_READ);
    this.#words[INPUT_READ] = index + 1;
    return this.#get(INPUT + (index % INPUT_BYTES_MAX));
  }

  #receive(byte: number): boolean {
    if (this.#inputCount === INPUT_BYTES_MAX) return false;
    const index = this.#get(INPUT_WRITTEN);
    this.#words[INPUT + (index % INPUT_BYTES_MAX)] = byte;
    this.#words[INPUT_WRITTEN] = index + 1;
    return true;
  }

  #transmit(byte: number): void {
    if (this.#get(REGISTERS + MCR) & MCR_LOOP) this.#receive(byte);
    else this.#output(byte);
    this.#words[THR_EMPTY_PENDING] = 1;
    this.#raise();
  }

  /**
   * One byte out. A reader that is slow (a full pipe) slows the guest; one that is gone, or a full
   * disk, does not: the byte is lost, and the next one is tried again.
   */
  #output(byte: number): void {
    const { view, address } = this.#out;
    view.setUint8(0, byte);
    this.#words[LAST] = byte;
    while (write(this.#outFd, address, 1) === -1) {
      const number = errno();
      if (number !== EAGAIN && number !== EINTR) {
        this.#lose(number);
        return;
      }
      view.setInt32(8, this.#outFd, true);
      view.setInt32(12, POLLOUT, true);
      poll(address + 8, 1, -1);
    }
  }

  #lose(number: number): void {
    const lost = this.#get(LOST);
    if (lost < LOST_BYTES_MAX) this.#words[LOST] = lost + 1;
    if (lost === 0) this.#onLost(number);
  }

  #raise(): void {
    const enabled = this.#get(REGISTERS + IER_DLM);
    const received = enabled & IER_RDI && this.#inputCount > 0;
    if (received || (enabled & IER_THRI && this.#get(THR_EMPTY_PENDING))) this.#interrupt.signal();
  }
}
