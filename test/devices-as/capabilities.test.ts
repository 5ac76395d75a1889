// What the SDK's capabilities do, over descriptors that are really granted.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileDevice } from "../../host/author/device.js";
import { accept } from "../../host/runtime/socket-calls.js";
import { GrantedFiles } from "../../host/runtime/wasi_snapshot_preview1.js";
import { openGrants } from "../../host/sandbox/grant-open.js";
import { type GrantSpec, resolveGrants } from "../../host/sandbox/grants.js";
import { Conversation, pattern } from "../runtime/support.js";
import { skip } from "../support/skip.js";
import { arpRequest, newTap, untilAnswered, whyNoTap } from "../support/tap.js";
import { freeTerminal } from "../support/terminal.js";

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-capabilities-"));
test.after(() => fs.rmSync(directory, { recursive: true }));

function fileWith(bytes: Uint8Array): string {
  const file = path.join(directory, `${fs.readdirSync(directory).length}`);
  fs.writeFileSync(file, bytes);
  return file;
}

/** A device whose capabilities are declared by `top`, with a grant for each. */
async function granted(
  { top, serve }: { top: string; serve: string },
  grants: Record<string, GrantSpec>,
): Promise<Conversation> {
  const source = `
    import { capability, Chain, Device, register, Rights } from "bulkhead/sdk";
    ${top}
    class Test extends Device {
      constructor() { super(42, [8]); }
      serve(queue: u32, chain: Chain): void { ${serve} }
    }
    register(new Test());`;
  const { module, manifest } = await compileDevice("/nowhere/test.ts", { source });
  const opened = openGrants(resolveGrants(manifest, grants));
  return Conversation.started(module, new GrantedFiles(manifest, opened));
}

const RW = "const image = capability.file('image', Rights.Read | Rights.Write);";

function fileGrant(what: string, ...rights: GrantSpec["rights"]): Record<string, GrantSpec> {
  return { image: { kind: "file", what, rights } };
}

test("File.size is that of the file, and setSize() changes it", async () => {
  const file = fileWith(pattern(5000));
  const serve = `
    chain.write<u64>(image.size);
    chain.write<u8>(image.setSize(123) ? 1 : 0);
    chain.write<u64>(image.size);
    chain.write<u32>(image.errno);`;
  const device = await granted({ top: RW, serve }, fileGrant(file, "read", "write"));
  const [reply] = device.ask({ id: 1, capacity: 32 });
  const view = new DataView(reply!.bytes.buffer, reply!.bytes.byteOffset);
  assert.equal([view.getBigUint64(0, true), view.getUint8(8)], [5000n, 1]);
  assert.equal([view.getBigUint64(9, true), view.getUint32(17, true)], [123n, 0]);
  assert.is(fs.statSync(file).size, 123);
});

test("File.setSize() and its like leave ENOTCAPABLE in a file to be read", async () => {
  const serve = `
    image.setSize(1); chain.write<u32>(image.errno);
    image.datasync(); chain.write<u32>(image.errno);
    image.sync(); chain.write<u32>(image.errno);`;
  const file = fileWith(pattern(9));
  const device = await granted({ top: RW, serve }, fileGrant(file, "read"));
  const [reply] = device.ask({ id: 1, capacity: 12 });
  assert.equal([...reply!.bytes], [76, 0, 0, 0, 76, 0, 0, 0, 76, 0, 0, 0]);
});

test("Chain moves bytes from and to a file at an offset", async () => {
  const file = fileWith(pattern(100));
  const serve = `
    const offset = chain.read<u64>();
    chain.write<u32>(chain.readIntoAt(image, offset, chain.readable));
    assert(image.datasync() && image.sync());
    chain.writeFromAt(image, offset - 1, 6);`;
  const device = await granted({ top: RW, serve }, fileGrant(file, "read", "write"));
  const readable = Uint8Array.of(50, 0, 0, 0, 0, 0, 0, 0, 201, 202, 203, 204);
  const [reply] = device.ask({ id: 1, readable, capacity: 64 });
  const around = pattern(100);
  assert.equal([...reply!.bytes], [4, 0, 0, 0, around[49]!, 201, 202, 203, 204, around[54]!]);
});

