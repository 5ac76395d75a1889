import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { IO_BYTES_MAX } from "../../host/runtime/assembly/limits.js";
import {
  ERRNO_BADF,
  ERRNO_FAULT,
  ERRNO_INVAL,
  ERRNO_IO,
  ERRNO_NOTCAPABLE,
  ERRNO_SUCCESS,
} from "../../host/runtime/errno.js";
import { writeFilestat } from "../../host/runtime/file-calls.js";
import { LinearMemory } from "../../host/runtime/linear-memory.js";
import { GrantedFiles, IOVECS_MAX } from "../../host/runtime/wasi_snapshot_preview1.js";
import { NO_FD } from "../../host/sandbox/grants.js";
import type { GrantKind, Right } from "../../host/sandbox/manifest.js";
import { freeTerminal } from "../support/terminal.js";
import { manifest, pattern } from "./support.js";

const PAGE = 65536;
const EISDIR = 31;
const IOVS = 16;
const COUNT = 8;

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-wasi-"));
test.after(() => fs.rmSync(directory, { recursive: true }));

/** All that a world needs of an instance. */
function instanceWith(memory: WebAssembly.Memory): WebAssembly.Instance {
  return { exports: { memory } };
}

type Call = (...parameters: (number | bigint)[]) => number;

/** A module's view of the world: fd 3 is `file`, fd 4 was not granted. */
class Guest {
  readonly memory: WebAssembly.Memory;
  readonly files: GrantedFiles;
  /** The functions as a module has them: what is plain, a transfer does without JavaScript. */
  readonly calls: Record<string, Call>;
  readonly fd: number;

  constructor(
    file: string,
    rights: Right[] = ["read", "write"],
    pages = 1,
    kind: GrantKind = "file",
  ) {
    this.fd = fs.openSync(file, rights.includes("read") && rights.length === 1 ? "r" : "r+");
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: 64 });
    const capability = { kind, rights, required: false };
    const names = [
      { ...capability, name: "image" },
      { ...capability, name: "log" },
    ];
    const grants = [{ name: "image", kind, rights, fd: this.fd }];
    this.files = new GrantedFiles(manifest({ capabilities: names }), grants);
    this.calls = this.files.link() as unknown as Record<string, Call>;
    this.files.attach(instanceWith(this.memory), new LinearMemory(this.memory));
  }

  get view(): DataView {
    return new DataView(this.memory.buffer);
  }

  /** Writes iovecs to IOVS and returns their number. */
  iovecs(...pairs: [pointer: number, bytes: number][]): number {
    for (const [i, [pointer, bytes]] of pairs.entries()) {
      this.view.setUint32(IOVS + i * 8, pointer, true);
      this.view.setUint32(IOVS + i * 8 + 4, bytes, true);
    }
    return pairs.length;
  }

  read(...pairs: [pointer: number, bytes: number][]): number {
    return this.calls.fd_read!(3, IOVS, this.iovecs(...pairs), COUNT);
  }

  get count(): number {
    return this.view.getUint32(COUNT, true);
  }

  bytes(from: number, count: number): Uint8Array {
    return new Uint8Array(this.memory.buffer).slice(from, from + count);
  }
}

/** A file with these bytes. */
function fileWith(bytes: Uint8Array): string {
  const file = path.join(directory, `${fs.readdirSync(directory).length}`);
  fs.writeFileSync(file, bytes);
  return file;
}

test("fd_read() reads to the pointer and counts, from where the last call ended", () => {
  const guest = new Guest(fileWith(pattern(100)));
  assert.is(guest.read([1001, 60]), ERRNO_SUCCESS);
  assert.is(guest.count, 60);
  assert.equal(guest.bytes(1001, 60), pattern(100).slice(0, 60));
  assert.is(guest.read([1001, 60]), ERRNO_SUCCESS);
  assert.is(guest.count, 40);
  assert.is(guest.read([1001, 60]), ERRNO_SUCCESS);
  assert.is(guest.count, 0);
});

test("fd_read() fills the first iovec that is not empty, and no more", () => {
  const guest = new Guest(fileWith(pattern(100)));
  assert.is(guest.read([5000, 0], [6000, 10], [7000, 10]), ERRNO_SUCCESS);
  assert.is(guest.count, 10);
  assert.equal(guest.bytes(6000, 10), pattern(10));
  assert.equal(guest.bytes(7000, 10), new Uint8Array(10));
});

