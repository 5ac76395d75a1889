// What the SDK's Directory does: over a directory of the host, and over one in memory alike.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileDevice } from "../../host/author/device.js";
import { GrantedFiles } from "../../host/runtime/wasi_snapshot_preview1.js";
import { openGrants } from "../../host/sandbox/grant-open.js";
import { resolveGrants } from "../../host/sandbox/grants.js";
import { directory as inMemory, openDevice } from "../../host/testing/main.js";
import { Conversation } from "../runtime/support.js";

const root = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-directory-"));
test.after(() => fs.rmSync(root, { recursive: true }));

const TOP = `
  import { capability, Chain, Device, DirectoryFile, How, register, Rights } from "bulkhead/sdk";
  const files = capability.directory("files", Rights.Read | Rights.Write);
  const file = new DirectoryFile();
  const name = new StaticArray<u8>(255);
  const others: StaticArray<DirectoryFile> = [
    new DirectoryFile(), new DirectoryFile(), new DirectoryFile(), new DirectoryFile(),
    new DirectoryFile(), new DirectoryFile(), new DirectoryFile(), new DirectoryFile(),
  ];`;

/** Serves a request whose readable bytes are a name. */
async function build(serve: string): Promise<Awaited<ReturnType<typeof compileDevice>>> {
  const source = `${TOP}
    class Test extends Device {
      constructor() { super(42, [8]); }
      serve(queue: u32, chain: Chain): void {
        const bytes = chain.readable;
        for (let i: u32 = 0; i < bytes; i++) name[i] = chain.read<u8>();
        ${serve}
      }
    }
    register(new Test());`;
  return compileDevice("/nowhere/test.ts", { source });
}

type Ask = (name: string) => string;

/** A device on a real directory with these files, and one on the same in memory. */
async function both(
  serve: string,
  files: Record<string, string>,
  word: "ro" | "rw" = "rw",
): Promise<{ what: string; ask: Ask; read(name: string): string | undefined }[]> {
  const { module, manifest } = await build(serve);
  const what = fs.mkdtempSync(path.join(root, "files-"));
  fs.chmodSync(what, 0o777);
  for (const [name, contents] of Object.entries(files)) {
    fs.writeFileSync(path.join(what, name), contents);
  }
  const rights = word === "ro" ? ["read" as const] : ["read" as const, "write" as const];
  const grants = openGrants(resolveGrants(manifest, { files: { kind: "dir", what, rights } }));
  const real = Conversation.started(module, new GrantedFiles(manifest, grants));
  const memory = inMemory(files, word);
  const mock = await openDevice(module, { files: memory });
  mock.negotiate();
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");
  return [
    {
      what,
      ask: (name) =>
        text(real.ask({ id: 1, readable: Buffer.from(name), capacity: 256 })[0]!.bytes),
      read: (name) => {
        const file = path.join(what, name);
        return fs.existsSync(file) ? fs.readFileSync(file, "latin1") : undefined;
      },
    },
    {
      what: memory.what,
      ask: (name) => text(mock.request(0, Buffer.from(name), 256)),
      read: (name) => {
        const found = memory.files.get(name);
        return found === undefined ? undefined : text(found.bytes);
      },
    },
  ];
}

test("Directory opens a file by name, and says why it cannot", async () => {
  const serve = `
    if (files.openBytes(file, name, bytes)) chain.writeFrom(file, chain.writable);
    else chain.write<u8>(<u8>file.errno);`;
  const [NOENT, NOTCAPABLE] = ["\x2c", "\x4c"];
  for (const { ask } of await both(serve, { a: "contents of a", b: "" })) {
    assert.is(ask("a"), "contents of a");
    assert.is(ask("b"), "");
    assert.is(ask("c"), NOENT);
    for (const name of [
      "..",
      "../a",
      "/a",
      "a/..",
      "./../a",
      "a//b",
      "a\0",
      "",
      "x".repeat(2000),
    ]) {
      if (name.length < 250) assert.is(ask(name), NOTCAPABLE, name);
    }
  }
});

