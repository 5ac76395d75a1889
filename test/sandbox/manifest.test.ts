// What is read of a module without compiling it, against what V8 reads of the same bytes: a module
// that the two understand differently could show the VMM one manifest and run with other imports.
// What must be refused, and why, is in test/breach/wasm. BULKHEAD_TEST_SEED repeats the random run
// with another seed.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { VmmError } from "../../host/errors.js";
import {
  inspectModule,
  MANIFEST_SECTION,
  MODULE_BYTES_MAX,
  type ModuleFacts,
  parseManifest,
  type Right,
} from "../../host/sandbox/manifest.js";
import { builtDevice, manifest, moduleWith } from "../runtime/support.js";

const RUNS = 30_000;
const SEED = Number(process.env.BULKHEAD_TEST_SEED ?? 1);
/** Damaged modules that both must still accept, or the run compares nothing. */
const ACCEPTED_MIN = 50;

/** xorshift32: a number in [0, below). */
function generator(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** What is read of `module`, or undefined if it is refused; anything but a refusal is a bug. */
function factsOf(module: Uint8Array): ModuleFacts | undefined {
  try {
    return inspectModule(module);
  } catch (error) {
    assert.instance(error, VmmError, `${(error as Error).stack}`);
    assert.is((error as VmmError).code, "ERR_MODULE");
    return undefined;
  }
}

/** The same module as V8 reads it, or undefined if it does not compile. */
function compiled(module: Uint8Array): WebAssembly.Module | undefined {
  try {
    return new WebAssembly.Module(new Uint8Array(module));
  } catch {
    return undefined;
  }
}

function agree(facts: ModuleFacts, module: WebAssembly.Module): void {
  const imports = WebAssembly.Module.imports(module);
  assert.equal(
    facts.imports,
    imports.map((each) => ({ module: each.module, name: each.name })),
  );
  assert.ok(imports.every(({ kind }) => kind === "function"));
  const exports = WebAssembly.Module.exports(module);
  assert.equal(
    facts.exports.map(({ name, type }) => [name, type.startsWith("(") ? "function" : type]),
    exports.map(({ name, kind }) => [name, kind]),
  );
  const sections = WebAssembly.Module.customSections(module, MANIFEST_SECTION);
  assert.is(sections.length, 1);
  const text = new TextDecoder().decode(sections[0]);
  assert.equal(facts.manifest, JSON.parse(text));
}

/** Bytes at which readers of WebAssembly stumble: ends of LEB128, section ids, counts. */
const EDGES = [0x00, 0x01, 0x02, 0x05, 0x07, 0x08, 0x0a, 0x0b, 0x0c, 0x60, 0x7f, 0x80, 0x81, 0xff];

/** `module` with a few bytes changed, removed, added or repeated. */
function mutate(module: Uint8Array, random: (below: number) => number): Uint8Array {
  const bytes = [...module];
  for (let i = random(3); i >= 0; i--) {
    const at = random(bytes.length);
    const edge = EDGES[random(EDGES.length)] ?? 0;
    const kind = random(6);
    if (kind < 2) bytes[at] = edge;
    else if (kind === 2) bytes[at] = random(256);
    else if (kind === 3) bytes.splice(at, 1 + random(4));
    else if (kind === 4) bytes.splice(at, 0, edge);
    else bytes.splice(at, 0, ...bytes.slice(at, at + random(64)));
  }
  return new Uint8Array(bytes);
}

test("parseManifest() reads back what a module was given", () => {
  const rights: Right[] = ["read", "write"];
  const given = manifest({
    virtioId: 2,
    queues: [256, 1],
    features: "0x240",
    capabilities: [{ name: "image", kind: "file", rights, required: true }],
  });
  assert.equal(parseManifest(moduleWith({}, given)), given);
});

test("inspectModule() and V8 read the devices of this checkout alike", () => {
  const module = builtDevice("rng");
  const facts = inspectModule(module);
  agree(facts, new WebAssembly.Module(module));
  assert.is(facts.manifest.name, "rng");
  assert.equal(
    facts.imports.map(({ name }) => name),
    ["fd_read"],
  );
});

test("inspectModule() refuses every module that is cut short", () => {
  const module = builtDevice("rng");
  for (let length = 0; length < module.length; length++) {
    assert.is(factsOf(module.subarray(0, length)), undefined, `${length} bytes`);
  }
});

test("inspectModule() refuses a module above its limit before it looks at it", () => {
  const module = new Uint8Array(MODULE_BYTES_MAX + 1);
  assert.throws(() => inspectModule(module), /too large: 1048577 bytes, at most 1048576/);
});

test("inspectModule() refuses or agrees with V8, whatever the bytes are", () => {
  const random = generator(SEED);
  const originals = [builtDevice("rng"), moduleWith()];
  let [accepted, both] = [0, 0];
  for (let run = 0; run < RUNS; run++) {
    const module = mutate(originals[run % originals.length]!, random);
    const facts = factsOf(module);
    if (facts === undefined) continue;
    accepted++;
    const v8 = compiled(module);
    if (v8 === undefined) continue;
    both++;
    agree(facts, v8);
  }
  assert.ok(both >= ACCEPTED_MIN, `of ${RUNS} only ${accepted} accepted, ${both} by V8 too`);
  assert.ok(accepted < RUNS / 2, `${accepted} of ${RUNS} accepted: nothing was damaged`);
});

test("parseManifest() refuses a right that a kind does not have", () => {
  const rights: Right[] = ["write"];
  const capabilities = [{ name: "now", kind: "clock" as const, rights, required: true }];
  const module = moduleWith({}, manifest({ capabilities }));
  assert.throws(() => parseManifest(module), /rights: "write", expected one of read/);
});

test.run();
