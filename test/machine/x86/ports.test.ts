import { test } from "uvu";
import * as assert from "uvu/assert";
import { EventFd } from "../../../host/machine/eventfd.js";
import { cmosRegister } from "../../../host/machine/x86/cmos.js";
import { PM1_WORDS, Pm1 } from "../../../host/machine/x86/pm1.js";
import { Ports } from "../../../host/machine/x86/ports.js";
import { SERIAL_WORDS, Serial } from "../../../host/machine/x86/serial.js";

/** An interrupt line, and how often it was raised. */
class Line extends EventFd {
  raised = 0;

  override signal(): void {
    this.raised += 1;
  }
}

function openPm1(): { pm1: Pm1; sci: Line } {
  const sci = new Line(-1);
  return { pm1: new Pm1(new Int32Array(new SharedArrayBuffer(PM1_WORDS * 4)), sci), sci };
}

function openPorts(debugExit = false, { pm1 } = openPm1()): Ports {
  const words = new Int32Array(new SharedArrayBuffer(SERIAL_WORDS * 4));
  const serial = new Serial(words, { interrupt: EventFd.create(), outFd: -1 });
  return new Ports(serial, { pm1, debugExit });
}

test("PM1a control powers off for SLP_EN with the type of S5 only (ACPI 6.5 §4.8.3.2)", () => {
  const ports = openPorts();
  assert.equal(ports.out(0x604, (5 << 10) | 0x2000), { reason: "poweroff" });
  assert.is(ports.out(0x604, 5 << 10), undefined);
  assert.is(ports.out(0x604, (3 << 10) | 0x2000), undefined);
  assert.is(ports.in(0x604, 2) & 1, 1);
});

test("the PM1 enable register reads back what a guest wrote (ACPI 6.5 §4.8.3.1)", () => {
  const ports = openPorts();
  ports.out(0x602, 0x0420);
  assert.equal([ports.in(0x602, 2), ports.in(0x600, 2)], [0x0420, 0]);
});

test("the power button is pressed once, and interrupts only a guest that enabled it", () => {
  const machine = openPm1();
  const ports = openPorts(false, machine);
  assert.is(machine.pm1.hasButton, false);
  machine.pm1.pressButton();
  assert.equal([ports.in(0x600, 2), machine.sci.raised], [0x100, 0]);
  ports.out(0x602, 0x100); // what happened before counts when it is enabled
  assert.equal([machine.pm1.hasButton, machine.sci.raised], [true, 1]);
  ports.out(0x600, 0x20);
  assert.is(ports.in(0x600, 2), 0x100, "another bit");
  ports.out(0x600, 0x100);
  assert.is(ports.in(0x600, 2), 0);
  machine.pm1.pressButton();
  assert.equal([ports.in(0x600, 2), machine.sci.raised], [0x100, 2]);
});

test("the keyboard controller resets on 0xfe, and is never busy", () => {
  const ports = openPorts();
  assert.is(ports.in(0x64, 1) & 2, 0);
  assert.is(ports.out(0x64, 0xaa), undefined);
  assert.equal(ports.out(0x64, 0xfe), { reason: "reboot" });
});

test("port 0x501 ends the machine only when the user asked for it", () => {
  assert.is(openPorts(false).out(0x501, 3), undefined);
  assert.equal(openPorts(true).out(0x501, 3), { reason: "debug-exit", value: 3 });
});

test("a port that nobody owns floats high, at every width", () => {
  const ports = openPorts();
  assert.equal(
    [ports.in(0x80, 1), ports.in(0x80, 2), ports.in(0x80, 4)],
    [0xff, 0xffff, 2 ** 32 - 1],
  );
});

test("the CMOS clock tells UTC in BCD behind its index port", () => {
  const now = new Date(Date.UTC(2026, 10, 24, 23, 59, 8));
  const registers = [0, 2, 4, 7, 8, 9, 0x32].map((index) => cmosRegister(index, now));
  assert.equal(registers, [0x08, 0x59, 0x23, 0x24, 0x11, 0x26, 0x20]);
  const ports = openPorts();
  ports.out(0x70, 0x8d);
  assert.is(ports.in(0x71, 1), 0x80);
  ports.out(0x70, 0x0a);
  assert.is(ports.in(0x71, 1) & 0x80, 0, "no update in progress, ever");
});

test.run();
