// Two cannot have the same file, unless both only read it.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { closeGrants, openGrants } from "../../host/sandbox/grant-open.js";
import type { GrantedFd, Right } from "../../host/sandbox/grants.js";
import { bulkhead } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-lock-"));
test.after(() => fs.rmSync(directory, { recursive: true }));
const image = path.join(directory, "disk.img");
fs.writeFileSync(image, new Uint8Array(1024 * 1024));

const READ: Right[] = ["read"];
const BOTH: Right[] = ["read", "write"];
const BUSY =
  /Cannot grant image=file:.*disk\.img(\.qcow2)?: another VM or a tool such as qemu-img uses it/;

function open(rights: Right[], what = image): GrantedFd[] {
  return openGrants([{ name: "image", kind: "file", what, rights }]);
}

function whileOpen(rights: Right[], run: () => void, what = image): void {
  const granted = open(rights, what);
  try {
    run();
  } finally {
    closeGrants(granted);
  }
}

test("openGrants() shares a file between those who read it", () => {
  whileOpen(READ, () => whileOpen(READ, () => whileOpen(READ, () => {})));
});

for (const [first, second] of [
  [BOTH, BOTH],
  [BOTH, READ],
  [READ, BOTH],
  [["write"], BOTH],
  [["write"], READ],
  [BOTH, ["write"]],
  [READ, ["write"]],
] as [Right[], Right[]][]) {
  const words = `${first.join("+")} and ${second.join("+")}`;
  test(`openGrants() refuses a file for ${words} at once, and gives it afterwards`, () => {
    whileOpen(first, () => assert.throws(() => open(second), BUSY));
    whileOpen(second, () => {});
  });
}

test("openGrants() lets several append to a file, and does not lock what is no file", () => {
  whileOpen(["append"], () => whileOpen(["append"], () => {}));
  const null0 = open(BOTH, "/dev/null");
  closeGrants([...open(BOTH, "/dev/null"), ...null0]);
});

test("bulkhead run says which image is in use", () => {
  const guest = path.resolve("dist/guest/entropy.elf");
  const { status, stderr } = bulkhead(["run", guest, "-d", image, "-d", image]);
  assert.is(status, 2);
  assert.match(stderr, /disk\.img: another VM or a tool such as qemu-img uses it; end that, or/);
});

const found = spawnSync("qemu-img", ["--version"]).status === 0;
if (!found) skip("qemu-img is missing: apt install qemu-utils");
const compare = found ? test : () => {};

/** Whether QEMU's tools open the image. */
function qemuOpens(flags: string[]): boolean {
  // Of a raw image QEMU bears more than of one that has a format.
  const args = ["-f", "qcow2", ...flags, "-c", "read 0 512", qcow2];
  const { status, stderr } = spawnSync("qemu-io", args);
  if (status !== 0) assert.match(stderr.toString(), /Failed to get (shared )?"\w+" lock/);
  return status === 0;
}

const qcow2 = path.join(directory, "disk.img.qcow2");
if (found) spawnSync("qemu-img", ["create", "-f", "qcow2", qcow2, "1M"]);

compare("QEMU opens for writing what nobody has, and for reading what others read", () => {
  assert.ok(qemuOpens([]));
  const both = () => [qemuOpens(["-r"]), qemuOpens([])];
  whileOpen(READ, () => assert.equal(both(), [true, false]), qcow2);
  whileOpen(BOTH, () => assert.equal(both(), [false, false]), qcow2);
});

/** Has qemu-io keep the image open meanwhile. */
async function whileQemuHas(flags: string[], run: () => void): Promise<void> {
  const io = spawn("qemu-io", ["-f", "qcow2", ...flags, qcow2], { stdio: "pipe" });
  io.stdin.write("read 0 512\n");
  let said = "";
  for await (const text of io.stdout) {
    said += text;
    if (said.includes("ops/sec")) break; // it has opened the file
  }
  try {
    run();
  } finally {
    io.kill();
    await once(io, "exit");
  }
}

compare("openGrants() refuses a file that QEMU has, unless both read", async () => {
  await whileQemuHas([], () => {
    assert.throws(() => open(BOTH, qcow2), BUSY);
    assert.throws(() => open(READ, qcow2), BUSY);
  });
  await whileQemuHas(["-r"], () => {
    assert.throws(() => open(BOTH, qcow2), BUSY);
    whileOpen(READ, () => {}, qcow2);
  });
});

test.run();