test("fd_read() refuses a pointer or a length that leaves the memory, and reads nothing", () => {
  const guest = new Guest(fileWith(pattern(100)));
  const wild: [number, number][] = [
    [PAGE - 9, 10],
    [PAGE, 1],
    [0xffffffff, 1],
    [0, 0xffffffff],
    [0xfffffff0, 0xfffffff0],
  ];
  for (const pair of wild) assert.is(guest.read(pair), ERRNO_FAULT, `${pair}`);
  assert.is(guest.read([PAGE - 10, 10]), ERRNO_SUCCESS);
  assert.equal(guest.bytes(PAGE - 10, 10), pattern(10));
});

test("fd_read() refuses an iovec array that leaves the memory, or is too long", () => {
  const guest = new Guest(fileWith(pattern(100)));
  assert.is(guest.calls.fd_read!(3, PAGE - 7, 1, COUNT), ERRNO_FAULT);
  assert.is(guest.calls.fd_read!(3, -8, 1, COUNT), ERRNO_FAULT);
  assert.is(guest.calls.fd_read!(3, 0, IOVECS_MAX + 1, COUNT), ERRNO_INVAL);
  assert.is(guest.calls.fd_read!(3, 0, -1, COUNT), ERRNO_INVAL);
});

test("fd_read() refuses a count that cannot be stored before it loses bytes", () => {
  const guest = new Guest(fileWith(pattern(100)));
  guest.iovecs([1000, 10]);
  assert.is(guest.calls.fd_read!(3, IOVS, 1, PAGE - 3), ERRNO_FAULT);
  assert.is(guest.read([1000, 10]), ERRNO_SUCCESS);
  assert.equal(guest.bytes(1000, 10), pattern(10));
});

test("fd_read() knows the memory as it is after growing", () => {
  const guest = new Guest(fileWith(pattern(100)));
  assert.is(guest.read([PAGE, 10]), ERRNO_FAULT);
  guest.memory.grow(1);
  assert.is(guest.read([PAGE, 10]), ERRNO_SUCCESS);
  assert.equal(guest.bytes(PAGE, 10), pattern(10));
});

test("fd_read() cuts a transfer at IO_BYTES_MAX", () => {
  const guest = new Guest("/dev/zero", ["read"], 64);
  assert.is(guest.read([PAGE, 2 * IO_BYTES_MAX]), ERRNO_SUCCESS);
  assert.is(guest.count, IO_BYTES_MAX);
});

test("fd_read() and fd_write() know granted descriptors only", () => {
  const guest = new Guest(fileWith(pattern(100)));
  guest.iovecs([1000, 10]);
  for (const fd of [-1, 0, 1, 2, 4, 5, guest.fd + 1000]) {
    assert.is(guest.calls.fd_read!(fd, IOVS, 1, COUNT), ERRNO_BADF, `fd ${fd}`);
    if (fd !== 2) assert.is(guest.calls.fd_write!(fd, IOVS, 1, COUNT), ERRNO_BADF, `fd ${fd}`);
  }
});

test("fd_write() and fd_pwrite() refuse a descriptor granted for reading", () => {
  const guest = new Guest(fileWith(pattern(100)), ["read"]);
  guest.iovecs([1000, 10]);
  assert.is(guest.calls.fd_write!(3, IOVS, 1, COUNT), ERRNO_NOTCAPABLE);
  assert.is(guest.calls.fd_pwrite!(3, IOVS, 1, 0n, COUNT), ERRNO_NOTCAPABLE);
});

test("fd_read() and fd_pread() refuse a descriptor granted for writing", () => {
  const guest = new Guest(fileWith(pattern(100)), ["write"]);
  guest.iovecs([1000, 10]);
  assert.is(guest.calls.fd_read!(3, IOVS, 1, COUNT), ERRNO_NOTCAPABLE);
  assert.is(guest.calls.fd_pread!(3, IOVS, 1, 0n, COUNT), ERRNO_NOTCAPABLE);
});

test("fd_read() returns WASI's errno, which is not Linux's", () => {
  const guest = new Guest(directory, ["read"]);
  assert.is(guest.read([1000, 10]), EISDIR);
  assert.is.not(os.constants.errno.EISDIR, EISDIR);
});

