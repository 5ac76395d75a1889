// What a transfer in Wasm does by itself, and what it leaves to JavaScript: everything that is not
// plain. If it did one of those, the kernel would follow a pointer out of the device's memory.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { FILES_MAX } from "../../host/runtime/assembly/granted.js";
import { IO_BYTES_MAX } from "../../host/runtime/assembly/limits.js";
import { ERRNO_BADF, ERRNO_SUCCESS } from "../../host/runtime/errno.js";
import { LinearMemory } from "../../host/runtime/linear-memory.js";
import { TRANSFER_NAMES, type TransferName, Transfers } from "../../host/runtime/transfers.js";
import { WASI_FD_FIRST } from "../../host/sandbox/grants.js";
import { CAPABILITIES_MAX } from "../../host/sandbox/manifest.js";
import { pattern } from "./support.js";

const PAGE = 65536;
const PAGES = 17; // more than IO_BYTES_MAX
const END = PAGES * PAGE;
const [IOVEC, COUNT, BUFFER] = [16, 8, 4096];
/** What the functions in JavaScript return here. */
const SLOW = 99;
/** Descriptors of the device: a file, one that is open no more, and others. */
const [FILE, CLOSED, SOCKET, USELESS, NOT_GRANTED] = [3, 4, 5, 6, 7];

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-transfers-"));
const file = path.join(directory, "file");
test.after(() => fs.rmSync(directory, { recursive: true }));

interface Call {
  fd?: number;
  iovec?: number;
  iovecs?: number;
  pointer?: number;
  bytes?: number;
  offset?: bigint;
  count?: number;
}

function rig() {
  fs.writeFileSync(file, pattern(100));
  const memory = new WebAssembly.Memory({ initial: PAGES, maximum: 64 });
  const slow = Object.fromEntries(TRANSFER_NAMES.map((name) => [name, () => SLOW]));
  const fd = fs.openSync(file, "r+");
  const closed = fs.openSync(file, "r+");
  fs.closeSync(closed);
  const functions = new Set<string>(TRANSFER_NAMES);
  const files = [];
  files[FILE] = { fd, functions, isPlain: true };
  files[CLOSED] = { fd: closed, functions, isPlain: true };
  files[SOCKET] = { fd, functions, isPlain: false };
  files[FILES_MAX] = { fd, functions, isPlain: true };
  files[USELESS] = { fd, functions: new Set<string>(), isPlain: true };
  const transfers = new Transfers(slow as Record<TransferName, () => number>, files);
  transfers.attach(memory);
  const linear = new LinearMemory(memory);
  transfers.follow(linear);
  const made = transfers.functions as unknown as Record<
    TransferName,
    (...parameters: (number | bigint)[]) => number
  >;
  const call = (name: TransferName, options: Call = {}) => {
    const { iovec = IOVEC, iovecs = 1, pointer = BUFFER, bytes = 10, count = COUNT } = options;
    const view = new DataView(memory.buffer);
    if (iovec >= 0 && iovec + 8 <= END) {
      view.setUint32(iovec, pointer, true);
      view.setUint32(iovec + 4, bytes, true);
    }
    const at = name.startsWith("fd_p") ? [options.offset ?? 0n] : [];
    return made[name](options.fd ?? FILE, iovec, iovecs, ...at, count);
  };
  const counted = () => new DataView(memory.buffer).getUint32(COUNT, true);
  const bytes = (at: number, size: number) => new Uint8Array(memory.buffer).slice(at, at + size);
  return { memory, linear, transfers, call, counted, bytes, close: () => fs.closeSync(fd) };
}

