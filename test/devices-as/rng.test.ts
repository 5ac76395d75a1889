import fs from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileDevice } from "../../host/author/device.js";
import { parseManifest } from "../../host/sandbox/manifest.js";
import { builtDevice, Conversation, pattern, ScriptedFile } from "../runtime/support.js";

const SOURCE = fileURLToPath(new URL("../../../devices-as/rng.ts", import.meta.url));

/** REQUEST_BYTES_MAX of devices-as/rng.ts. */
const REQUEST_BYTES_MAX = 64 * 1024;

/** errno values of WASI preview 1. */
const EINTR = 27;
const EIO = 29;

function rng(...answers: (Uint8Array | number)[]) {
  const source = new ScriptedFile(...answers);
  return { source, rng: Conversation.started(builtDevice("rng"), source) };
}

test("rng.wasm declares one queue and one file to read, and imports nothing else", () => {
  const module = builtDevice("rng");
  assert.equal(parseManifest(module), {
    contract: 2,
    name: "rng",
    virtioId: 4,
    queues: [64],
    features: "0x0",
    config: 0,
    capabilities: [{ name: "source", kind: "file", rights: ["read"], required: true }],
    options: [],
  });
  const imports = WebAssembly.Module.imports(new WebAssembly.Module(module));
  assert.equal(imports, [{ module: "wasi_snapshot_preview1", name: "fd_read", kind: "function" }]);
});

test("rng.wasm is at most 2 kB", () => {
  const { length } = builtDevice("rng");
  assert.ok(length <= 2048, `${length} bytes`);
});

test("rng.wasm allocates nowhere but in _initialize and reserve", async () => {
  const { text } = await compileDevice(SOURCE);
  const functions = text.split(/^ \(func /m).slice(1);
  const names = functions.map((body) => body.slice(0, body.search(/[ )\n]/)));
  const setsOffset = "global.set $~lib/rt/stub/offset";
  const allocating = names.filter((_, index) => functions[index]?.includes(setsOffset));
  const calls = (name: string) => functions.filter((body) => body.includes(`call ${name}\n`));
  assert.ok(allocating.includes("$~lib/rt/stub/__new"), "no allocator: this test looks in vain");
  for (const name of allocating) {
    const callers = calls(name).map((body) => body.slice(0, body.search(/[ )\n]/)));
    const roots = name === "$~lib/rt/stub/__new" ? callers : [name, ...callers];
    const may = ["$~start", "$~lib/bulkhead/sdk/entry/reserve"];
    for (const root of roots) assert.ok(may.includes(root), root);
  }
  assert.not.match(text, /call_indirect/);
});

test("Rng.serve() fills the request from its source (§5.4.6.2)", () => {
  const { rng: device, source } = rng(pattern(64));
  assert.equal(device.ask({ id: 3, capacity: 64 }), [{ id: 3, bytes: pattern(64), flags: 0 }]);
  assert.equal(source.asked, [{ fd: 3, bytes: 64 }]);
});

test("Rng.serve() serves each request of a batch from where the last one ended", () => {
  const { rng: device } = rng(pattern(8, 1), pattern(16, 2));
  const replies = device.ask({ id: 1, capacity: 8 }, { id: 2, capacity: 16 });
  assert.equal(
    replies.map((reply) => reply.bytes),
    [pattern(8, 1), pattern(16, 2)],
  );
});

test("Rng.serve() goes on after short reads and interruptions", () => {
  const whole = pattern(100);
  const { rng: device, source } = rng(
    whole.slice(0, 30),
    EINTR,
    whole.slice(30, 31),
    EINTR,
    whole.slice(31),
  );
  assert.equal(device.ask({ id: 1, capacity: 100 })[0]?.bytes, whole);
  assert.equal(
    source.asked.map(({ bytes }) => bytes),
    [100, 70, 70, 69, 69],
  );
});

test("Rng.serve() returns what it has when the source ends or fails in the middle", () => {
  for (const end of [new Uint8Array(), EIO]) {
    const { rng: device } = rng(pattern(10), end);
    assert.equal(device.ask({ id: 1, capacity: 100 })[0]?.bytes, pattern(10));
  }
});

test("Rng.serve() ends the device rather than answer with nothing (§5.4.6.2)", () => {
  for (const end of [new Uint8Array(), EIO]) {
    const { rng: device } = rng(end);
    device.send([{ id: 1, capacity: 100 }]);
    assert.match(device.lastWords(), /^serve: unreachable$/);
    assert.ok(device.closed);
  }
});

test("Rng.serve() does not touch its source for a request without room", () => {
  const { rng: device, source } = rng(pattern(100));
  assert.equal(device.ask({ id: 1, capacity: 0 }), [{ id: 1, bytes: new Uint8Array(), flags: 0 }]);
  assert.equal(source.asked, []);
});

test("Rng.serve() reads at most REQUEST_BYTES_MAX for a request that offers more", () => {
  const { rng: device, source } = rng(pattern(REQUEST_BYTES_MAX), pattern(1));
  const [reply] = device.ask({ id: 1, capacity: 1024 * 1024 });
  assert.is(reply?.bytes.length, REQUEST_BYTES_MAX);
  assert.equal(source.asked, [{ fd: 3, bytes: REQUEST_BYTES_MAX }]);
});

test("rng.ts is a file that fits on a page", () => {
  const lines = fs.readFileSync(SOURCE, "utf8").trimEnd().split("\n");
  assert.ok(lines.length <= 25, `${lines.length} lines`);
});

test.run();