test("fd_write(), fd_pwrite() and fd_pread() move bytes of the memory", () => {
  const file = fileWith(pattern(20));
  const guest = new Guest(file);
  new Uint8Array(guest.memory.buffer).set([101, 102, 103, 104], 1000);
  guest.iovecs([1000, 2]);
  assert.is(guest.calls.fd_write!(3, IOVS, 1, COUNT), ERRNO_SUCCESS);
  assert.is(guest.count, 2);
  guest.iovecs([1002, 2]);
  assert.is(guest.calls.fd_pwrite!(3, IOVS, 1, 18n, COUNT), ERRNO_SUCCESS);
  guest.iovecs([2000, 50]);
  assert.is(guest.calls.fd_pread!(3, IOVS, 1, 17n, COUNT), ERRNO_SUCCESS);
  assert.equal([...guest.bytes(2000, guest.count)], [pattern(18)[17], 103, 104]);
  assert.equal([...fs.readFileSync(file).subarray(0, 3)], [101, 102, pattern(3)[2]]);
});

test("fd_pread() refuses a negative offset", () => {
  const guest = new Guest(fileWith(pattern(20)));
  guest.iovecs([1000, 2]);
  assert.is(guest.calls.fd_pread!(3, IOVS, 1, -1n, COUNT), ERRNO_INVAL);
});

/** Where a `filestat` goes. */
const STAT_AT = 3000;

test("fd_filestat_get() tells type, size and time of a file", () => {
  const file = fileWith(pattern(777));
  fs.utimesSync(file, 1000, 2000.5);
  const guest = new Guest(file, ["read"]);
  assert.is(guest.files.fd_filestat_get(3, STAT_AT), ERRNO_SUCCESS);
  const word = (index: number) => guest.view.getBigUint64(STAT_AT + index * 8, true);
  const { dev, ino } = fs.statSync(file, { bigint: true });
  assert.equal([0, 1, 2, 3, 4].map(word), [dev, ino, 4n, 1n, 777n]);
  assert.equal([5, 6].map(word), [1000_000_000_000n, 2000_500_000_000n]);
});

test("fd_filestat_get() writes all 64 bytes inside the memory or none", () => {
  const guest = new Guest(fileWith(pattern(9)), ["read"]);
  assert.is(guest.files.fd_filestat_get(3, PAGE - 63), ERRNO_FAULT);
  assert.is(guest.files.fd_filestat_get(3, -8), ERRNO_FAULT);
  assert.equal(guest.bytes(PAGE - 63, 63), new Uint8Array(63));
  assert.is(guest.files.fd_filestat_get(3, PAGE - 64), ERRNO_SUCCESS);
});

test("fd_filestat_get() tells rows and columns of a terminal, whatever they are", () => {
  const { name, resize } = freeTerminal();
  const guest = new Guest(name, ["read", "write"], 1, "tty");
  for (const [rows, columns] of [
    [0, 0],
    [25, 80],
    [0xffff, 0xfffe],
  ] as const) {
    resize(rows, columns);
    assert.is(guest.files.fd_filestat_get(3, STAT_AT), ERRNO_SUCCESS);
    const word = (index: number) => guest.view.getBigUint64(STAT_AT + index * 8, true);
    assert.equal([0, 1, 2, 3, 4, 5].map(word), [
      0n,
      0n,
      2n,
      0n,
      (BigInt(rows) << 16n) | BigInt(columns),
      0n,
    ]);
  }
  assert.is(guest.files.fd_filestat_get(3, PAGE - 63), ERRNO_FAULT);
});

test("fd_filestat_get() takes the size of a block device from who opened it", () => {
  const stat = new DataView(new ArrayBuffer(144));
  stat.setUint32(24, 0o060660, true); // st_mode: S_IFBLK
  const view = new DataView(new ArrayBuffer(64));
  writeFilestat(stat, 4096, { view, at: 0 });
  assert.equal([view.getUint8(16), view.getBigUint64(32, true)], [1, 4096n]);
});

test("fd_filestat_set_size() makes a file larger and smaller, where it may be written", () => {
  const file = fileWith(pattern(20));
  const guest = new Guest(file);
  for (const bytes of [4096, 3]) {
    assert.is(guest.files.fd_filestat_set_size(3, BigInt(bytes)), ERRNO_SUCCESS);
    assert.is(fs.statSync(file).size, bytes);
  }
  assert.is(guest.files.fd_filestat_set_size(3, -1n), ERRNO_INVAL);
  const reader = new Guest(file, ["read"]);
  assert.is(reader.files.fd_filestat_set_size(3, 0n), ERRNO_NOTCAPABLE);
  const appender = new Guest(file, ["append"]);
  assert.is(appender.files.fd_filestat_set_size(3, 0n), ERRNO_NOTCAPABLE);
  assert.is(fs.statSync(file).size, 3);
});

