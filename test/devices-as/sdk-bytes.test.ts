// What the SDK has for formats of files: big-endian numbers, arrays, files at an offset, and words
// for what goes wrong.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileDevice } from "../../host/author/device.js";
import { type DeviceTrap, file, openDevice } from "../../host/testing/main.js";

async function compile(serve: string, { start = "", features = "0" } = {}): Promise<Uint8Array> {
  const source = `
    import {
      capability, Chain, copyBytes, Device, errnoName, getBE, log, logLine, Need, register, Rights,
      setBE,
    } from "bulkhead/sdk";
    const image = capability.file("image", Rights.Read | Rights.Write, Need.Optional);
    const bytes = new StaticArray<u8>(16);
    class Test extends Device {
      constructor() { super(42, [8], ${features}); }
      start(): void { ${start} }
      serve(queue: u32, chain: Chain): void { ${serve} }
    }
    register(new Test());`;
  return (await compileDevice("/nowhere/test.ts", { source })).module;
}

/** What a device with this serve() answers to one request. */
async function reply(serve: string, grants = {}): Promise<number[]> {
  const device = openDevice(await compile(serve), grants);
  device.negotiate();
  return [...device.request(0, "", 64)];
}

test("setBE() and getBE() have the largest digits first", async () => {
  const serve = `
    setBE<u16>(bytes, 0, 0x0102); setBE<u32>(bytes, 2, 0x03040506);
    setBE<u64>(bytes, 6, 0x0708090a0b0c0d0e); chain.writeOf(bytes, 0, 16);
    chain.write<u16>(getBE<u16>(bytes, 1)); chain.write<u64>(getBE<u64>(bytes, 8));`;
  const expected = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0, 0];
  assert.equal(await reply(serve), [...expected, 3, 2, 0, 0, 14, 13, 12, 11, 10, 9]);
});

test("getBE(), setBE() and copyBytes() trap beyond the end of an array", async () => {
  for (const wrong of [
    "getBE<u64>(bytes, 9)",
    "getBE<u16>(bytes, 0xffffffff)",
    "setBE<u32>(bytes, 13, 1)",
    "copyBytes(bytes, 8, 9, bytes, 0)",
    "copyBytes(bytes, 0, 9, bytes, 8)",
  ]) {
    const device = openDevice(await compile(`${wrong};`));
    device.negotiate();
    assert.throws(() => device.request(0, "", 1), /unreachable/, wrong);
  }
});

test("copyBytes() copies, also where both overlap", async () => {
  const serve = `for (let i = 0; i < 16; i++) bytes[i] = <u8>i;
    copyBytes(bytes, 0, 4, bytes, 2); chain.writeOf(bytes, 0, 8);`;
  assert.equal(await reply(serve), [0, 1, 0, 1, 2, 3, 6, 7]);
});

test("File.readBytesAt() reads until the file ends, and writeBytesAt() writes there", async () => {
  const image = file("0123456789");
  const serve = `
    chain.write<u8>(<u8>image.readBytesAt(4, bytes, 1, 8)); chain.write<u8>(<u8>image.errno);
    chain.writeOf(bytes, 0, 9); chain.write<u8>(<u8>image.writeBytesAt(8, bytes, 1, 4));`;
  const expected = [6, 0, 0, ...Buffer.from("456789"), 0, 0, 4];
  assert.equal(await reply(serve, { image }), expected);
  assert.is(Buffer.from(image.bytes).toString(), "012345674567");
});

test("File tells whether it is granted, and whether it may be written", async () => {
  const serve = "chain.write<u8>(image.granted ? 1 : 0); chain.write<u8>(image.writable ? 1 : 0);";
  assert.equal(await reply(serve), [0, 0]);
  assert.equal(await reply(serve, { image: file("x", "ro") }), [1, 0]);
  const image = file("x", "rw");
  assert.equal(await reply(serve, { image }), [1, 1]);
  assert.is(image.bytes.length, 1, "asking does not write");
});

test("Line.utf8() adds bytes, and errnoName() says what went wrong", async () => {
  const serve = `setBE<u32>(bytes, 2, 0x61c3a462);
    logLine("<").utf8(bytes, 2, 4).text("> ").text(errnoName(51)).end(); log(errnoName(9999));`;
  const device = openDevice(await compile(serve));
  device.negotiate();
  device.request(0, "", 1);
  assert.equal(device.log, ["<aäb> ENOSPC: the host's disk is full", "another error"]);
});

test("Line.refuse() ends the device with a reason, in a release build, too", async () => {
  const module = await compile("", { start: 'logLine("no ").number(7).refuse();' });
  try {
    openDevice(module);
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /^start: unreachable/);
    assert.is((error as DeviceTrap).log[0], "no 7");
  }
});

test("Device.withhold() takes features back that the manifest promises", async () => {
  const features = "0x8000000000000007";
  const module = await compile("", { features, start: "this.withhold(2);" });
  const device = openDevice(module);
  assert.is(BigInt(device.manifest.features), 0x8000000000000007n);
  assert.is(device.negotiate(), 0x8000000000000005n);
  for (const wrong of ["8", "0x8000000000000000"]) {
    const start = `this.withhold(${wrong});`;
    const bad = await compile("", { features, start });
    assert.throws(() => openDevice(bad), /start: unreachable/);
  }
});

test.run();