test("Chain.writeFromAt() ends where the file does", async () => {
  const serve = "chain.writeFromAt(image, 90, chain.writable);";
  const device = await granted(
    { top: RW, serve },
    fileGrant(fileWith(pattern(100)), "read", "write"),
  );
  const [reply] = device.ask({ id: 1, capacity: 64 });
  assert.equal(reply?.bytes, pattern(100).slice(90));
});

test("a file that is granted for appending is written at its end", async () => {
  const file = fileWith(pattern(10));
  const top = "const image = capability.file('image', Rights.Append);";
  const serve = "chain.readInto(image, chain.readable); chain.write<u32>(image.errno);";
  const device = await granted({ top, serve }, fileGrant(file, "append"));
  device.ask({ id: 1, readable: Uint8Array.of(1), capacity: 4 });
  fs.appendFileSync(file, Uint8Array.of(2));
  device.ask({ id: 2, readable: Uint8Array.of(3), capacity: 4 });
  assert.equal([...fs.readFileSync(file).subarray(10)], [1, 2, 3]);
});

test("Descriptor.readBytes() and writeBytes() refuse what leaves the buffer", async () => {
  for (const [offset, bytes, traps] of [
    [0, 8, false],
    [8, 0, false],
    [1, 8, true],
    [9, 0, true],
    [4_294_967_295, 2, true],
  ] as const) {
    for (const call of ["readBytes", "writeBytes"]) {
      const serve = `image.${call}(buffer, <u32>${offset}, ${bytes});`;
      const top = `${RW} const buffer = new StaticArray<u8>(8);`;
      const file = fileWith(pattern(20));
      const device = await granted({ top, serve }, fileGrant(file, "read", "write"));
      device.send([{ id: 1 }]);
      assert.is(device.receive()[0]?.text === "serve: unreachable", traps, `${call} ${offset}`);
    }
  }
});

test("Random gives numbers and fills buffers", async () => {
  const top = `
    const random = capability.random("entropy");
    const buffer = new StaticArray<u8>(16);`;
  const serve = `
    chain.write<u64>(random.next<u64>());
    assert(random.fill(buffer));
    for (let i = 0; i < 16; i++) chain.write<u8>(buffer[i]);`;
  const entropy: GrantSpec = { kind: "random", what: "urandom", rights: ["read"] };
  const device = await granted({ top, serve }, { entropy });
  const replies = [1, 2].flatMap((id) => device.ask({ id, capacity: 24 }));
  const [first, second] = replies.map(({ bytes }) => Buffer.from(bytes).toString("hex"));
  assert.is(first?.length, 48);
  assert.is.not(first, second);
  assert.is.not(first?.slice(0, 16), "0".repeat(16));
});

const PORT = "const port = capability.unix('port', Rights.Connect | Rights.Listen);";
/** Answers with accept() and errno, then what the peer said; sends the request to the peer. */
const TALK = `
  chain.write<u8>(port.accept() ? 1 : 0);
  chain.write<u32>(port.errno);
  chain.readInto(port, chain.readable);
  chain.write<u32>(port.errno);
  chain.writeFrom(port, chain.writable);`;

function unixGrant(what: string, right: "connect" | "listen"): Record<string, GrantSpec> {
  return { port: { kind: "unix", what, rights: [right] } };
}

/** The other end of a connection to a device. */
function visitor(what: string): number {
  return openGrants([{ name: "visitor", ...unixGrant(what, "connect").port! }])[0]!.fd;
}

function heard(fd: number): string {
  const buffer = Buffer.alloc(64);
  return buffer.toString("latin1", 0, fs.readSync(fd, buffer));
}

const AGAIN = 6;
const BADF = 8;

