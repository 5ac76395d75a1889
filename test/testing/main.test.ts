import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DeviceTrap, file, openDevice } from "../../host/testing/main.js";
import { builtDevice, manifest, moduleWith, pattern } from "../runtime/support.js";
import { ROOT } from "../support/sources.js";
import { compiled, textOf } from "./support.js";

test("request() gives the device what the driver wrote and returns its answer", async () => {
  const module = await compiled(`
    chain.write<u8>(<u8>queue);
    while (chain.readable > 0) chain.write<u8>(chain.read<u8>() + 1);`);
  const device = openDevice(module);
  device.negotiate();
  assert.equal(device.request(1, Uint8Array.of(1, 2, 3), 100), Uint8Array.of(1, 2, 3, 4));
  assert.is(textOf(device.request(0, "abc", 4)), "\0bcd");
});

test("request() takes a Buffer for the bytes that are in it", async () => {
  const device = openDevice(await compiled("chain.write<u8>(chain.read<u8>());"));
  device.negotiate();
  assert.is(textOf(device.request(0, Buffer.from("abc"), 1)), "a");
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

test("log has each line that the device says, however many", async () => {
  const top = "let count: u32 = 0;";
  const serve = 'for (let i = 0; i < 500; i++) logLine().text("line ").number(count++).end();';
  const device = openDevice(await compiled(serve, { top }));
  device.negotiate();
  device.request(0);
  assert.is(device.log.length, 500);
  assert.is(device.log.at(-1), "line 499");
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
