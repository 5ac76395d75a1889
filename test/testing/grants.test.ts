// What a test grants a device: the files, clocks and peers of bulkhead/testing.

import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  clock,
  endless,
  file,
  listener,
  openDevice,
  random,
  socket,
  tap,
  tty,
} from "../../host/testing/main.js";
import { builtDevice, manifest, moduleWith } from "../runtime/support.js";
import { compiled, textOf } from "./support.js";

/** errno of WASI preview 1. */
const EFBIG = 22;

test("file() is read from its position, and sees what the test puts into it", () => {
  const source = file("hello, guest");
  const device = openDevice(builtDevice("rng"), { source });
  device.negotiate();
  assert.is(textOf(device.request(0, "", 5)), "hello");
  source.bytes = new TextEncoder().encode("HELLO, GUEST");
  assert.is(textOf(device.request(0, "", 100)), ", GUEST");
});

test("endless() has no end, and the seed decides every byte", () => {
  const bytesOf = (seed: number) => {
    const device = openDevice(builtDevice("rng"), { source: endless(seed) });
    device.negotiate();
    return [device.request(0, "", 65536), device.request(0, "", 1)];
  };
  assert.equal(bytesOf(1), bytesOf(1));
  assert.not.equal(bytesOf(1), bytesOf(2));
  assert.is(bytesOf(1)[0]?.length, 65536);
});

/** Writes a request at the offset in its first 8 bytes; answers errno and how many it wrote. */
function writer(): Uint8Array {
  const imports = `(import "wasi_snapshot_preview1" "fd_pwrite"
    (func $fd_pwrite (param i32 i32 i32 i64 i32) (result i32)))`;
  const serve = `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    (i32.store (i32.const 16) (i32.add (local.get 1) (i32.const 8)))
    (i32.store (i32.const 20) (i32.sub (local.get 2) (i32.const 8)))
    (i32.store (local.get 3) (call $fd_pwrite (i32.const 3) (i32.const 16) (i32.const 1)
      (i64.load (local.get 1)) (i32.const 24)))
    (i32.store offset=4 (local.get 3) (i32.load (i32.const 24)))
    (i32.const 8))`;
  const capability = { name: "log", kind: "file", rights: ["write"], required: true } as const;
  const capabilities = [{ ...capability, rights: [...capability.rights] }];
  return moduleWith({ imports, serve }, manifest({ capabilities }));
}

test("file() grows where the device writes, up to FILE_BYTES_MAX", () => {
  const log = file("abc");
  const device = openDevice(writer(), { log });
  device.negotiate();
  const write = (offset: bigint, text: string) => {
    const request = new Uint8Array(8 + text.length);
    new DataView(request.buffer).setBigUint64(0, offset, true);
    request.set(new TextEncoder().encode(text), 8);
    return [...new Int32Array(device.request(0, request, 8).slice().buffer)];
  };
  assert.equal(write(5n, "xyz"), [0, 3]);
  assert.is(textOf(log.bytes), "abc\0\0xyz");
  assert.equal(write(1n, "B"), [0, 1]);
  assert.is(textOf(log.bytes), "aBc\0\0xyz");
  assert.is(write(2n ** 52n, "far")[0], EFBIG);
  assert.is(textOf(log.bytes), "aBc\0\0xyz");
});

test("file() has a size, which a device may change, and an end to append to", async () => {
  const top = `
    const image = capability.file("image", Rights.Read | Rights.Write);
    const journal = capability.file("log", Rights.Append);
    const bytes = new StaticArray<u8>(2);`;
  const serve = `
    chain.write<u64>(image.size);
    chain.write<u8>(image.setSize(5) && image.sync() ? 1 : 0);
    chain.write<u64>(image.size);
    chain.write<u8>(image.setSize(1 << 40) ? 1 : 0);
    bytes[0] = 33;
    journal.writeBytes(bytes, 0, 2);`;
  const image = file("abc");
  const log = file("log");
  const device = openDevice(await compiled(serve, { top }), { image, log });
  device.negotiate();
  assert.equal([...device.request(0, "", 18)].join(), "3,0,0,0,0,0,0,0,1,5,0,0,0,0,0,0,0,0");
  assert.is(textOf(image.bytes), "abc\0\0");
  log.bytes = "new";
  device.request(0, "", 18);
  assert.is(textOf(log.bytes), "new!\0");
});

test("random() gives bytes that follow from its seed", async () => {
  const top = 'const dice = capability.random("dice");';
  const module = await compiled("chain.write<u64>(dice.next<u64>());", { top });
  const rolled = (seed: number) => {
    const device = openDevice(module, { dice: random(seed) });
    device.negotiate();
    return [device.request(0, "", 8), device.request(0, "", 8)];
  };
  assert.equal(rolled(1), rolled(1));
  assert.not.equal(rolled(1)[0], rolled(1)[1]);
  assert.not.equal(rolled(1), rolled(2));
});

test("clock() stands still until the test lets time pass", async () => {
  const top = 'const time = capability.clock("time");';
  const module = await compiled("chain.write<u64>(time.now());", { top });
  const time = clock(5n);
  const device = openDevice(module, { time });
  device.negotiate();
  const now = () => new DataView(device.request(0, "", 8).buffer).getBigUint64(0, true);
  assert.equal([now(), now()], [5n, 5n]);
  time.advance(2_000_000_000);
  assert.is(now(), 2_000_000_005n);
});