test("Unix.accept() takes who connects, one at a time, and read() does not wait", async () => {
  const what = path.join(directory, "listen.socket");
  const top = PORT;
  const serve = `if (chain.readable == 0) port.close(); ${TALK}`;
  const device = await granted({ top, serve }, unixGrant(what, "listen"));
  const ask = (text: string) => {
    const [reply] = device.ask({ id: 1, readable: Buffer.from(text), capacity: 64 });
    const bytes = Buffer.from(reply!.bytes);
    return [bytes[0], bytes.readUInt32LE(1), bytes.readUInt32LE(5), bytes.toString("latin1", 9)];
  };
  assert.equal(ask("nobody"), [0, AGAIN, BADF, ""]);
  const first = visitor(what);
  const second = visitor(what);
  fs.writeSync(second, "I am next");
  assert.equal(ask("hello"), [1, 0, 0, ""]);
  assert.is(heard(first), "hello");
  fs.writeSync(first, "and you");
  assert.equal(ask("?"), [1, 0, 0, "and you"]);
  // An empty request ends the connection, and the next is taken.
  assert.equal(ask(""), [1, 0, 0, "I am next"]);
  assert.equal(heard(first), "?");
  assert.equal(heard(first), "", "the first was not told that it is over");
  assert.equal(ask(""), [0, AGAIN, AGAIN, ""]);
  for (const fd of [first, second]) fs.closeSync(fd);
});

test("Unix.accept() finds the peer there where the user granted a connection", async () => {
  const what = path.join(directory, "connect.socket");
  const listener = openGrants([{ name: "peer", ...unixGrant(what, "listen").port! }])[0]!.fd;
  const device = await granted({ top: PORT, serve: TALK }, unixGrant(what, "connect"));
  const accepted = accept(listener);
  fs.writeSync(accepted, "welcome");
  const [reply] = device.ask({ id: 1, readable: Buffer.from("it is me"), capacity: 64 });
  const NOTCAPABLE = 76;
  assert.equal([...reply!.bytes.subarray(0, 9)], [1, NOTCAPABLE, 0, 0, 0, 0, 0, 0, 0]);
  assert.is(Buffer.from(reply!.bytes).toString("latin1", 9), "welcome");
  assert.is(heard(accepted), "it is me");
  for (const fd of [accepted, listener]) fs.closeSync(fd);
});

test("a module that only connects links nothing that accepts", async () => {
  const top = "const port = capability.unix('port', Rights.Connect);";
  const source = granted({ top, serve: TALK }, {});
  assert.match(await source.then(String, String), /sock_accept, no capability in its manifest/);
});

test("Tty reads what is typed and writes to the terminal", async () => {
  const { master, name } = freeTerminal();
  const top = "const line = capability.tty('line', Rights.Read | Rights.Write);";
  const serve = `
    chain.readInto(line, chain.readable);
    chain.writeFrom(line, chain.writable - 1);
    chain.write<u8>(line.again ? 1 : 0);`;
  const line: GrantSpec = { kind: "tty", what: name, rights: ["read", "write"] };
  const device = await granted({ top, serve }, { line });
  fs.writeSync(master, "abc\n");
  const [reply] = device.ask({ id: 1, readable: Buffer.from("login: "), capacity: 64 });
  assert.is(Buffer.from(reply!.bytes).toString("latin1"), "abc\n\x01");
  // The terminal echoes what is typed, before or after that.
  for (let text = ""; !text.includes("login: "); ) text += heard(master);
  fs.closeSync(master);
});

/** Sends the request as a frame and answers with the next one that came, if any. */
const TAP = {
  top: "const net = capability.tap('net');",
  serve: "chain.readInto(net, chain.readable); chain.writeFrom(net, chain.writable);",
};

test("Tap sends and receives whole frames, one at a time", async () => {
  const reason = whyNoTap();
  if (reason !== undefined) return skip(reason);
  const net: GrantSpec = { kind: "tap", what: newTap(), rights: ["read", "write"] };
  const device = await granted(TAP, { net });
  const frames: Uint8Array[] = [];
  const ask = (readable: Uint8Array, capacity: number) =>
    frames.push(...device.ask({ id: 1, readable, capacity }).map(({ bytes }) => bytes));
  const answer = await untilAnswered(
    () => ask(arpRequest(), 2000),
    () => {
      ask(new Uint8Array(0), 2000);
      return frames;
    },
  );
  assert.is(answer?.length, 42);
});

test.run();
