// From the end of a device to the places in its author's source. The map is hostile, and so is what
// a device says of its end.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { VmmError } from "../../host/errors.js";
import { lastWords } from "../../host/runtime/last-words.js";
import { SOURCE_MAP_BYTES_MAX, TraceMap, traceOf } from "../../host/runtime/source-map.js";
import { LOG_BYTES_MAX } from "../../host/wire/message.js";

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-map-"));
test.after(() => fs.rmSync(directory, { recursive: true }));

/** Offset 16 is line 1, column 1 of the first source; offset 32 line 3, column 5 of the second. */
const MAPPINGS = "gBAAA,gBCEI";

function mapOf(changes: object = {}): TraceMap {
  const map = { version: 3, sources: ["mine.ts", "~lib/more.ts"], names: [], mappings: MAPPINGS };
  return new TraceMap(JSON.stringify({ ...map, ...changes }), directory);
}

/** An error as the runtime throws it, with a stack of V8's. */
function fault(...frames: string[]): Error {
  const cause = new Error("unreachable");
  cause.stack = ["RuntimeError: unreachable", ...frames.map((at) => `    at ${at}`)].join("\n");
  return new Error("serve: unreachable", { cause });
}

function frame(name: string, index = 1, offset = 16): string {
  return `${name} (wasm://wasm/0a1b2c3d:wasm-function[${index}]:0x${offset.toString(16)})`;
}

test("lastWords() names the functions of a module with names, and where they were", () => {
  const error = fault(frame("mine/Mine#serve", 12, 0x1a3), frame("entry", 3, 0x20), "main.js:1:2");
  const words = "serve: unreachable, in mine/Mine#serve[12]+0x1a3 from entry[3]+0x20";
  assert.is(lastWords(error), words);
});

test("lastWords() is the reason alone where functions have no names", () => {
  assert.is(lastWords(fault("wasm://wasm/0a1b:wasm-function[1]:0x2")), "serve: unreachable");
  assert.is(lastWords(new Error("a message of type 9")), "a message of type 9");
  assert.is(lastWords("text"), "text");
});

test("lastWords() leaves out the compiler's stubs, which no source has", () => {
  const error = fault(frame("Device#serve@override"), frame("entry", 3, 0x20));
  assert.is(lastWords(error), "serve: unreachable, in entry[3]+0x20");
});

test("lastWords() fits into one line of the log, whatever the names are", () => {
  const long = frame("x".repeat(100_000), 9_999_999, 0xffffff);
  const error = fault(...Array.from({ length: 50 }, () => long));
  const words = lastWords(error);
  assert.ok(words.length < LOG_BYTES_MAX - 200, `${words.length} characters`);
  assert.is(traceOf(words, undefined).frames.length, 8);
  assert.match(lastWords(fault(frame("a\u001b[2Jb] ü"))), /, in a\?\?2Jb\?\?\?\[1\]\+0x10$/);
});

test("traceOf() finds file, line and column of each frame", () => {
  const { reason, frames } = traceOf("serve: unreachable, in a[1]+0x10 from b[2]+0x25", mapOf());
  assert.is(reason, "serve: unreachable");
  const mine = path.join(directory, "mine.ts");
  assert.equal(frames, [`${mine}:1:1 (a)`, "~lib/more.ts:3:5 (b)"]);
});

test("traceOf() has names alone where nothing is mapped", () => {
  assert.equal(traceOf("x, in a[1]+0x10", undefined), { reason: "x", frames: ["a"] });
  assert.equal(traceOf("x, in a[1]+0x1", mapOf()).frames, ["a"]);
});

test("traceOf() takes a line as it is that only looks like an end", () => {
  for (const line of ["x, in a[1]+0x10 and more", "in a", "", "x, in a[1]+0x123456789"]) {
    assert.equal(traceOf(line, mapOf()), { reason: line, frames: [] });
  }
});

test("TraceMap names sources relative to where the reader is, if they are below", () => {
  const at = (folder: string) =>
    new TraceMap(
      JSON.stringify({ version: 3, sources: ["../mine.ts"], mappings: MAPPINGS }),
      folder,
    ).placeOf(16);
  assert.is(at(path.resolve("dist")), "mine.ts:1:1");
  assert.is(at("/nowhere/dist"), "/nowhere/mine.ts:1:1");
});

test("TraceMap has no line break and no escape sequence of a source's name", () => {
  const sources = ["a\nOK: all is well\u001b[2J.ts", "b"];
  const place = mapOf({ sources }).placeOf(16) ?? "";
  assert.match(place, /OK: all is well/);
  assert.not.match(place, /[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/u);
});

test("TraceMap.placeOf() is undefined where a hostile map leads nowhere", () => {
  assert.is(mapOf({ sources: [] }).placeOf(16), undefined);
  assert.is(mapOf({ mappings: "" }).placeOf(16), undefined);
  assert.is(mapOf({ mappings: "gBDDD" }).placeOf(16), undefined);
});

const MAPS: readonly (readonly [what: string, text: string])[] = [
  ["no JSON", "{"],
  ["null", "null"],
  ["without sources", '{"version":3,"mappings":""}'],
  ["with a source that is no text", '{"version":3,"sources":[1],"mappings":""}'],
  ["without mappings", '{"version":3,"sources":[]}'],
  ["nested deeper than the stack", "[".repeat(SOURCE_MAP_BYTES_MAX)],
  ["that is too large", " ".repeat(SOURCE_MAP_BYTES_MAX + 1)],
];

for (const [what, text] of MAPS) {
  test(`TraceMap.beside() refuses a map ${what}`, () => {
    const module = path.join(directory, "bad.wasm");
    fs.writeFileSync(`${module}.map`, text);
    const refused = (error: Error) =>
      error instanceof VmmError &&
      /^Cannot use the source map ".*bad\.wasm\.map": /.test(error.message);
    assert.throws(() => TraceMap.beside(module), refused);
  });
}

test("TraceMap.beside() is undefined where there is no map", () => {
  assert.is(TraceMap.beside(path.join(directory, "none.wasm")), undefined);
});

test("TraceMap reads the largest map that it takes, of nothing but places", () => {
  const map = { version: 3, sources: ["a"], mappings: "" };
  const room = SOURCE_MAP_BYTES_MAX - JSON.stringify(map).length;
  const mappings = "CAAA,".repeat(Math.floor(room / 5)).slice(0, -1);
  const place = mapOf({ ...map, mappings }).placeOf(2 ** 30);
  assert.match(place ?? "", /a:1:1$/);
});

test.run();
