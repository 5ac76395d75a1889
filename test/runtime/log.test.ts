// What a module writes to descriptor 2, on its way to the VMM.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { LOG_WRITE_BYTES_MAX, ModuleLog } from "../../host/runtime/log.js";
import { GrantedFiles } from "../../host/runtime/wasi_snapshot_preview1.js";
import { LOG, READY } from "../../host/wire/format.js";
import { LINES_BURST_MAX } from "../../host/wire/line-log.js";
import { LOG_BYTES_MAX } from "../../host/wire/message.js";
import { Conversation, manifest, moduleWith } from "./support.js";

function written(...texts: (string | Uint8Array)[]): string[] {
  const lines: string[] = [];
  const log = new ModuleLog((line) => lines.push(line));
  for (const text of texts) {
    log.write(typeof text === "string" ? new TextEncoder().encode(text) : text);
  }
  return lines;
}

const IMPORT = `(import "wasi_snapshot_preview1" "fd_write"
  (func $write (param i32 i32 i32 i32) (result i32)))`;

/** A module that writes the text at 2000 to descriptor 2, `times` times. */
function writing(where: "initialize" | "serve", text: string, times = 1): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  const data = [...bytes].map((byte) => `\\${byte.toString(16).padStart(2, "0")}`).join("");
  const write = `(loop $more
    (i32.store (i32.const 1000) (i32.const 2000))
    (i32.store (i32.const 1004) (i32.const ${bytes.length}))
    (drop (call $write (i32.const 2) (i32.const 1000) (i32.const 1) (i32.const 1008)))
    (global.set $times (i32.add (global.get $times) (i32.const 1)))
    (br_if $more (i32.lt_u (global.get $times) (i32.const ${times}))))`;
  const more = `(global $times (mut i32) (i32.const 0)) (data (i32.const 2000) "${data}")`;
  const initialize = `(func (export "_initialize") ${where === "initialize" ? write : ""})`;
  const serve = `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    ${where === "serve" ? write : ""} (i32.load (i32.const 1008)))`;
  return moduleWith({ imports: IMPORT, initialize, serve, more });
}

function device(module: Uint8Array): Conversation {
  return new Conversation(module, new GrantedFiles(manifest(), []));
}

test("ModuleLog.write() makes a line of each line", () => {
  assert.equal(written("one\ntwo\n\nthree", "four\n"), ["one", "two", "three", "four"]);
  assert.equal(written("", "\n", "\n\n\n"), []);
});

test("ModuleLog.write() cuts a line so that the VMM takes it", () => {
  const [line] = written("x".repeat(LOG_WRITE_BYTES_MAX));
  assert.ok(line!.length > 900 && line!.length < LOG_BYTES_MAX);
});

test("ModuleLog.write() drops what comes too fast, and says so later", () => {
  assert.is(written("x\n".repeat(2000)).length, LINES_BURST_MAX);
});

test("a module's lines come before READY when it writes them that early", () => {
  const [line, ready] = device(writing("initialize", "hello\n")).receive();
  assert.equal([line?.type, line?.text], [LOG, "hello"]);
  assert.is(ready?.type, READY);
});

test("a module's lines come before the replies that they are about, which stay whole", () => {
  const conversation = device(writing("serve", "served"));
  conversation.receive();
  conversation.activate(0n);
  conversation.send([{ id: 7, capacity: 64 }]);
  const messages = conversation.receive();
  const [line] = messages.filter(({ type }) => type === LOG);
  assert.is(line?.text, "served");
  const replies = messages.flatMap(({ replies }) => replies);
  assert.equal(
    replies.map(({ id, bytes }) => [id, bytes.length]),
    [[7, 6]],
  );
});

test("a module that writes for long is heard at first, and then answers", () => {
  const conversation = device(writing("serve", "flood\n".repeat(100), 1000));
  conversation.receive();
  conversation.activate(0n);
  conversation.send([{ id: 7, capacity: 1024 }]);
  const messages = conversation.receive();
  const lines = messages.filter(({ type }) => type === LOG);
  assert.ok(lines.length >= LINES_BURST_MAX && lines.length < 2 * LINES_BURST_MAX);
  assert.is(messages.flatMap(({ replies }) => replies).length, 1);
});

test.run();
