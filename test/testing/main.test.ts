import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileDevice } from "../../host/author/device.js";
import { clock, DeviceTrap, endless, file, openDevice, random } from "../../host/testing/main.js";
import { builtDevice, manifest, moduleWith, pattern } from "../runtime/support.js";
import { ROOT } from "../support/sources.js";

/** errno of WASI preview 1. */
const EFBIG = 22;

/** Compiles a device whose serve() has the body `serve`. */
async function compiled(serve: string, { top = "", members = "", features = "0" } = {}) {
  const source = `
    import { capability, Chain, Device, log, logLine, option } from "bulkhead/sdk";
    import { register, Rights } from "bulkhead/sdk";
    ${top}
    class Test extends Device {
      constructor() { super(42, [8, 4], ${features}); }
      ${members}
      serve(queue: u32, chain: Chain): void { ${serve} }
    }
    register(new Test());`;
  return (await compileDevice("/nowhere/test.ts", { source })).module;
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

test("request() gives the device what the driver wrote and returns its answer", async () => {
  const module = await compiled(`
    chain.write<u8>(<u8>queue);
    while (chain.readable > 0) chain.write<u8>(chain.read<u8>() + 1);`);
  const device = openDevice(module);
  device.negotiate();
  assert.equal(device.request(1, Uint8Array.of(1, 2, 3), 100), Uint8Array.of(1, 2, 3, 4));
  assert.is(textOf(device.request(0, "abc", 4)), "\0bcd");
});

test("request() takes requests of any size that a device sees, and many of them", async () => {
  const module = await compiled("while (chain.readable > 0) chain.write<u8>(chain.read<u8>());");
  const device = openDevice(module);
  device.negotiate();
  const large = pattern(1024 * 1024);
  for (let i = 0; i < 20; i++) assert.equal(device.request(0, large, large.length), large);
  assert.equal(device.request(0), new Uint8Array());
});

test("negotiate() accepts what is offered, or what the test says", async () => {
  const members = "private seen: u64 = 99; activate(features: u64): void { this.seen = features; }";
  const device = openDevice(
    await compiled("chain.write<u64>(this.seen);", { members, features: "0xc000000000000005" }),
  );
  const seen = () => new DataView(device.request(0, "", 8).buffer).getBigUint64(0, true);
  assert.is(device.negotiate(), 0xc000000000000005n);
  assert.is(seen(), 0xc000000000000005n);
  assert.is(device.negotiate(4n), 4n);
  assert.is(seen(), 4n);
});

test("reset() reaches the device, which then takes no request", async () => {
  const members = "private resets: u8 = 0; reset(): void { this.resets++; }";
  const device = openDevice(await compiled("chain.write<u8>(this.resets);", { members }));
  assert.throws(() => device.request(0, "", 1), /queue 0: negotiate\(\) first/);
  device.negotiate();
  assert.equal(device.request(0, "", 1), Uint8Array.of(0));
  device.reset();
  assert.throws(() => device.request(0, "", 1), /queue 0: negotiate\(\) first/);
  device.negotiate();
  assert.equal(device.request(0, "", 1), Uint8Array.of(1));
  assert.throws(() => device.request(2), /queue 2: it has no such queue/);
});

test("post() returns what is done when the device has answered", () => {
  const device = openDevice(builtDevice("rng"), { source: file("entropy") });
  device.negotiate();
  const posted = device.post(0, "", 3);
  assert.ok(posted.done);
  assert.is(textOf(posted.reply), "ent");
});

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

test("openDevice() refuses what bulkhead run would refuse, in the same words", () => {
  const rng = builtDevice("rng");
  assert.throws(() => openDevice(rng), /source is missing/);
  assert.throws(() => openDevice(rng, { source: file(), image: file() }), /it asks for source/);
  assert.throws(() => openDevice(rng, { source: file("", "rw") }), /source with write/);
  assert.throws(() => openDevice(Uint8Array.of(1, 2, 3)), /it is no WebAssembly module/);
});

test("DeviceTrap is thrown when the device traps, and again by whatever follows", () => {
  const device = openDevice(builtDevice("rng"), { source: file("") });
  device.negotiate();
  const isTrap = (error: Error) =>
    error instanceof DeviceTrap && /^serve: unreachable/.test(error.message);
  assert.throws(() => device.request(0, "", 5), isTrap);
  assert.throws(() => device.request(0, "", 5), isTrap);
  assert.throws(() => device.negotiate(), isTrap);
  assert.match(device.log.at(-1) ?? "", /^serve: unreachable/);
});

test("DeviceTrap has the places in the author's source where the module is a debug build", () => {
  const module = path.join(ROOT, "dist/devices/rng.debug.wasm");
  const device = openDevice(module, { source: file("") });
  device.negotiate();
  const isTrap = (error: Error) =>
    error instanceof DeviceTrap &&
    /^devices-as\/rng\.ts:\d+:\d+ \(rng\/Rng#serve\)$/.test(error.frames[0] ?? "") &&
    error.message === ["serve: unreachable", ...error.frames].join("\n    at ");
  assert.throws(() => device.request(0, "", 5), isTrap);
});

test("DeviceTrap has functions alone without a map, and nothing of a release", () => {
  const framesOf = (module: Uint8Array) => {
    const device = openDevice(module, { source: file("") });
    device.negotiate();
    try {
      return device.request(0, "", 5);
    } catch (error) {
      return (error as DeviceTrap).frames;
    }
  };
  assert.is(framesOf(builtDevice("rng.debug"))[0], "rng/Rng#serve");
  assert.equal(framesOf(builtDevice("rng")), []);
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

/** Two bytes of config space at 96; what the driver writes there is doubled. */
const CONFIGURABLE = {
  initialize: `(func (export "_initialize")
    (i32.store (i32.const 80) (i32.const 96)) (i32.store16 (i32.const 96) (i32.const 0x0201)))`,
  attention: '(func (export "attention") (result i32) i32.const 64)',
  configure: `(func (export "configure") (param i32 i32 i32)
    (i32.store8 (i32.add (i32.const 96) (local.get 0)) (i32.shl (local.get 2) (i32.const 1))))`,
};

test("readConfig() and writeConfig() are the driver's, and each change is counted", () => {
  const device = openDevice(moduleWith(CONFIGURABLE, manifest({ config: 2 })));
  assert.equal(device.readConfig(), Uint8Array.of(1, 2));
  device.negotiate();
  assert.is(device.configChanges, 0);
  device.writeConfig(1, 21);
  assert.equal(device.readConfig(), Uint8Array.of(1, 42));
  assert.equal(device.readConfig(1, 1), Uint8Array.of(42));
  assert.is(device.configChanges, 1);
  device.writeConfig(1, 21);
  assert.is(device.configChanges, 1);
  device.writeConfig(2, 1);
  assert.match(device.log.at(-1) ?? "", /^driver bug: wrote 1 bytes at 2 of a config space of 2/);
  for (let value = 0; value < 5_000; value++) device.writeConfig(0, value);
  assert.is(device.configChanges, 5_001);
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

test("log has each line that the device says, however many", async () => {
  const top = "let count: u32 = 0;";
  const serve = 'for (let i = 0; i < 500; i++) logLine().text("line ").number(count++).end();';
  const device = openDevice(await compiled(serve, { top }));
  device.negotiate();
  device.request(0);
  assert.is(device.log.length, 500);
  assert.is(device.log.at(-1), "line 499");
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

test("openDevice() sets options as the command line does", async () => {
  const top = 'const rate = option.number("rate", 7);';
  const module = await compiled("chain.write<u64>(rate.value);", { top });
  const rateOf = (options: Parameters<typeof openDevice>[2]) => {
    const device = openDevice(module, {}, options);
    device.negotiate();
    return new DataView(device.request(0, "", 8).buffer).getBigUint64(0, true);
  };
  assert.is(rateOf({}), 7n);
  assert.is(rateOf({ rate: 12 }), 12n);
  assert.is(rateOf({ rate: "2K" }), 2048n);
  assert.throws(() => rateOf({ rate: "fast" }), /Cannot set rate of device test: "fast"/);
  assert.throws(() => rateOf({ speed: 1 }), /its options are rate/);
});

test("bulkhead/testing can be imported from an installed package, with its types", () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-testing-"));
  try {
    fs.mkdirSync(path.join(directory, "node_modules"));
    fs.symlinkSync(ROOT, path.join(directory, "node_modules", "bulkhead"));
    const program = `
      import { file, openDevice, type Posted } from "bulkhead/testing";
      const device = openDevice("${ROOT}dist/devices/rng.wasm", { source: file("entropy") });
      device.negotiate();
      const posted: Posted = device.post(0, "", 3);
      console.log(new TextDecoder().decode(posted.reply));`;
    fs.writeFileSync(path.join(directory, "program.mts"), program);
    const types = ["--types", "node", "--typeRoots", path.join(ROOT, "node_modules/@types")];
    const options = ["--strict", "--module", "nodenext", "--target", "es2022", ...types];
    const tsc = path.join(ROOT, "node_modules/.bin/tsc");
    execFileSync(tsc, [...options, "program.mts"], { cwd: directory, stdio: "pipe" });
    const output = execFileSync(process.execPath, ["program.mjs"], { cwd: directory });
    assert.is(output.toString(), "ent\n");
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
});

test.run();
