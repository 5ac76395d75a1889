import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Cpio } from "../../build/cpio.js";
import { missing } from "../support/debian.js";
import { skip } from "../support/skip.js";

function inDirectory(body: (directory: string) => void): void {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-cpio-"));
  try {
    body(directory);
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

function sample(): Cpio {
  const cpio = new Cpio();
  cpio.file("a/b/five", "12345", 0o600);
  cpio.file("empty", "", 0o755);
  cpio.symlink("link", "a/b/five");
  return cpio;
}

test("Cpio.write() pads every part to 4 bytes and ends with the trailer", () => {
  inDirectory((directory) => {
    const file = path.join(directory, "archive");
    sample().write(file);
    const text = fs.readFileSync(file, "latin1");
    assert.is(text.length % 4, 0);
    const names = [];
    let at = 0;
    while (at < text.length) {
      assert.is(text.slice(at, at + 6), "070701");
      const field = (index: number) =>
        Number.parseInt(text.slice(at + 6 + index * 8, at + 14 + index * 8), 16);
      const [bytes, nameBytes] = [field(6), field(11)];
      names.push(text.slice(at + 110, at + 109 + nameBytes));
      at = Math.ceil((at + 110 + nameBytes) / 4) * 4;
      at = Math.ceil((at + bytes) / 4) * 4;
    }
    assert.equal(names, ["a", "a/b", "a/b/five", "empty", "link", "TRAILER!!!"]);
  });
});

const noCpio = missing("cpio", "cpio");
if (noCpio !== undefined) skip(`cpio reads what Cpio.write() wrote: ${noCpio}`);
else {
  test("cpio reads what Cpio.write() wrote", () => {
    inDirectory((directory) => {
      const file = path.join(directory, "archive");
      sample().write(file);
      const input = fs.readFileSync(file);
      const { status } = spawnSync("cpio", ["-i", "--quiet"], { cwd: directory, input });
      assert.is(status, 0);
      assert.is(fs.readFileSync(path.join(directory, "link"), "utf8"), "12345");
      assert.is(fs.statSync(path.join(directory, "a/b/five")).mode & 0o777, 0o600);
      assert.is(fs.statSync(path.join(directory, "empty")).mode & 0o777, 0o755);
    });
  });
}

test.run();