test("fd_datasync() and fd_sync() need a file that can be written", () => {
  const guest = new Guest(fileWith(pattern(20)));
  assert.equal([guest.files.fd_datasync(3), guest.files.fd_sync(3)], [0, 0]);
  const reader = new Guest(fileWith(pattern(20)), ["read"]);
  assert.is(reader.files.fd_datasync(3), ERRNO_NOTCAPABLE);
  assert.is(reader.files.fd_sync(3), ERRNO_NOTCAPABLE);
  assert.is(guest.files.fd_datasync(4), ERRNO_BADF);
});

/** A module's world with random:urandom, and with what else is at its descriptor. */
function randomGuest(source: string, pages = 1): Guest {
  return new Guest(source, ["read"], pages, "random");
}

test("random_get() fills all that was asked for, and nothing beside it", () => {
  const guest = randomGuest("/dev/urandom");
  assert.is(guest.files.random_get(1000, 300), ERRNO_SUCCESS);
  assert.ok(new Set(guest.bytes(1000, 300)).size > 100);
  assert.equal(guest.bytes(1300, 100), new Uint8Array(100));
  assert.is(guest.files.random_get(PAGE - 3, 4), ERRNO_FAULT);
  assert.is(guest.files.random_get(0, -1), ERRNO_FAULT);
});

test("random_get() fails where less comes than was asked for, and of more than 1 MiB", () => {
  const short = randomGuest(fileWith(pattern(10)));
  assert.is(short.files.random_get(1000, 11), ERRNO_IO);
  assert.is(randomGuest("/dev/zero", 32).files.random_get(0, IO_BYTES_MAX + 1), ERRNO_INVAL);
});

test("random_get() needs a grant of its own: a file that can be read is none", () => {
  const guest = new Guest("/dev/urandom", ["read"]);
  assert.is(guest.files.random_get(1000, 4), ERRNO_NOTCAPABLE);
  assert.equal(guest.bytes(1000, 4), new Uint8Array(4));
  assert.is(randomGuest("/dev/urandom").calls.fd_read!(3, 0, 0, COUNT), ERRNO_NOTCAPABLE);
});

/** A module's view of the world with one clock granted, or none; what a clock says goes to 16. */
function clocks(clock?: "monotonic" | "realtime"): {
  get(id: number, at?: number): number;
  time(): bigint;
} {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const grant = { name: "now", kind: "clock" as const, rights: ["read" as const], fd: NO_FD };
  const files = new GrantedFiles(manifest(), clock === undefined ? [] : [{ ...grant, clock }]);
  files.attach(instanceWith(memory), new LinearMemory(memory));
  return {
    get: (id, at = 16) => files.clock_time_get(id, 1n, at),
    time: () => new DataView(memory.buffer).getBigUint64(16, true),
  };
}

const [REALTIME, MONOTONIC] = [0, 1];

test("clock_time_get() reads the monotonic clock, which never goes back", () => {
  const clock = clocks("monotonic");
  const before = process.hrtime.bigint();
  assert.is(clock.get(MONOTONIC), ERRNO_SUCCESS);
  const time = clock.time();
  assert.ok(before <= time && time <= process.hrtime.bigint(), `${before} ${time}`);
});

test("clock_time_get() tells the time of day only where that was granted", () => {
  assert.is(clocks("monotonic").get(REALTIME), ERRNO_NOTCAPABLE);
  const clock = clocks("realtime");
  const before = BigInt(Date.now()) * 1_000_000n;
  assert.is(clock.get(REALTIME), ERRNO_SUCCESS);
  assert.ok(clock.time() >= before);
  assert.is(clock.get(MONOTONIC), ERRNO_SUCCESS);
});

test("clock_time_get() without a grant, or of another clock, is not permitted", () => {
  assert.is(clocks().get(MONOTONIC), ERRNO_NOTCAPABLE);
  for (const id of [2, 3, -1, 2 ** 31]) assert.is(clocks("realtime").get(id), ERRNO_NOTCAPABLE);
});

test("clock_time_get() refuses an address outside the memory", () => {
  for (const at of [PAGE - 7, PAGE, -1]) {
    assert.is(clocks("monotonic").get(MONOTONIC, at), ERRNO_FAULT);
  }
});

test.run();
