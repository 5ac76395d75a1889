// Compiling a device: what the author may write, and what he is told.

import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { CompileError, compileDevice } from "../../host/author/device.js";
import { deviceSource, folderOf } from "./support.js";

/** What the author is told of the device test.ts among `files`, one line a message. */
async function toldOf(files: Record<string, string>, debug = false): Promise<string[]> {
  const folder = folderOf(files);
  try {
    await compileDevice(path.join(folder, "test.ts"), { debug });
    return [];
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    return error.message.replaceAll(`${folder}/`, "").split("\n");
  }
}

test("compileDevice() names file, line and column of every mistake", async () => {
  const told = await toldOf({
    "test.ts": deviceSource("twice(1); undeclared();", 'import { twice } from "./more";'),
    "more.ts": "export function twice(x: u32): u32 {\n  return nothing * 2;\n}\n",
  });
  assert.equal(told, [
    "more.ts:2:10: Cannot find name 'nothing'. (AS2304)",
    "test.ts:5:53: Cannot find name 'undeclared'. (AS2304)",
  ]);
});

test("compileDevice() names an import that is not there", async () => {
  const [told = "compiled"] = await toldOf({
    "test.ts": deviceSource("", 'import { x } from "./nowhere";'),
  });
  assert.is(told, "test.ts:2:19: File 'nowhere.ts' not found. (AS6054)");
});

test("compileDevice() refuses every way to raw memory in an author's file: AS101", async () => {
  for (const serve of [
    "load<u8>(0);",
    "store<u8>(0, 1);",
    "changetype<Chain>(<usize>4).writable;",
    "i32.load(0);",
    "i64.load8_u(0);",
    "f64.load(0);",
    "f64.store(0, 1);",
    "memory.compare(0, 4, 4);",
    "memory.fill(0, 0, 9);",
    "new StaticArray<u8>(4).fill(0); unchecked(new StaticArray<u8>(4)[9]);",
    "chain.open(0, 9, 0, 9);",
  ]) {
    const [told = "compiled"] = await toldOf({ "test.ts": deviceSource(serve) });
    assert.match(told, /^test\.ts:5:\d+: Operation is unsafe\. \(AS101\)$/, serve);
  }
});

/** An author's settings, on top of those for all. */
function asconfig(options: object): string {
  const base = fileURLToPath(new URL("../../../devices-as/asconfig.json", import.meta.url));
  // The compiler takes no absolute path; a folder of folderOf() is two below that of the system.
  return JSON.stringify({ extends: `../../${path.relative(os.tmpdir(), base)}`, options });
}

test("compileDevice() takes an author's asconfig.json, but for what none may change", async () => {
  const folder = folderOf({
    "test.ts": deviceSource(""),
    "asconfig.json": asconfig({ maximumMemory: 100, exportStart: "main", runtime: "incremental" }),
  });
  const { facts } = await compileDevice(path.join(folder, "test.ts"));
  assert.equal(facts.memory, { initialPages: 1, maximumPages: 100 });
  const unsafe = asconfig({ noUnsafe: false });
  const files = { "test.ts": deviceSource("store<u8>(0, 1);"), "asconfig.json": unsafe };
  assert.match((await toldOf(files)).join(), /Operation is unsafe\. \(AS101\)$/);
});

test("compileDevice() says what is wrong with an asconfig.json", async () => {
  const [told = "compiled"] = await toldOf({ "test.ts": deviceSource(""), "asconfig.json": "{" });
  assert.match(told, /^test\.ts: Asconfig is not valid json/);
});

const POKE = "export function poke(): void {\n  store<u8>(0, 1);\n}\n";

for (const [name, specifier] of [
  ["sdk/chain.ts", "./sdk/chain"],
  ["bulkhead/sdk/chain.ts", "./bulkhead/sdk/chain"],
  ["node_modules/other/index.ts", "other"],
  ["node_modules/bulkhead/sdk/more.ts", "bulkhead/sdk/more"],
] as const) {
  test(`compileDevice() gives the file ${name} of an author no right to raw memory`, async () => {
    const source = deviceSource("poke();", `import { poke } from "${specifier}";`);
    const [told = "compiled"] = await toldOf({ "test.ts": source, [name]: POKE });
    assert.match(told, /:2:3: Operation is unsafe\. \(AS101\)$/);
  });
}

test("compileDevice() takes the SDK of this package, not one beside the device", async () => {
  const fake = 'export * from "nowhere";';
  const files = ["sdk/index.ts", "bulkhead/sdk/index.ts", "node_modules/bulkhead/sdk/index.ts"];
  const told = await toldOf({
    "test.ts": deviceSource(),
    ...Object.fromEntries(files.map((name) => [name, fake])),
  });
  assert.equal(told, []);
});

test("compileDevice() goes on when the compiler crashes, and says so", async () => {
  const top = "function deeper<T>(): void { deeper<StaticArray<T>>(); }";
  const [told = "compiled"] = await toldOf({ "test.ts": deviceSource("deeper<u8>();", top) });
  assert.match(told, /^test\.ts: the AssemblyScript compiler crashed: RangeError: Maximum call/);
  assert.equal(await toldOf({ "test.ts": deviceSource() }), []);
});

test("compileDevice() ends a device whose top level does not end, and says so", async () => {
  const loop = "let n: u32 = 0;\nwhile (true) n++;";
  const [told = "compiled"] = await toldOf({ "test.ts": deviceSource("", loop) });
  assert.match(told, /^test\.ts: .*the top level of the file did not end in \d+ s/);
});

test("compileDevice() says how a device breaks that traps at its top level", async () => {
  const [told = "compiled"] = await toldOf({ "test.ts": deviceSource("", "assert(false);") });
  assert.is(told, "test.ts: the device breaks before it is started: unreachable");
});

test("compileDevice() says which assert failed and where, with a debug module", async () => {
  const source = deviceSource("", 'import "./limits";');
  const limits = 'const room: u32 = 8;\n  assert(room > 8, "no room");\n';
  const [told = "compiled"] = await toldOf({ "test.ts": source, "limits.ts": limits }, true);
  assert.match(told, /^limits\.ts:2:3: .*: assertion failed: no room \(.*, in start:limits/);
});

test("compileDevice() names the author's line where it is the SDK that refuses", async () => {
  const top = 'function ask(): void { for (;;) capability.file("image", Rights.Read); } ask();';
  const [told = "compiled"] = await toldOf({ "test.ts": deviceSource("", top) }, true);
  assert.match(told, /^test\.ts:2:\d+: .*: assertion failed: too many capabilities \(~lib\//);
});

test("compileDevice() refuses a file whose name cannot be a device's", async () => {
  const refusal = await compileDevice("/nowhere/My_Device.ts", { source: "" }).then(String, String);
  assert.match(refusal, /My_Device\.ts: "My_Device" cannot be a device's name, expected/);
});

test.run();
