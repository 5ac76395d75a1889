import { closeSync, openSync, readSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { errnoName } from "../../../host/errors.js";
import { checked, close, eventfd, read, socketpair } from "../../../host/ffi/libc.js";
import { Mapping } from "../../../host/ffi/memory.js";
import { EventFd } from "../../../host/machine/eventfd.js";
import { SERIAL_WORDS, Serial } from "../../../host/machine/x86/serial.js";

const [THR, IER, IIR, FCR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 2, 3, 4, 5, 6, 7];
const EFD_NONBLOCK = 0x800;
const AF_UNIX = 1;
const SOCK_STREAM = 1;

interface Port {
  serial: Serial;
  /** Interrupts raised since the last look. */
  interrupts(): number;
  /** What the guest wrote. */
  output(): string;
}

function openPort(): Port {
  const words = new Int32Array(new SharedArrayBuffer(SERIAL_WORDS * 4));
  const interrupt = new EventFd(checked(eventfd(0, EFD_NONBLOCK), "eventfd", "Cannot test"));
  const pair = Mapping.anonymous(8);
  checked(socketpair(AF_UNIX, SOCK_STREAM, 0, pair.address), "socketpair", "Cannot test");
  const [outFd, inFd] = [pair.view.getInt32(0, true), pair.view.getInt32(4, true)];
  const count = Mapping.anonymous(8);
  return {
    serial: new Serial(words, { interrupt, outFd }),
    interrupts() {
      return read(interrupt.fd, count.address, 8) === 8
        ? Number(count.view.getBigUint64(0, true))
        : 0;
    },
    output() {
      close(outFd);
      const buffer = Buffer.alloc(4096);
      return buffer.toString("latin1", 0, readSync(inFd, buffer));
    },
  };
}

test("Serial writes each byte to its descriptor, and the transmitter is always empty", () => {
  const { serial, output } = openPort();
  for (const byte of Buffer.from("hé\n")) serial.write(THR, byte);
  assert.is(serial.read(LSR) & 0x60, 0x60);
  assert.is(output(), Buffer.from("hé\n").toString("latin1"));
});

test("Serial.breakLine() says whether the output is in the middle of a line, once", () => {
  const { serial, output } = openPort();
  assert.is(serial.breakLine(), false);
  for (const byte of Buffer.from("login: ")) serial.write(THR, byte);
  assert.equal([serial.breakLine(), serial.breakLine()], [true, false]);
  for (const byte of Buffer.from("x\n")) serial.write(THR, byte);
  assert.is(serial.breakLine(), false);
  assert.is(output(), "login: x\n");
});

test("Serial loses what cannot be written, counts it, and says the first errno once", () => {
  const words = new Int32Array(new SharedArrayBuffer(SERIAL_WORDS * 4));
  const interrupt = new EventFd(checked(eventfd(0, EFD_NONBLOCK), "eventfd", "Cannot test"));
  const errors: string[] = [];
  const onLost = (number: number) => errors.push(errnoName(number));
  const outFd = openSync("/dev/full", "w");
  const serial = new Serial(words, { interrupt, outFd, onLost });
  for (const byte of Buffer.from("hé\n")) serial.write(THR, byte);
  assert.is(serial.read(LSR) & 0x60, 0x60);
  assert.equal(errors, ["ENOSPC"]);
  assert.is(serial.lostBytes, 4);
  assert.is(new Serial(words, { interrupt, outFd }).lostBytes, 4, "all vCPUs count together");
  closeSync(outFd);
});

test("Serial.input() is read in order, byte by byte, while LSR says that data is ready", () => {
  const { serial } = openPort();
  assert.is(serial.read(LSR) & 1, 0);
  assert.is(serial.input(Uint8Array.of(1, 2)), 2);
  assert.is(serial.read(LSR) & 1, 1);
  assert.equal([serial.read(THR), serial.read(THR)], [1, 2]);
  assert.is(serial.read(LSR) & 1, 0);
  assert.is(serial.read(THR), 0);
});

test("Serial.input() takes what fits and leaves the rest to the caller", () => {
  const { serial } = openPort();
  assert.is(serial.input(new Uint8Array(1000).fill(7)), 512);
  serial.read(THR);
  assert.is(serial.input(new Uint8Array(1000)), 1);
});

test("input interrupts only a driver that asked for it", () => {
  const { serial, interrupts } = openPort();
  serial.input(Uint8Array.of(1));
  assert.is(interrupts(), 0);
  assert.is(serial.read(IIR) & 0x0f, 0x01);
  serial.write(IER, 0x01);
  assert.is(interrupts(), 1);
  assert.is(serial.read(IIR) & 0x0f, 0x04);
});

test("an empty transmitter interrupts once for each byte, and reading IIR acknowledges it", () => {
  const { serial, interrupts } = openPort();
  serial.write(IER, 0x02);
  assert.is(interrupts(), 1);
  assert.is(serial.read(IIR) & 0x0f, 0x02);
  assert.is(serial.read(IIR) & 0x0f, 0x01);
  serial.write(THR, 65);
  assert.is(interrupts(), 1);
});

test("DLAB turns the first two registers into the divisor latch, and nothing is sent", () => {
  const { serial, output } = openPort();
  serial.write(IER, 0x05);
  serial.write(LCR, 0x83);
  serial.write(THR, 0x0c);
  serial.write(IER, 0x01);
  assert.equal([serial.read(THR), serial.read(IER)], [0x0c, 0x01]);
  serial.write(LCR, 0x03);
  assert.is(serial.read(IER), 0x05);
  serial.write(THR, 66);
  assert.is(output(), "B");
});

test("loopback connects MCR to MSR and the transmitter to the receiver", () => {
  const { serial } = openPort();
  serial.write(MCR, 0x10 | 0x0a);
  assert.is(serial.read(MSR) & 0xf0, 0x90);
  serial.write(THR, 0x55);
  assert.is(serial.read(THR), 0x55);
});

test("FCR enables the FIFO that IIR reports, and clears the receiver", () => {
  const { serial } = openPort();
  serial.input(Uint8Array.of(1, 2, 3));
  serial.write(FCR, 0x03);
  assert.is(serial.read(IIR) & 0xc0, 0xc0);
  assert.is(serial.read(LSR) & 1, 0);
});

test("the scratch register keeps a byte and nothing more", () => {
  const { serial } = openPort();
  serial.write(SCR, 0x1ab);
  assert.is(serial.read(SCR), 0xab);
});

test("a console whose reader is gone loses its output, not the guest", () => {
  const { serial, output } = openPort();
  output();
  serial.write(THR, 65);
  assert.is(serial.read(LSR) & 0x60, 0x60);
});

test.run();
