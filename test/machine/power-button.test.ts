// The power button, as a guest finds it: an interrupt and a bit, when it listens.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { kernelOf } from "../../build/bench/first-light.js";
import { whyNoKvm } from "../support/bulkhead.js";
import { askOnce } from "../support/control.js";
import { skip } from "../support/skip.js";
import { config, Run } from "../support/vm.js";

const button = suite("power-button");

const scratch = mkdtempSync(path.join(os.tmpdir(), "bulkhead-button-"));
button.after(() => rmSync(scratch, { recursive: true }));

/** mov dx, port │ mov ax, value │ out dx, ax */
function out(port: number, value: number): number[] {
  const words = [port & 0xff, port >> 8, 0x66, 0xb8, value & 0xff, value >> 8];
  return [0x66, 0xba, ...words, 0x66, 0xef];
}

/** mov dx, 0x3f8 │ mov al, text │ out dx, al */
function say(text: string): number[] {
  return [0x66, 0xba, 0xf8, 0x03, 0xb0, text.charCodeAt(0), 0xee];
}

/** mov dword [address], value */
function store(address: number, value: number): number[] {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(address, 0);
  bytes.writeUInt32LE(value, 4);
  return [0xc7, 0x05, ...bytes];
}

const IOAPIC_SELECT = 0xfec00000;
const IOAPIC_WINDOW = 0xfec00010;
const SCI_ENTRY = 0x10 + 2 * 9;
const LAPIC_SPURIOUS = 0xfee000f0;
/** Level-triggered, to the first CPU, as vector 0x41: bit 1 of the third word of the IRR. */
const REDIRECTION = 0x8041;
/** mov eax, [IRR] │ test al, 2 │ jz back to it */
const AWAIT_VECTOR = [0xa1, 0x20, 0x02, 0xe0, 0xfe, 0xa8, 0x02, 0x74, 0xf7];
/** mov dx, 0x600 │ in ax, dx │ out dx, ax │ ah + "0" to port 0x3f8 */
const SEE_AND_CLEAR = [
  ...[0x66, 0xba, 0x00, 0x06, 0x66, 0xed, 0x66, 0xef],
  ...[0x80, 0xc4, 0x30, 0x88, 0xe0, 0x66, 0xba, 0xf8, 0x03, 0xee],
];
const HANG = [0xeb, 0xfe];

const LISTENER = [
  ...store(LAPIC_SPURIOUS, 0x1ff),
  ...store(IOAPIC_SELECT, SCI_ENTRY + 1),
  ...store(IOAPIC_WINDOW, 0),
  ...store(IOAPIC_SELECT, SCI_ENTRY),
  ...store(IOAPIC_WINDOW, REDIRECTION),
  ...out(0x602, 0x100), // PWRBTN_EN
  ...say("L"),
  ...AWAIT_VECTOR,
  ...say("I"),
  ...SEE_AND_CLEAR,
  ...SEE_AND_CLEAR,
  ...out(0x604, 0x3400), // SLP_EN, S5
  ...HANG,
];

async function start(code: number[], name: string) {
  const kernel = path.join(scratch, `${name}.elf`);
  writeFileSync(kernel, kernelOf(code));
  const socket = path.join(scratch, `${name}.sock`);
  const control = { name, path: socket, required: true };
  const run = await Run.create(config("", { kernel, control, devices: [] }));
  const done = run.vm.run();
  await run.until(() => run.text !== "");
  return { run, done, socket };
}

for (const paused of [false, true]) {
  const how = paused ? "that is paused" : "that runs";
  button(`stop interrupts a guest ${how} and listens, which sees the button once`, async () => {
    const { run, done, socket } = await start(LISTENER, `listens-${paused}`);
    if (paused) assert.is((await askOnce(socket, "pause")).state, "paused");
    assert.is((await askOnce(socket, "stop")).asked, true);
    assert.equal(await done, { reason: "poweroff", status: 0 });
    assert.is(run.text, "LI10");
  });
}

button("stop ends a guest that does not listen, and any when that is forced", async () => {
  const deaf = await start([...say("D"), ...HANG], "deaf");
  assert.is((await askOnce(deaf.socket, "stop")).asked, false);
  assert.is((await deaf.done).reason, "stopped");
  const listens = await start(LISTENER, "forced");
  assert.is((await askOnce(listens.socket, "stop", { force: true })).asked, false);
  assert.is((await listens.done).reason, "stopped");
  assert.is(listens.run.text, "L");
});

const reason = whyNoKvm();
if (reason === undefined) button.run();
else skip(reason);