/** Lets each request wait a second, then answers with the time. */
const LATER = {
  top: `
    const time = capability.clock("time");
    const SECOND: u64 = 1_000_000_000;`,
  members: `
    private due: u64 = 0;
    wake(): void { log("woken"); }`,
  serve: `
    if (this.due == 0) this.due = time.now() + SECOND;
    if (time.now() < this.due) { time.wakeAt(this.due); chain.wait(); return; }
    this.due = 0;
    chain.write<u64>(time.now());`,
};

test("post() waits until the test lets the time come that the device asked for", async () => {
  const time = clock(7n);
  const device = openDevice(await compiled(LATER.serve, LATER), { time });
  device.negotiate();
  const posted = device.post(0, "", 8);
  time.advance(999_999_999);
  assert.not.ok(posted.done);
  assert.throws(() => posted.reply, /not answered/);
  assert.equal(device.log, []);
  time.advance(1);
  assert.ok(posted.done);
  assert.is(new DataView(posted.reply.buffer).getBigUint64(0, true), 1_000_000_007n);
  assert.equal(device.log, ["woken"]);
});

const TALK = `
  while (chain.readable > 0) { bytes[0] = chain.read<u8>(); peer.writeBytes(bytes, 0, 1); }
  while (chain.writable > 0 && peer.readBytes(bytes, 0, 1) == 1) chain.write<u8>(bytes[0]);
  if (chain.writable > 0) chain.write<u8>(<u8>peer.errno);`;

test("socket() is a peer that the device reads and writes", async () => {
  const top = `const peer = capability.unix("peer", Rights.Connect);
    const bytes = new StaticArray<u8>(1);`;
  const peer = socket();
  const device = openDevice(await compiled(TALK, { top }), { peer });
  device.negotiate();
  peer.push("hello");
  assert.is(textOf(device.request(0, "ping", 3)), "hel");
  assert.is(textOf(peer.take()), "ping");
  assert.equal(peer.take(), new Uint8Array());
  assert.is(textOf(device.request(0, "", 3)), "lo\u0006"); // EAGAIN
  peer.end();
  assert.equal(device.request(0, "", 1), Uint8Array.of(0)); // the end
});

test("tty() is a terminal, with the test at its keyboard", async () => {
  const top = `const peer = capability.tty("console", Rights.Read | Rights.Write);
    const bytes = new StaticArray<u8>(1);`;
  const console = tty();
  const device = openDevice(await compiled(TALK, { top }), { console });
  device.negotiate();
  console.push("ls");
  assert.is(textOf(device.request(0, "$ ", 2)), "ls");
  assert.is(textOf(console.take()), "$ ");
});

test("tap() moves frames, one a call, and cuts what has no room", async () => {
  const top = `const link = capability.tap("link");
    const bytes = new StaticArray<u8>(4);`;
  const serve = `
    link.writeBytes(bytes, 0, chain.readable);
    const count = link.readBytes(bytes, 0, 4);
    for (let i: u32 = 0; i < count; i++) chain.write<u8>(bytes[i]);`;
  const link = tap();
  const device = openDevice(await compiled(serve, { top }), { link });
  device.negotiate();
  link.push(Uint8Array.of(1, 2, 3, 4, 5));
  link.push(Uint8Array.of(6));
  assert.equal(device.request(0, "a", 9), Uint8Array.of(1, 2, 3, 4));
  assert.equal(device.request(0, "bcd", 9), Uint8Array.of(6));
  assert.equal(device.request(0, "", 9), new Uint8Array());
  assert.equal(
    link.take().map(({ length }) => length),
    [1, 3, 0],
  );
});

test("listener() is connected to by one after the other", async () => {
  const top = `const peer = capability.unix("peer", Rights.Listen);
    const bytes = new StaticArray<u8>(1);`;
  const serve = `
    if (queue == 1) { peer.close(); return; }
    if (!peer.accept()) { chain.write<u8>(63); return; }
    ${TALK}`;
  const peer = listener();
  const device = openDevice(await compiled(serve, { top }), { peer });
  device.negotiate();
  assert.is(textOf(device.request(0, "", 1)), "?");
  const [first, second] = [peer.connect(), peer.connect()];
  first.push("1");
  second.push("2");
  assert.is(textOf(device.request(0, "a", 1)), "1");
  assert.not.ok(first.closed);
  device.request(1);
  assert.ok(first.closed);
  assert.is(textOf(device.request(0, "b", 1)), "2");
  assert.equal([textOf(first.take()), textOf(second.take())], ["a", "b"]);
});

test("clock() tells the time of day only if it has one", async () => {
  const top = 'const time = capability.clock("time");';
  const module = await compiled("chain.write<u64>(time.realtime());", { top });
  const device = openDevice(module, { time: clock(0n, 1_000n) });
  device.negotiate();
  const reply = device.request(0, "", 8);
  assert.is(new DataView(reply.buffer).getBigUint64(0, true), 1_000n);
  const without = openDevice(module, { time: clock() });
  without.negotiate();
  assert.throws(() => without.request(0, "", 8), /unreachable/);
});

test("request() does not wait: it says that the device does", async () => {
  const device = openDevice(await compiled(LATER.serve, LATER), { time: clock() });
  device.negotiate();
  assert.throws(() => device.request(0, "", 8), /queue 0 wait: use post\(\)/);
});

test("a device that is woken to no end fails its test", async () => {
  const serve = "time.wakeAt(1); chain.wait();";
  const device = openDevice(await compiled(serve, { top: LATER.top }), { time: clock(5n) });
  device.negotiate();
  assert.throws(() => device.post(0, "", 8), /woken 10000 times/);
});

test.run();
