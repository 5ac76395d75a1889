// Config spaces as authors declare them, read and written as a driver does.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileDevice } from "../../host/author/device.js";
import { GrantedFiles } from "../../host/runtime/wasi_snapshot_preview1.js";
import { DeviceTrap, type DeviceUnderTest, openDevice } from "../../host/testing/main.js";
import { CONFIG, REPLIES } from "../../host/wire/format.js";
import { Conversation } from "../runtime/support.js";

interface Parts {
  /** Declarations at the top level. */
  top: string;
  /** Methods besides serve(). */
  members?: string;
  serve?: string;
}

function compile({ top, members = "", serve = "" }: Parts) {
  const source = `
    import { capability, Chain, configBytes, configSpace, Device, register } from "bulkhead/sdk";
    ${top}
    class Test extends Device {
      constructor() { super(42, [8]); }
      ${members}
      serve(queue: u32, chain: Chain): void { ${serve} }
    }
    register(new Test());`;
  return compileDevice("/nowhere/test.ts", { source });
}

async function device(parts: Parts): Promise<DeviceUnderTest> {
  return openDevice((await compile(parts)).module);
}

/** Asserts that the device does not compile, or does not describe itself, and why. */
async function rejected(top: string, message: RegExp): Promise<void> {
  assert.match(await compile({ top }).then(String, String), message);
}

