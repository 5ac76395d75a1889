// The words that threads of the VMM share: one SharedArrayBuffer, laid out here and nowhere else.
//
//   0 GO │ 1 STOP │ 3 I/O thread │ 4 inline device │ 5 its turns
//   6 orders │ 7 PAUSED │ 8 inspections │ 9 halted vCPUs │ 10 … PM1, PM1_WORDS
//   16 … interrupt status, a word a device │ 64 … serial port │ 1088 … mailboxes, 16 words a vCPU
//
// Everything else has one owner: transports and queues belong to the I/O worker (DESIGN D6).

import { DEVICES_MAX } from "./layout.js";
import { PM1_WORDS } from "./x86/pm1.js";

/** Set once when every device is ready: vCPU workers wait for it. */
const GO = 0;
/** Set once when the VM is to end: vCPU workers look at it before each KVM_RUN. */
const STOP = 1;
/** Thread id of the I/O worker. */
const IO_THREAD = 3;
/** Index + 1 of the inline device whose code the I/O worker is in, or 0; and how often it was. */
const INLINE_DEVICE = 4;
const INLINE_TURNS = 5;
/** Counts what vCPUs are told: one that sees a new count looks at the words behind it. */
const ORDERS = 6;
/** Set while the vCPUs are to be halted. */
const PAUSED = 7;
/** How often the vCPUs were asked for their registers. */
const INSPECTIONS = 8;
/** vCPUs that are halted because of PAUSED. */
const HALTED = 9;
const PM1 = 10;
const INTERRUPT_STATUS = 16;
const LEGACY = 64;
const LEGACY_WORDS = 1024;
const MAILBOX = LEGACY + LEGACY_WORDS;

/** Words of one vCPU's mailbox; a cache line, so that vCPUs do not slow each other. */
export const MAILBOX_WORDS = 16;

/** View of the shared words, one a thread, over the same buffer. */
export class Shared {
  readonly words: Int32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer);
  }

  static create(cpuCount: number): Shared {
    return new Shared(new SharedArrayBuffer((MAILBOX + cpuCount * MAILBOX_WORDS) * 4));
  }

  get buffer(): SharedArrayBuffer {
    return this.words.buffer;
  }

  /** Lets the vCPUs run. */
  go(): void {
    Atomics.store(this.words, GO, 1);
    Atomics.notify(this.words, GO);
  }

  /** Blocks this thread until go() or stop(). */
  waitForGo(): void {
    while (Atomics.load(this.words, GO) === 0) Atomics.wait(this.words, GO, 0);
  }

  /** Tells the vCPUs to end; they must also be kicked out of KVM_RUN. */
  stop(): void {
    Atomics.store(this.words, STOP, 1);
    this.#order();
    this.go();
  }

  #order(): void {
    Atomics.add(this.words, ORDERS, 1);
    Atomics.notify(this.words, ORDERS);
  }

  /** Number of the last order to the vCPUs. */
  get orders(): number {
    return Atomics.load(this.words, ORDERS);
  }

  /** Blocks this thread until there is a later order than `seen`. */
  awaitOrder(seen: number): void {
    Atomics.wait(this.words, ORDERS, seen);
  }

  /** Tells the vCPUs to halt, or to go on; they must also be kicked out of KVM_RUN. */
  set paused(value: boolean) {
    Atomics.store(this.words, PAUSED, value ? 1 : 0);
    this.#order();
  }

  get paused(): boolean {
    return Atomics.load(this.words, PAUSED) !== 0;
  }

  /** Asks the vCPUs for their registers, with the number that this returns, or a later one. */
  inspect(): number {
    const asked = Atomics.add(this.words, INSPECTIONS, 1) + 1;
    this.#order();
    return asked;
  }

  get inspections(): number {
    return Atomics.load(this.words, INSPECTIONS);
  }

  /** A vCPU halts (1), or goes on (-1). */
  addHalted(change: 1 | -1): void {
    Atomics.add(this.words, HALTED, change);
  }

  get haltedCount(): number {
    return Atomics.load(this.words, HALTED);
  }

  get stopping(): boolean {
    return Atomics.load(this.words, STOP) !== 0;
  }

  /** Index of the InterruptStatus word of device `device` (virtio v1.2 §4.2.2). */
  interruptStatusIndex(device: number): number {
    return INTERRUPT_STATUS + (device % DEVICES_MAX);
  }

  /** The I/O worker says who it is: once, when it starts. */
  set ioThread(tid: number) {
    Atomics.store(this.words, IO_THREAD, tid);
  }

  get ioThread(): number {
    return Atomics.load(this.words, IO_THREAD);
  }

  /** The I/O worker begins to run the code of an inline device. */
  enterInline(device: number): void {
    Atomics.add(this.words, INLINE_TURNS, 1);
    Atomics.store(this.words, INLINE_DEVICE, device + 1);
  }

  leaveInline(): void {
    Atomics.store(this.words, INLINE_DEVICE, 0);
  }

  /** The inline device whose code runs now, if any, and a number that tells its turns apart. */
  get inlineTurn(): { device: number | undefined; turn: number } {
    const device = Atomics.load(this.words, INLINE_DEVICE) - 1;
    return {
      device: device < 0 ? undefined : device,
      turn: Atomics.load(this.words, INLINE_TURNS),
    };
  }

  /** State of ACPI's PM1 event registers. */
  get pm1(): Int32Array<SharedArrayBuffer> {
    return this.words.subarray(PM1, PM1 + PM1_WORDS);
  }

  /** State of the serial port and the CMOS clock. */
  get legacy(): Int32Array<SharedArrayBuffer> {
    return this.words.subarray(LEGACY, LEGACY + LEGACY_WORDS);
  }

  mailbox(cpu: number): Int32Array<SharedArrayBuffer> {
    const start = MAILBOX + cpu * MAILBOX_WORDS;
    return this.words.subarray(start, start + MAILBOX_WORDS);
  }
}
