import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileDevice } from "../../host/author/device.js";
import { GrantedFiles } from "../../host/runtime/wasi_snapshot_preview1.js";
import { NO_FD } from "../../host/sandbox/grants.js";
import { resolveOptions } from "../../host/sandbox/options.js";
import { CHAIN_BYTES_MAX } from "../../host/wire/format.js";
import { Conversation, pattern, ScriptedFile } from "../runtime/support.js";

/** Compiles a device whose serve() has the body `serve`. */
function compile(serve: string, { top = "", features = "0" } = {}) {
  const source = `
    import { capability, Chain, Device, Need, option, register, Rights } from "bulkhead/sdk";
    ${top}
    class Test extends Device {
      constructor() { super(42, [8, 256], ${features}); }
      serve(queue: u32, chain: Chain): void { ${serve} }
    }
    register(new Test());`;
  return compileDevice("/nowhere/test.ts", { source });
}

async function device(serve: string, world = new ScriptedFile()): Promise<Conversation> {
  const { module } = await compile(serve);
  return Conversation.started(module, world);
}

/** Asserts that the compiler refuses a device with this serve(), and says why. */
async function rejected(serve: string, message: RegExp, top = ""): Promise<void> {
  let refusal = "";
  try {
    await compile(serve, { top });
  } catch (error) {
    refusal = String(error);
  }
  assert.match(refusal, message);
}

test("compileDevice() writes what the source declares into the manifest", async () => {
  const top = `
    const image = capability.file("image", Rights.Read | Rights.Write);
    const log = capability.file("log", Rights.Write);
    const rate = option.number("rate", 9), verbose = option.flag("verbose");
    const serial = option.text("serial");`;
  const { manifest } = await compile("", { top, features: "0x8000000000000005" });
  assert.equal(manifest, {
    contract: 2,
    name: "test",
    virtioId: 42,
    queues: [8, 256],
    features: "0x8000000000000005",
    config: 0,
    capabilities: [
      { name: "image", kind: "file", rights: ["read", "write"], required: true },
      { name: "log", kind: "file", rights: ["write"], required: true },
    ],
    options: [
      { name: "rate", type: "number" },
      { name: "verbose", type: "flag" },
      { name: "serial", type: "text" },
    ],
  });
});

const OPTIONS = `
  const rate = option.number("rate", 9), verbose = option.flag("verbose");
  const serial = option.text("serial");`;
const TELL = `
  chain.write<u64>(rate.value); chain.write<bool>(verbose.value);
  for (let i: u32 = 0; i < serial.length; i++) chain.write<u8>(serial.bytes[i]);`;

test("A capability may be optional, and a clock knows whether it was granted", async () => {
  const top = 'const clock = capability.clock("now", Need.Optional);';
  const serve = "chain.write<bool>(clock.granted);";
  const { module, manifest } = await compile(serve, { top });
  const { name, kind, rights, required } = manifest.capabilities[0]!;
  assert.equal([name, kind, rights, required], ["now", "clock", ["read"], false]);
  const grant = { name: "now", kind: "clock" as const, rights: ["read" as const], fd: NO_FD };
  const answers = [[], [{ ...grant, clock: "monotonic" as const }]].map((grants) => {
    const world = new GrantedFiles(manifest, grants);
    return Conversation.started(module, world).ask({ id: 1, capacity: 1 })[0]?.bytes[0];
  });
  assert.equal(answers, [0, 1]);
});

test("demand() says in the log what is wrong, and ends the device", async () => {
  const top = 'import { demand } from "bulkhead/sdk";';
  const serve = 'demand(chain.readable < 2, "too many"); chain.write<u8>(1);';
  const { module, manifest } = await compile(serve, { top });
  const conversation = Conversation.started(module, new GrantedFiles(manifest, []));
  assert.is(conversation.ask({ id: 1, readable: pattern(1), capacity: 1 }).length, 1);
  conversation.send([{ id: 2, readable: pattern(2), capacity: 1 }]);
  const said = conversation.receive().map(({ text }) => text);
  assert.equal(said, ["too many", "serve: unreachable"]);
});

test("TextOption.toString() is the text", async () => {
  const top = 'const serial = option.text("serial");';
  const serve = 'chain.writeText("<" + serial.toString() + ">", chain.writable);';
  const { module, manifest } = await compile(serve, { top });
  const texts = [{ serial: "grüße" }, {}].map((given) => {
    const conversation = Conversation.started(module, undefined, resolveOptions(manifest, given));
    return Buffer.from(conversation.ask({ id: 1, capacity: 9 })[0]!.bytes).toString();
  });
  assert.equal(texts, ["<grüße>", "<>\0\0\0\0\0\0\0"]);
});

test("An option has its default until the user sets it", async () => {
  const { module } = await compile(TELL, { top: OPTIONS });
  const [reply] = Conversation.started(module).ask({ id: 1, capacity: 100 });
  assert.equal([...reply!.bytes], [9, 0, 0, 0, 0, 0, 0, 0, 0]);
});

