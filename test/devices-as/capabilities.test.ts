// What the SDK's capabilities do, over descriptors that are really granted.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileDevice } from "../../host/author/device.js";
import { GrantedFiles } from "../../host/runtime/wasi_snapshot_preview1.js";
import { openGrants } from "../../host/sandbox/grant-open.js";
import { type GrantSpec, resolveGrants } from "../../host/sandbox/grants.js";
import { Conversation, pattern } from "../runtime/support.js";

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

test.run();