test("Directory makes, appends to and removes files", async () => {
  const serve = `
    assert(files.openBytes(file, name, bytes, How.Write | How.New), "made");
    file.writeBytes(name, 0, bytes);
    assert(!files.openBytes(file, name, bytes, How.Write | How.New), "there already");
    assert(files.openBytes(file, name, bytes, How.Append), "append");
    file.writeBytes(name, 0, bytes);
    file.close();
    assert(!file.isOpen && file.size == 0);
    assert(files.open(file, "old", How.Read | How.Write | How.Truncate) && file.size == 0);
    assert(files.remove("gone") && !files.remove("gone"), "removed once");
    chain.write<u32>(files.errno);`;
  for (const { ask, read } of await both(serve, { old: "old", gone: "gone" })) {
    assert.is(ask("new"), "\x2c\0\0\0");
    assert.is(read("new"), "newnew");
    assert.is(read("old"), "");
    assert.is(read("gone"), undefined);
  }
});

test("Directory that is granted for reading changes nothing", async () => {
  const serve = `
    chain.write<u8>(files.open(file, "a", How.Write) ? 1 : <u8>file.errno);
    chain.write<u8>(files.open(file, "a", How.Create) ? 1 : <u8>file.errno);
    chain.write<u8>(files.open(file, "a", How.Truncate) ? 1 : <u8>file.errno);
    chain.write<u8>(files.remove("a") ? 1 : <u8>files.errno);
    chain.write<u8>(files.open(file, "a") ? 1 : 0);
    chain.write<u8>(file.writeBytesAt(0, name, 0, 1) == 0 ? <u8>file.errno : 1);`;
  for (const { ask, read } of await both(serve, { a: "a" }, "ro")) {
    assert.is(ask("?"), "\x4c\x4c\x4c\x4c\x01\x4c");
    assert.is(read("a"), "a");
  }
});

test("Directory lists every name once, however many there are", async () => {
  const serve = `
    assert(files.list());
    let count: u32 = 0;
    let sum: u32 = 0;
    while (files.next(name)) {
      count++;
      for (let i: u32 = 0; i < files.nameBytes; i++) sum += name[i];
      assert(!files.isDirectory);
    }
    chain.write<u32>(count);
    chain.write<u32>(sum);`;
  const names = Array.from({ length: 300 }, (_, i) => `${"n".repeat(i % 200)}${i}`);
  const sum = names.reduce((all, name) => all + Buffer.from(name).reduce((a, b) => a + b, 0), 0);
  const files = Object.fromEntries(names.map((name) => [name, ""]));
  for (const { ask } of await both(serve, files)) {
    for (let twice = 0; twice < 2; twice++) {
      const reply = Buffer.from(ask("?"), "latin1");
      assert.equal([reply.readUInt32LE(0), reply.readUInt32LE(4)], [300, sum]);
    }
  }
});

test("Directory has eight files open and no more, and closes one for another", async () => {
  const serve = `
    let open: u8 = 0;
    for (let i = 0; i < 8; i++) if (files.open(others[i], "a")) open++;
    chain.write<u8>(open);
    chain.write<u8>(files.open(file, "a") ? 1 : <u8>file.errno);
    others[3].close();
    chain.write<u8>(files.open(file, "a") ? 1 : 0);`;
  const MFILE = 33;
  for (const { ask } of await both(serve, { a: "a" })) {
    assert.equal([...Buffer.from(ask("?"), "latin1")], [8, MFILE, 1]);
  }
});

test("Directory opens nothing but files and directories, and follows no link", async () => {
  const serve = `
    chain.write<u8>(files.openBytes(file, name, bytes) ? 1 : <u8>file.errno);`;
  const [real] = await both(serve, { a: "a" });
  fs.symlinkSync("a", path.join(real!.what, "link"));
  execFileSync("mkfifo", [path.join(real!.what, "fifo")]);
  const [LOOP, NOTCAPABLE] = [32, 76];
  assert.is(real!.ask("link").charCodeAt(0), LOOP);
  assert.is(real!.ask("fifo").charCodeAt(0), NOTCAPABLE);
});

test.run();