function numberIn(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

// As virtio-blk has it (virtio v1.2 §5.2.4), up to writeback.
const BLK = `
  @unmanaged
  class BlkConfig {
    capacity: u64;
    size_max: u32;
    seg_max: u32 = 62;
    cylinders: u16;
    heads: u8;
    sectors: u8;
    blk_size: u32 = 512;
    physical_block_exp: u8;
    alignment_offset: u8;
    min_io_size: u16;
    opt_io_size: u32;
    writeback: u8;
  }
  const config = configSpace<BlkConfig>();`;

test("configSpace(): a disk's capacity and geometry, and a cache mode to be set", async () => {
  const blk = await device({
    top: BLK,
    members: `
      start(): void { config.capacity = 0x1_2345_6789; }
      configure(offset: u32, bytes: u32): bool {
        return offset == offsetof<BlkConfig>("writeback") && bytes == 1 && config.writeback <= 1;
      }`,
    serve: "chain.write<u64>(config.capacity); chain.write<u8>(config.writeback);",
  });
  assert.is(blk.manifest.config, 33);
  assert.is(numberIn(blk.readConfig(0, 8)), 0x1_2345_6789n);
  assert.is(numberIn(blk.readConfig(12, 4)), 62n);
  assert.is(numberIn(blk.readConfig(20, 4)), 512n);
  blk.negotiate();
  blk.writeConfig(32, 1);
  assert.is(numberIn(blk.readConfig(32)), 1n);
  for (const [offset, bytes] of [
    [0, 4],
    [0, 1],
    [31, 2],
    [29, 4],
    [32, 1],
  ] as const) {
    blk.writeConfig(offset, 0xffff_ffff, bytes);
  }
  assert.is(numberIn(blk.readConfig(0, 8)), 0x1_2345_6789n);
  assert.equal([...blk.request(0, "", 9)], [0x89, 0x67, 0x45, 0x23, 1, 0, 0, 0, 1]);
  assert.equal(blk.log, []);
});

// As virtio-console has it (§5.3.4).
const CONSOLE = `
  @unmanaged
  class ConsoleConfig {
    cols: u16;
    rows: u16;
    max_nr_ports: u32;
    emerg_wr: u32;
  }
  const config = configSpace<ConsoleConfig>();`;

test("configSpace(): a console's size may change, and its emergency write is a port", async () => {
  const console = await device({
    top: `${CONSOLE} let written = "";`,
    members: `
      private said: u32 = 0;
      private last: u32 = 0;
      start(): void { config.cols = 80; config.rows = 25; config.max_nr_ports = 1; }
      configure(offset: u32, bytes: u32): bool {
        if (offset != offsetof<ConsoleConfig>("emerg_wr") || bytes != 4) return false;
        this.said++;
        this.last = config.emerg_wr;
        return false; // it is a port, and nothing to read back
      }`,
    serve: `
      if (chain.readable > 0) { config.cols = chain.read<u16>(); config.rows = chain.read<u16>(); }
      else { chain.write<u32>(this.said); chain.write<u32>(this.last); }`,
  });
  assert.is(console.manifest.config, 12);
  const size = () => [console.readConfig(0, 2), console.readConfig(2, 2)].map(numberIn);
  assert.equal(size(), [80n, 25n]);
  console.negotiate();
  for (const character of "hi") console.writeConfig(8, character.charCodeAt(0), 4);
  console.writeConfig(8, 0x41, 1);
  const said = () => [...console.request(0, "", 8)];
  assert.equal(said(), [2, 0, 0, 0, "i".charCodeAt(0), 0, 0, 0]);
  assert.is(numberIn(console.readConfig(8, 4)), 0n);
  assert.is(console.configChanges, 0);
  console.request(0, Uint8Array.of(132, 0, 50, 0));
  assert.equal(size(), [132n, 50n]);
  assert.is(console.configChanges, 1);
  console.request(0, Uint8Array.of(132, 0, 50, 0));
  assert.is(console.configChanges, 1, "nothing changed");
});

test("A device tells its config space when it changes, and not at each request", async () => {
  const { module } = await compile({
    top: CONSOLE,
    serve: "if (chain.readable > 0) config.rows = chain.read<u8>();",
  });
  const conversation = Conversation.started(module);
  const typesAfter = (readable: number[]) => {
    conversation.send([{ id: 1, readable: Uint8Array.from(readable) }]);
    return conversation.receive().map(({ type }) => type);
  };
  assert.equal(typesAfter([]), [REPLIES]);
  assert.equal(typesAfter([7]), [REPLIES, CONFIG]);
  assert.equal(typesAfter([]), [REPLIES]);
  assert.equal(typesAfter([7]), [REPLIES]);
});

test("A device tells its config space when it changes it in wake()", async () => {
  const { module, manifest } = await compile({
    top: `${CONSOLE} const clock = capability.clock("now");`,
    members: "wake(): void { config.rows++; }",
    serve: "clock.wakeAt(1);",
  });
  const conversation = Conversation.started(module, new GrantedFiles(manifest, []));
  conversation.ask({ id: 1 });
  conversation.channel.wake(0, true);
  const [told] = conversation.receive();
  assert.is(told?.type, CONFIG);
  assert.equal(told?.config.slice(0, 4), [0, 0, 1, 0]);
});

// As virtio-input has it (§5.8.4): reserved bytes and a union behind the fields.
const INPUT = `
  @unmanaged
  class InputConfig {
    select: u8;
    subsel: u8;
    size: u8;
  }
  const config = configSpace<InputConfig>(8 + 128);
  const u = configBytes(8, 128);`;

const INPUT_MEMBERS = `
  configure(offset: u32, bytes: u32): bool {
    if (offset + bytes > offsetof<InputConfig>("size")) return false;
    u.fill(0);
    config.size = 0;
    if (config.select == 1) config.size = <u8>u.writeText("Tastatur für Öl");
    if (config.select == 0x11) {
      u[config.subsel >> 3] = 1 << (config.subsel & 7);
      config.size = u8(u.length);
    }
    if (config.select == 0x12) { u.write<u32>(4, u.read<u32>(0) + 0xa0b0c0d); config.size = 20; }
    return true;
  }`;

test("configBytes(): an input device says what its selectors ask for", async () => {
  const input = await device({ top: INPUT, members: INPUT_MEMBERS });
  assert.is(input.manifest.config, 136);
  const select = (selector: number, subselector: number) => {
    input.writeConfig(0, selector);
    input.writeConfig(1, subselector);
    return input.readConfig(8, input.readConfig(2, 1)[0]!);
  };
  assert.is(new TextDecoder().decode(select(1, 0)), "Tastatur für Öl");
  assert.is(select(0x11, 30).length, 128);
  assert.equal([...input.readConfig(8, 5)], [0, 0, 0, 1 << 6, 0]);
  assert.equal([...select(0x12, 0)].slice(0, 9), [0, 0, 0, 0, 0x0d, 0x0c, 0x0b, 0x0a, 0]);
  assert.is(select(0, 0).length, 0);
  assert.equal(input.log, []);
});

test("A reset takes back what the driver wrote, and nothing else", async () => {
  const input = await device({
    top: INPUT,
    members: `configure(offset: u32, bytes: u32): bool { return true; }`,
    serve: "u[5] = 55; config.select = 9; if (chain.readable > 0) u[1] = 66;",
  });
  input.negotiate();
  input.writeConfig(8, 0x04030201, 4);
  input.writeConfig(9, 0x77);
  input.request(0);
  assert.equal([...input.readConfig(8, 6)], [1, 0x77, 3, 4, 0, 55]);
  input.reset();
  assert.equal([...input.readConfig(8, 6)], [0, 0, 0, 0, 0, 55]);
  assert.is(numberIn(input.readConfig(0, 1)), 9n);
  input.negotiate();
  input.writeConfig(0, 1);
  input.request(0, "x");
  assert.equal([...input.readConfig(8, 2)], [0, 66]);
  input.writeConfig(0, 1);
  input.reset();
  assert.is(numberIn(input.readConfig(0, 1)), 9n);
  assert.equal([...input.readConfig(8, 2)], [0, 66], "the driver wrote there before another reset");
});

test("A driver may write nothing where the device does not say so", async () => {
  const console = await device({ top: CONSOLE });
  for (let offset = 0; offset < 12; offset += 1) console.writeConfig(offset, 0xff);
  assert.equal(console.readConfig(), new Uint8Array(12));
  console.writeConfig(12, 1);
  console.writeConfig(11, 1, 2);
  assert.equal(console.log, ["driver bug: wrote 1 bytes at 12 of a config space of 12, ignored"]);
});

for (const [what, serve] of [
  ["[]", "chain.write<u8>(u[128]);"],
  ["[] far away", "chain.write<u8>(u[0xffffffff]);"],
  ["[]=", "u[128] = 1;"],
  ["read()", "chain.write<u32>(u.read<u32>(125));"],
  ["write()", "u.write<u64>(0xfffffffc, 1);"],
  ["writeText()", `u.writeText("${"x".repeat(129)}");`],
]) {
  test(`ConfigBytes${what} traps beyond its bytes`, async () => {
    const input = await device({ top: INPUT, serve: serve! });
    input.negotiate();
    assert.throws(
      () => input.request(0, "", 8),
      (error: unknown) => error instanceof DeviceTrap && /serve: unreachable/.test(error.message),
    );
  });
}

test("compileDevice() refuses a config space that is none", async () => {
  await rejected("class C { a: u8 = 0; } configSpace<C>();", /an @unmanaged class/);
  await rejected("configSpace<u64>();", /an @unmanaged class/);
  await rejected("@unmanaged class C { a: u64; } configSpace<C>(7);", /unreachable/);
  await rejected("@unmanaged class C { a: u64; } configSpace<C>(257);", /unreachable/);
  await rejected(`${INPUT} configSpace<InputConfig>();`, /unreachable/);
  await rejected(`${INPUT} configBytes(8, 129);`, /unreachable/);
  await rejected(`${INPUT} configBytes(0xffffffff, 2);`, /unreachable/);
});

test("A device without a config space has no code for one", async () => {
  const { text, manifest } = await compile({ top: "" });
  assert.is(manifest.config, 0);
  assert.not.match(text, /memory\.copy/);
  assert.match((await compile({ top: BLK })).text, /memory\.copy/);
});

test.run();
