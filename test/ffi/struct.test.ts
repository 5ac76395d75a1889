import { test } from "uvu";
import * as assert from "uvu/assert";
import { IO, IOR, IOW, IOWR } from "../../host/ffi/ioctl.js";
import { array, bytes, s32, struct, u8, u16, u32, u64 } from "../../host/ffi/struct.js";

test("struct() aligns each field to its own size", () => {
  const type = struct("mixed", 24, { a: u8, b: u16, c: u32, d: u8, e: u64 });
  assert.equal(type.offsets, { a: 0, b: 2, c: 4, d: 8, e: 16 });
});

test("struct() pads its size to its largest alignment", () => {
  assert.is(struct("tail", 16, { a: u64, b: u8 }).size, 16);
});

test("struct() refuses a size that its fields do not add up to", () => {
  assert.throws(() => struct("short", 4, { a: u64 }), /short is 8 bytes, expected 4/);
});

test("Struct.encode() and read() are inverse, nested fields included", () => {
  const inner = struct("inner", 8, { x: s32, y: u32 });
  const outer = struct("outer", 32, { head: u64, pair: array(inner, 2), tail: bytes(8) });
  const value = {
    head: 0x1122334455667788n,
    pair: [
      { x: -1, y: 2 },
      { x: 3, y: 0xffffffff },
    ],
    tail: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
  };
  const encoded = outer.encode(value);
  assert.is(encoded[0], 0x88);
  assert.equal(outer.read(new DataView(encoded.buffer), 0), value);
});

test("Struct.write() leaves fields alone that it is not given", () => {
  const type = struct("pair", 8, { a: u32, b: u32 });
  const view = new DataView(new ArrayBuffer(8));
  type.write(view, 0, { a: 1, b: 2 });
  type.write(view, 0, { b: 3 });
  assert.equal(type.read(view, 0), { a: 1, b: 3 });
});

test("array() refuses more values than it has elements", () => {
  assert.throws(() => array(u8, 1).write(new DataView(new ArrayBuffer(1)), 0, [1, 2]), /2 values/);
});

test("ioctl numbers carry direction and size (asm-generic/ioctl.h)", () => {
  assert.is(IO(0xae, 0x80), 0xae80);
  assert.is(IOW(0xae, 0x46, { size: 32 }), 0x4020ae46);
  assert.is(IOR(0xae, 0x81, { size: 144 }), 0x8090ae81);
  assert.is(IOWR(0xae, 0x05, { size: 8 }), 0xc008ae05);
});

test.run();