test("Transfers does what is plain by itself", () => {
  const { call, counted, bytes, memory, close } = rig();
  assert.is(call("fd_pread", { offset: 95n }), ERRNO_SUCCESS);
  assert.is(counted(), 5);
  assert.equal(bytes(BUFFER, 5), pattern(100).slice(95));
  assert.is(call("fd_read", { pointer: END - 10 }), ERRNO_SUCCESS);
  assert.equal(bytes(END - 10, 10), pattern(10));
  new Uint8Array(memory.buffer).fill(7, BUFFER, BUFFER + 10);
  assert.is(call("fd_pwrite", { offset: 50n }), ERRNO_SUCCESS);
  assert.is(call("fd_write", { iovec: END - 8 }), ERRNO_SUCCESS);
  assert.is(call("fd_read", { bytes: IO_BYTES_MAX, pointer: 0 }), ERRNO_SUCCESS);
  const expected = pattern(100).fill(7, 10, 20).fill(7, 50, 60);
  assert.equal(Uint8Array.from(fs.readFileSync(file)), expected);
  close();
});

test("Transfers translates the errno of a call that fails", () => {
  const { call, close } = rig();
  for (const name of TRANSFER_NAMES) assert.is(call(name, { fd: CLOSED }), ERRNO_BADF, name);
  close();
});

/** Each alone is what makes a call that is plain otherwise one for JavaScript. */
const ODD: Readonly<Record<string, Call>> = {
  "no iovec": { iovecs: 0 },
  "two iovecs": { iovecs: 2 },
  "4294967295 iovecs": { iovecs: -1 },
  "an iovec across the end": { iovec: END - 7 },
  "an iovec at the end of all addresses": { iovec: -8 },
  "a count across the end": { count: END - 3 },
  "a count at the end of all addresses": { count: -4 },
  "an empty buffer": { bytes: 0 },
  "a buffer of more than IO_BYTES_MAX": { bytes: IO_BYTES_MAX + 1, pointer: 0 },
  "a buffer across the end": { pointer: END - 9 },
  "a buffer behind the end": { pointer: END, bytes: 1 },
  "a buffer that wraps around": { pointer: 0xffff_fff0, bytes: 32 },
  "a buffer as long as everything": { pointer: 0, bytes: 0xffff_ffff },
  "a descriptor that was not granted": { fd: NOT_GRANTED },
  "a descriptor with another end": { fd: SOCKET },
  "a descriptor without the right": { fd: USELESS },
  "the log": { fd: 2 },
  "a descriptor behind those that are looked up": { fd: FILES_MAX },
  "the first descriptor, whose words are behind another function's": { fd: 0 },
  "a negative descriptor": { fd: -1 },
};

for (const [what, options] of Object.entries(ODD)) {
  test(`Transfers leaves ${what} to JavaScript`, () => {
    const { call, close } = rig();
    for (const name of TRANSFER_NAMES) assert.is(call(name, options), SLOW, name);
    assert.equal(Uint8Array.from(fs.readFileSync(file)), pattern(100));
    close();
  });
}

test("Transfers looks up every descriptor that can be granted", () => {
  assert.ok(FILES_MAX >= WASI_FD_FIRST + CAPABILITIES_MAX);
});

test("Transfers is nothing for a device without a plain file", () => {
  const transfers = new Transfers({}, [undefined, { fd: 3, functions: new Set(), isPlain: false }]);
  transfers.attach(new WebAssembly.Memory({ initial: 1, maximum: 1 }));
  assert.equal(transfers.functions, {});
});

test("Transfers leaves an offset that is no exact number to JavaScript", () => {
  const { call, close } = rig();
  for (const offset of [2n ** 53n, -1n]) {
    assert.is(call("fd_pread", { offset }), SLOW);
    assert.is(call("fd_pwrite", { offset }), SLOW);
  }
  close();
});

test("Transfers leaves a memory that has grown to JavaScript, until it is told", () => {
  const { call, memory, linear, transfers, bytes, close } = rig();
  memory.grow(1);
  for (const name of TRANSFER_NAMES) assert.is(call(name), SLOW, name);
  linear.update();
  transfers.follow(linear);
  assert.is(call("fd_pread", { pointer: END, bytes: 100 }), ERRNO_SUCCESS);
  assert.equal(bytes(END, 100), pattern(100));
  close();
});

test.run();
