// What a device sees of a pseudo-terminal that was made for it, as people come and go.

import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DevicePty, OpenWatch } from "../../host/machine/device-pty.js";
import { ERRNO_AGAIN, ERRNO_IO, ERRNO_SUCCESS } from "../../host/runtime/errno.js";
import { LinearMemory } from "../../host/runtime/linear-memory.js";
import { GrantedFiles } from "../../host/runtime/wasi_snapshot_preview1.js";
import { manifest } from "../runtime/support.js";

const { O_RDWR, O_NOCTTY, O_NONBLOCK } = fs.constants;
const EMPTY = new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));
const FD = 3;
const IOVS = 16;
const COUNT = 8;
const AT = 1024;
const BYTES = 4096;
/** More than Linux keeps for a terminal that nobody reads (TTYB_DEFAULT_MEM_LIMIT is 640 KiB). */
const FULL_BYTES = 1024 * 1024;

/** A device's end, by the calls that its module makes. */
class Line {
  readonly watch = new OpenWatch();
  readonly pty = DevicePty.open(this.watch);
  readonly #memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  readonly #files: GrantedFiles;

  constructor(kind: "tty" | "unix") {
    const rights = kind === "tty" ? (["read", "write"] as const) : (["connect"] as const);
    const line = { name: "line", kind, rights: [...rights], fd: this.pty.master };
    const capabilities = [{ ...line, required: true }];
    this.#files = new GrantedFiles(manifest({ capabilities }), [line]);
    this.#files.attach(new WebAssembly.Instance(EMPTY), new LinearMemory(this.#memory));
  }

  #place(bytes: number): void {
    new Uint32Array(this.#memory.buffer, IOVS).set([AT, bytes]);
  }

  /** Writes; the errno. */
  write(bytes: number): number {
    this.#place(bytes);
    return this.#files.fd_write(FD, IOVS, 1, COUNT);
  }

  /** Reads text, or the errno. */
  read(): string | number {
    this.#place(BYTES);
    const errno = this.#files.fd_read(FD, IOVS, 1, COUNT);
    if (errno !== ERRNO_SUCCESS) return errno;
    const [count] = new Uint32Array(this.#memory.buffer, COUNT);
    return Buffer.from(this.#memory.buffer, AT, count).toString();
  }

  /** Writes until that fails; the errno. */
  fill(): number {
    for (let left = FULL_BYTES / BYTES; left > 0; left--) {
      const errno = this.write(BYTES);
      if (errno !== ERRNO_SUCCESS) return errno;
    }
    return ERRNO_SUCCESS;
  }

  /** Somebody comes. */
  open(): number {
    return fs.openSync(this.pty.path, O_RDWR | O_NOCTTY | O_NONBLOCK);
  }

  /** Whether the watch says that somebody came or went since the last time. */
  get hasNews(): boolean {
    try {
      return fs.readSync(this.watch.fd, new Uint8Array(BYTES)) > 0;
    } catch {
      return false;
    }
  }

  close(): void {
    this.pty.close();
    this.watch.close();
  }
}

for (const kind of ["tty", "unix"] as const) {
  test(`a write that moves nothing, where nobody is, fails with EIO: ${kind}`, () => {
    const line = new Line(kind);
    assert.is(line.write(0), ERRNO_IO);
    assert.is(line.write(5), ERRNO_SUCCESS, "there is room for who comes next");
    assert.is(line.fill(), ERRNO_IO);
    const somebody = line.open();
    assert.is(line.write(0), ERRNO_SUCCESS);
    assert.is(line.fill(), ERRNO_AGAIN);
    fs.closeSync(somebody);
    assert.is(line.fill(), ERRNO_IO);
    line.close();
  });
}

test("what was typed can be read when who typed it has left, and then there is nobody", () => {
  const line = new Line("tty");
  assert.is(line.read(), ERRNO_IO);
  const somebody = line.open();
  assert.is(line.read(), ERRNO_AGAIN);
  fs.writeSync(somebody, "typed\r\x03\x04");
  fs.closeSync(somebody);
  assert.is(line.read(), "typed\r\x03\x04");
  assert.is(line.read(), ERRNO_IO);
  line.close();
});

test("OpenWatch tells who comes and who goes, and nothing else", () => {
  const line = new Line("tty");
  assert.not.ok(line.pty.isAttended);
  assert.ok(line.hasNews, "whoever made it has closed it");
  const somebody = line.open();
  assert.ok(line.hasNews);
  assert.ok(line.pty.isAttended);
  fs.writeSync(somebody, "x");
  line.write(5);
  assert.not.ok(line.hasNews);
  fs.closeSync(somebody);
  assert.ok(line.hasNews);
  line.close();
});

test("DevicePty is its user's alone, echoes nothing, and goes with its device's end", () => {
  const line = new Line("tty");
  const { path } = line.pty;
  const { mode, uid } = fs.statSync(path);
  assert.is(mode & 0o7777, 0o600);
  assert.is(uid, process.getuid?.());
  assert.is(line.write(5), ERRNO_SUCCESS);
  assert.is(line.read(), ERRNO_IO, "nothing came back");
  line.close();
  assert.not.ok(fs.existsSync(path));
});

test.run();
