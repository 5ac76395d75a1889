// What a device may do besides answering: wait, be woken, and write to the log.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileDevice } from "../../host/author/device.js";
import { GrantedFiles } from "../../host/runtime/wasi_snapshot_preview1.js";
import { LOG } from "../../host/wire/format.js";
import { Conversation, pattern } from "../runtime/support.js";

/** Compiles a device whose serve() has the body `serve`. */
function compile(serve: string, { top = "", more = "", debug = false } = {}) {
  const source = `
    import { capability, Chain, Device, log, logLine, register } from "bulkhead/sdk";
    ${top}
    class Test extends Device {
      constructor() { super(42, [8]); }
      ${more}
      serve(queue: u32, chain: Chain): void { ${serve} }
    }
    register(new Test());`;
  return compileDevice("/nowhere/test.ts", { source, debug });
}

/** What a device says in the log while it answers one request. */
async function logged(serve: string, debug = false): Promise<string[]> {
  const compiled = await compile(serve, { debug });
  const module = debug ? compiled.debug!.module : compiled.module;
  const conversation = Conversation.started(module, new GrantedFiles(compiled.manifest, []));
  conversation.send([{ id: 1, readable: pattern(8), capacity: 8 }]);
  return conversation.receive().flatMap(({ type, text }) => (type === LOG ? [text] : []));
}

test("log() writes a line, and needs no grant", async () => {
  assert.equal(await logged('log("link is up"); log("grüße €");'), ["link is up", "grüße €"]);
});

test("logLine() puts numbers into a line", async () => {
  const serve = `
    logLine("sector ").number(<u64>u64.MAX_VALUE).text(" at ").hex(0xbeef).end();
    logLine().number(<i32>-7).text(" ").number(<i64>i64.MIN_VALUE).text(" ").number(0).end();`;
  assert.equal(await logged(serve), [
    "sector 18446744073709551615 at 0xbeef",
    "-7 -9223372036854775808 0",
  ]);
});

test("logLine() allocates nothing", async () => {
  const { text } = await compile('logLine("x").number(chain.readable).end();');
  const functions = text.split(/^ \(func /m).slice(1);
  const users = functions.filter((body) => /call \$~lib\/rt\/stub\/__(new|alloc)\n/.test(body));
  const names = users.map((body) => body.slice(0, body.search(/[ )\n]/)));
  assert.ok(names.includes("$~start"), "no allocator: this test looks in vain");
  const may = ["$~start", "$~lib/bulkhead/sdk/entry/reserve", "$~lib/rt/stub/__new"];
  assert.equal(
    names.filter((name) => !may.includes(name)),
    [],
  );
});

test("logLine() cuts a line that is too long, and keeps its beginning", async () => {
  const serve = `
    const all = logLine("€");
    for (let i = 0; i < 2000; i++) all.text("abc");
    all.end();
    log("next");`;
  const [long, next] = await logged(serve);
  assert.ok(long!.startsWith("€abcabc") && long!.length > 900 && long!.length < 1024);
  assert.is(next, "next");
});

test("assert in a debug build says message, file and line before it traps", async () => {
  const serve = 'assert(chain.readable == 9, "nine bytes");';
  const [said, trap] = await logged(serve, true);
  assert.match(said!, /^assertion failed: nine bytes \(test\.ts:\d+:\d+\)$/);
  assert.match(trap!, /^serve: unreachable, in test\/Test#serve\[/);
  assert.equal(await logged(serve), ["serve: unreachable"]);
});

test("Chain.wait() leaves a request until a deadline, which calls Device.wake()", async () => {
  const top = `
    const clock = capability.clock("now");
    let woken: u8 = 0;`;
  const { module, manifest } = await compile(
    `chain.write<u8>(woken);
     if (woken == 0) { clock.wakeAt(chain.read<u64>()); return chain.wait(); }
     chain.write<u64>(chain.read<u64>());`,
    { top, more: "wake(): void { woken = 1; }" },
  );
  const conversation = Conversation.started(module, new GrantedFiles(manifest, []));
  conversation.send([{ id: 1, readable: pattern(8), capacity: 9 }]);
  assert.equal(conversation.receive(), []);
  const { attention } = conversation.channel;
  assert.is(attention!.deadline, new DataView(pattern(8).buffer).getBigUint64(0, true));
  conversation.channel.wake(0, true);
  const [message] = conversation.receive();
  assert.equal([...message!.replies[0]!.bytes], [1, ...pattern(8)]);
  assert.ok(attention!.isQuiet);
});

test.run();