test("An option has what the user set, up to the largest number and the longest text", async () => {
  const { module, manifest } = await compile(TELL, { top: OPTIONS });
  const text = "é".repeat(128);
  const options = resolveOptions(manifest, {
    serial: text,
    verbose: true,
    rate: `${2n ** 64n - 1n}`,
  });
  const [reply] = Conversation.started(module, undefined, options).ask({ id: 1, capacity: 300 });
  const expected = [...Array(8).fill(255), 1, ...new TextEncoder().encode(text)];
  assert.equal([...reply!.bytes], expected);
});

test("compileDevice() refuses an option and a capability of one name", async () => {
  const top = 'const a = option.flag("log"), b = capability.file("log", Rights.Read);';
  await rejected("", /options: one name is used twice/, top);
});

test("compileDevice() refuses raw memory in a device: AS101", async () => {
  await rejected("store<u8>(0, 1);", /AS101/);
  await rejected("load<u8>(0);", /AS101/);
  await rejected("changetype<Chain>(<usize>4).writable;", /AS101/);
  await rejected("memory.fill(0, 0, 9);", /AS101/);
  await rejected("chain.open(0, 9, 0, 9);", /AS101/);
});

test("compileDevice() refuses an import that no declaration asks for", async () => {
  const top = `@external("wasi_snapshot_preview1", "fd_pwrite")
    declare function fd_pwrite(fd: i32, iovs: usize, count: i32, at: u64, written: usize): u32;`;
  await rejected("fd_pwrite(3, 0, 0, 0, 0);", /fd_pwrite/, top);
});

test("compileDevice() refuses a module that registers no device", async () => {
  const compiled = compileDevice("/nowhere/test.ts", {
    source: 'import { Chain } from "bulkhead/sdk";',
  });
  const refusal = await compiled.then(String, String);
  assert.match(refusal, /unreachable/);
});

test("Chain.read() and Chain.write() are little-endian and advance", async () => {
  const swap = await device(`
    chain.write<u8>(chain.read<u8>());
    const a = chain.read<u16>(), b = chain.read<u32>(), c = chain.read<u64>();
    chain.write<u64>(c); chain.write<u32>(b); chain.write<u16>(a);`);
  const readable = pattern(15);
  const [reply] = swap.ask({ id: 1, readable, capacity: 100 });
  const [one, two, four, eight] = [
    [0, 1],
    [1, 3],
    [3, 7],
    [7, 15],
  ].map(([from, to]) => [...readable.slice(from, to)]);
  assert.equal([...reply!.bytes], [...one!, ...eight!, ...four!, ...two!]);
});

test("Chain.readable and Chain.writable are what is left", async () => {
  const counts = await device(`
    chain.read<u8>();
    chain.write<u32>(chain.readable);
    chain.write<u32>(chain.writable);`);
  const [reply] = counts.ask({ id: 1, readable: pattern(10), capacity: 20 });
  assert.equal([...reply!.bytes], [9, 0, 0, 0, 16, 0, 0, 0]);
});

test("A Chain moves bytes to and from an array, skips and fills", async () => {
  const top = "const store = new StaticArray<u8>(8);";
  const serve = `
    chain.skip(2); chain.readTo(store, 3, 5); chain.readTo(store, 8, 0);
    chain.writeOf(store, 0, 8); chain.writeOf(store, 8, 0); chain.fill(0xaa, 2);`;
  const { module } = await compile(serve, { top });
  const [reply] = Conversation.started(module).ask({ id: 1, readable: pattern(7), capacity: 10 });
  assert.equal([...reply!.bytes], [0, 0, 0, ...pattern(7).slice(2), 0xaa, 0xaa]);
});

for (const [what, serve] of [
  ["Chain.skip() traps beyond the request", "chain.skip(9);"],
  ["Chain.readTo() traps beyond the request", "chain.readTo(store, 0, 9);"],
  ["Chain.readTo() traps beyond the array", "chain.readTo(store, 93, 8);"],
  ["Chain.readTo() traps beyond the array's start", "chain.readTo(store, <u32>-4, 8);"],
  ["Chain.writeOf() traps beyond the request", "chain.writeOf(store, 0, 9);"],
  ["Chain.writeOf() traps beyond the array", "chain.writeOf(store, 93, 8);"],
  ["Chain.writeOf() traps beyond the array's start", "chain.writeOf(store, <u32>-4, 8);"],
  ["Chain.fill() traps beyond the request", "chain.fill(1, 9);"],
  ["Chain.writeText() traps beyond the request", 'chain.writeText("short", 9);'],
  ["Chain.writeText() traps if the text is longer than its place", 'chain.writeText("äöü", 5);'],
] as const) {
  test(what, async () => {
    const { module } = await compile(serve, { top: "const store = new StaticArray<u8>(100);" });
    const conversation = Conversation.started(module);
    conversation.send([{ id: 1, readable: pattern(8), capacity: 8 }]);
    assert.match(conversation.lastWords(), /^serve: unreachable$/);
  });
}

