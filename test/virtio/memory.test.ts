import { test } from "uvu";
import * as assert from "uvu/assert";
import { Mapping } from "../../host/ffi/memory.js";
import { MockRam } from "../../host/testing/mock-ram.js";
import { addressOf, GuestMemory, gpa, NOT_RAM } from "../../host/virtio/memory.js";

const ram = new MockRam(64 * 1024, { gpa: 0x10_0000, windows: 2 });
const { memory } = ram;
const middle = ram.gpa + 32 * 1024;

test("GuestMemory.hvaOf() finds a range inside a window", () => {
  assert.is(memory.hvaOf(ram.gpa, 1), ram.hva(ram.gpa));
  assert.is(memory.hvaOf(ram.end - 16, 16), ram.hva(ram.end - 16));
});

test("GuestMemory.hvaOf() lets a range cross into a window that continues it", () => {
  assert.is(memory.hvaOf(middle - 8, 16), ram.hva(middle - 8));
  assert.is(memory.hvaOf(ram.gpa, ram.bytes), ram.hva(ram.gpa));
});

test("GuestMemory.hvaOf() refuses what begins, ends or lies outside RAM", () => {
  assert.is(memory.hvaOf(ram.gpa - 1, 2), NOT_RAM);
  assert.is(memory.hvaOf(ram.end - 1, 2), NOT_RAM);
  assert.is(memory.hvaOf(ram.end, 1), NOT_RAM);
  assert.is(memory.hvaOf(0, 1), NOT_RAM);
  assert.is(memory.hvaOf(ram.gpa, 0xffff_ffff), NOT_RAM);
  assert.is(memory.hvaOf(NOT_RAM, 1), NOT_RAM);
});

test("GuestMemory.hvaOf() refuses a range over windows that are adjacent in the guest only", () => {
  const high = Mapping.anonymous(8192);
  const [first, second] = [high.view.buffer.slice(0, 4096), high.view.buffer.slice(4096)];
  const split = new GuestMemory([
    { gpa: 0x1000, hva: 0x7000_0000, bytes: 4096, buffer: second },
    { gpa: 0, hva: 0x5000_0000, bytes: 4096, buffer: first },
  ]);
  assert.is(split.hvaOf(4095, 1), 0x5000_0fff);
  assert.is(split.hvaOf(4096, 1), 0x7000_0000);
  assert.is(split.hvaOf(4095, 2), NOT_RAM);
  high.close();
});

test("GuestMemory reads and writes little-endian, across windows as well", () => {
  for (const at of [ram.gpa, middle - 3, middle - 2, middle - 1]) {
    memory.setU32(at, 0x8765_4321);
    assert.equal([...ram.at(at, 4)], [0x21, 0x43, 0x65, 0x87]);
    assert.is(memory.u32(at), 0x8765_4321);
    memory.setU16(at, 0xbeef);
    assert.is(memory.u16(at), 0xbeef);
    assert.is(memory.u32(at), 0x8765_beef);
  }
});

test("GuestMemory.loadWords() reads a descriptor, aligned or not, across windows as well", () => {
  const words = new Uint32Array(4);
  for (const at of [ram.gpa, ram.gpa + 2, middle - 12, middle - 7, ram.end - 16]) {
    for (let i = 0; i < 4; i += 1) memory.setU32(at + 4 * i, 0x8000_0001 * (i + 1));
    memory.loadWords(at, words);
    assert.equal([...words], [0x8000_0001, 2, 0x8000_0003, 4]);
  }
});

test("addressOf() takes 2^53 and more for what it is", () => {
  assert.is(addressOf(0xffff_ffff, 0x001f_ffff), Number.MAX_SAFE_INTEGER);
  assert.is(addressOf(0, 0x0020_0000), NOT_RAM);
  assert.is(addressOf(0xffff_ffff, 0xffff_ffff), NOT_RAM);
});

test("GuestMemory.storeIndex() and loadIndex() are 16 bits wide", () => {
  memory.setU32(middle, 0x1111_2222);
  memory.storeIndex(middle, 0xfffe);
  assert.is(memory.loadIndex(middle), 0xfffe);
  assert.is(memory.u32(middle), 0x1111_fffe);
});

test("GuestMemory asserts that what it is made to access is RAM", () => {
  assert.throws(() => memory.u8(ram.end), /not RAM/);
  assert.throws(() => memory.setU32(ram.end - 2, 1), /not RAM/);
});

test("GuestMemory refuses windows that overlap", () => {
  const buffer = new ArrayBuffer(8192);
  const windows = [0, 4096].map((gpa) => ({ gpa, hva: 0, bytes: 8192, buffer }));
  assert.throws(() => new GuestMemory(windows), /overlap/);
});

test("gpa() asserts an integer below 2^53", () => {
  assert.is(gpa(0xd000_0000), 0xd000_0000);
  assert.throws(() => gpa(2 ** 53));
  assert.throws(() => gpa(-1));
  assert.throws(() => gpa(0.5));
});

test.after(() => ram.close());
test.run();