for (const [what, serve] of [
  ["Chain.read() traps beyond the request", "chain.read<u8>(); chain.read<u64>();"],
  ["Chain.write() traps beyond the request", "chain.write<u64>(1); chain.write<u8>(1);"],
] as const) {
  test(`${what}, and the next request is out of reach`, async () => {
    const conversation = await device(serve);
    conversation.send([{ id: 1, readable: pattern(8), capacity: 8 }]);
    assert.match(conversation.lastWords(), /^serve: unreachable$/);
  });
}

test("Chain.writeFrom() traps beyond the request, before it reads", async () => {
  const source = new ScriptedFile(pattern(9));
  const top = 'const source = capability.file("source", Rights.Read);';
  const { module } = await compile("chain.writeFrom(source, 9);", { top });
  const conversation = Conversation.started(module, source);
  conversation.send([{ id: 1, capacity: 8 }]);
  assert.match(conversation.lastWords(), /^serve: unreachable$/);
  assert.equal(source.asked, []);
});

test("Chain.writeFrom() leaves the reason of a failure at its source", async () => {
  const top = 'const source = capability.file("source", Rights.Read);';
  const serve = "chain.writeFrom(source, 4); chain.write<u32>(source.errno);";
  const { module } = await compile(serve, { top });
  const conversation = Conversation.started(module, new ScriptedFile(pattern(2), 29));
  const [reply] = conversation.ask({ id: 1, capacity: 100 });
  assert.equal([...reply!.bytes], [...pattern(2), 29, 0, 0, 0]);
});

test("Chain.writeText() writes UTF-8 and zeros behind it", async () => {
  const text = await device('chain.writeText("grüße", 7); chain.writeText("x", 4);');
  const [reply] = text.ask({ id: 1, capacity: 100 });
  assert.is(Buffer.from(reply!.bytes).toString(), "grüßex\0\0\0");
});

test("CHAIN_BYTES_MAX is what a device sees of a chain at most", async () => {
  const { module } = await compile("chain.write<u32>(CHAIN_BYTES_MAX);", {
    top: 'import { CHAIN_BYTES_MAX } from "bulkhead/sdk";',
  });
  const [reply] = Conversation.started(module).ask({ id: 1, capacity: 4 });
  assert.is(Buffer.from(reply!.bytes).readUInt32LE(), CHAIN_BYTES_MAX);
});

test("reserve() keeps the windows apart from what a device allocates", async () => {
  const top = "let kept: StaticArray<u8> | null = null;";
  const serve = `
    const fresh = new StaticArray<u8>(100000);
    fresh.fill(0xee);
    kept = fresh;
    while (chain.readable > 0) chain.write<u8>(chain.read<u8>());`;
  const { module } = await compile(serve, { top });
  const conversation = Conversation.started(module);
  for (let id = 0; id < 50; id++) {
    const [reply] = conversation.ask({ id, readable: pattern(5000, id), capacity: 5000 });
    assert.equal(reply?.bytes, pattern(5000, id));
  }
});

test("A device that allocates for ever traps at its memory's maximum", async () => {
  const { module } = await compile("kept = new StaticArray<u8>(1000000);", {
    top: "let kept: StaticArray<u8> | null = null;",
  });
  const conversation = Conversation.started(module);
  let last = "";
  for (let id = 0; id < 20 && !conversation.closed; id++) {
    conversation.send([{ id }]);
    last = conversation.receive()[0]?.text ?? "";
  }
  assert.match(last, /^serve: unreachable$/);
});

test("Clock.now() and realtime() are the clocks that were granted", async () => {
  const top = 'const clock = capability.clock("now");';
  const serve = "chain.write<u64>(clock.now()); chain.write<u64>(clock.realtime());";
  const { module, manifest } = await compile(serve, { top });
  const now = { name: "now", kind: "clock", rights: ["read"], required: true };
  assert.equal(manifest.capabilities, [now]);
  const grant = { name: "now", kind: "clock" as const, rights: ["read" as const], fd: NO_FD };
  const both = new GrantedFiles(manifest, [{ ...grant, clock: "realtime" }]);
  const [reply] = Conversation.started(module, both).ask({ id: 1, capacity: 16 });
  const [monotonic, realtime] = new BigUint64Array(reply!.bytes.buffer);
  assert.ok(monotonic! > 0n && monotonic! <= process.hrtime.bigint());
  assert.ok(Math.abs(Number(realtime! / 1_000_000n) - Date.now()) < 60_000);
  const one = new GrantedFiles(manifest, [{ ...grant, clock: "monotonic" }]);
  const refused = Conversation.started(module, one);
  refused.send([{ id: 1, capacity: 16 }]);
  assert.match(refused.lastWords(), /^serve: unreachable$/);
});

test.run();
