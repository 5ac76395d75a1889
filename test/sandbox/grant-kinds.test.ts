// What the rows of terminals, taps and random bytes say, in literals: tests that take the table for
// what it should be find no mistake in it.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { VmmError } from "../../host/errors.js";
import {
  faultOfWhat,
  GRANT_KIND_NAMES,
  type GrantedCall,
  type GrantKind,
  kindRow,
  linksOf,
  type Right,
  rightsOfWord,
} from "../../host/sandbox/grant-kinds.js";
import { closeGrants, openGrants } from "../../host/sandbox/grant-open.js";
import { awaitableFds, placeGrants, type ResolvedGrant } from "../../host/sandbox/grants.js";
import { skip } from "../support/skip.js";
import { whyNoTap } from "../support/tap.js";
import { temporaryFile } from "./support.js";

/** asm-generic/ioctls.h */
const TIOCGWINSZ = 0x5413;
const BLOCK_DEVICE_BYTES = 5 * 1024 * 1024;

/** Each word of the command line that a user may rely on. */
const WORDS: readonly [GrantKind, string | undefined, Right[]][] = [
  ["tty", undefined, ["read"]],
  ["tty", "ro", ["read"]],
  ["tty", "wo", ["write"]],
  ["tty", "rw", ["read", "write"]],
  ["tap", undefined, ["read", "write"]],
  ["random", undefined, ["read"]],
];

for (const [kind, word, rights] of WORDS) {
  test(`${kind} with ${word === undefined ? "no word" : `"${word}"`}: ${rights.join("+")}`, () => {
    assert.equal(rightsOfWord(kind, word), rights);
  });
}

test("nothing is granted with a word of another kind", () => {
  assert.is(rightsOfWord("tty", "ap"), null);
  assert.is(rightsOfWord("tap", "ro"), null);
  assert.is(rightsOfWord("random", "ro"), null);
});

/** A function of WASI, the system call that it needs, and what is tested beside the descriptor. */
type Link = [name: string, syscall: string, exactly?: GrantedCall["exactly"]];

const SIZE: Link = ["fd_filestat_get", "ioctl", { 1: TIOCGWINSZ }];

/** All that each kind lets a device do: with fewer rights there is less. */
const LINKS: readonly [GrantKind, Right[], Link[]][] = [
  ["tty", ["read"], [["fd_read", "read"], SIZE]],
  ["tty", ["write"], [["fd_write", "write"], SIZE]],
  ["tty", ["read", "write"], [["fd_read", "read"], SIZE, ["fd_write", "write"]]],
  [
    "tap",
    ["read", "write"],
    [
      ["fd_read", "read"],
      ["fd_write", "write"],
    ],
  ],
  ["random", ["read"], [["random_get", "read"]]],
];

for (const [kind, rights, links] of LINKS) {
  test(`${kind} to ${rights.join("+")} links so much, by so many system calls`, () => {
    const linked = [...linksOf(kind, rights)].flatMap(([name, calls]) =>
      calls.map(({ syscall, exactly, masked, onOpened }) => {
        assert.equal([masked, onOpened], [undefined, undefined]);
        return exactly === undefined ? [name, syscall] : [name, syscall, exactly];
      }),
    );
    assert.equal(linked, links);
  });
}

test("a device waits for sockets, terminals and taps, and for nothing else", () => {
  const grants = GRANT_KIND_NAMES.map((kind, fd) => ({ kind, fd }));
  const awaited = awaitableFds(grants).map((fd) => GRANT_KIND_NAMES[fd]);
  assert.equal(awaited, ["unix", "tty", "tap"]);
});

test("a tap stays while its device is dead, a terminal and random bytes are opened again", () => {
  const stays = (kind: GrantKind) => kindRow(kind).stays ?? [];
  assert.equal(stays("tap"), ["read", "write"]);
  assert.equal([...stays("tty"), ...stays("random")], []);
});

test("faultOfWhat() lets only names of interfaces be taps, and only urandom be random", () => {
  for (const name of ["tap0", "a", "bulkhead-tap.15"]) {
    assert.is(faultOfWhat("tap", name), undefined, name);
  }
  // The last is one byte more than fits into ifr_name before its NUL.
  for (const name of ["", ".", "..", "a/b", "a b", "a:b", "a\nb", "bulkhead-tap.016"]) {
    assert.is(faultOfWhat("tap", name), "no interface can have that name", name);
  }
  assert.is(faultOfWhat("random", "urandom"), undefined);
  for (const what of ["random", "/dev/urandom", ""]) {
    assert.is(faultOfWhat("random", what), "there is no such random", what);
  }
});

/** Asserts that `grant` cannot be had, and that nothing stays open for it. */
function leavesNothingOpen(grant: ResolvedGrant, why: RegExp): void {
  const open = () => fs.readdirSync("/proc/self/fd").length;
  const before = open();
  assert.throws(
    () => openGrants([grant]),
    (error: unknown) => error instanceof VmmError && why.test(error.message),
  );
  assert.is(open(), before);
}

test("openGrants() closes what turns out to be no terminal", () => {
  const what = temporaryFile("data", "content");
  leavesNothingOpen({ name: "a", kind: "tty", what, rights: ["read"] }, /it is no terminal/);
});

test("openGrants() closes what turns out to be no tap", () => {
  const reason = whyNoTap();
  if (reason !== undefined) return skip(reason);
  leavesNothingOpen({ name: "a", kind: "tap", what: "lo", rights: ["read", "write"] }, /no tap/);
});

/** A block device that is there until the process ends; why there can be none otherwise. */
function newBlockDevice(): { device: string } | { reason: string } {
  const image = temporaryFile("image", "");
  fs.truncateSync(image, BLOCK_DEVICE_BYTES);
  try {
    const args = ["--find", "--show", "--read-only", image];
    const device = execFileSync("losetup", args, { encoding: "utf8", stdio: "pipe" }).trim();
    process.once("exit", () => execFileSync("losetup", ["--detach", device]));
    return { device };
  } catch (error) {
    const said = (error as Error).message.split("\n").at(-2) ?? "";
    return { reason: `a block device needs root and losetup(8): ${said}` };
  }
}

test("openGrants() asks a block device how large it is, and the answer goes with it", () => {
  const found = newBlockDevice();
  if ("reason" in found) return skip(found.reason);
  const what = found.device;
  const granted = openGrants([{ name: "disk", kind: "file", what, rights: ["read"] }]);
  assert.is(placeGrants(granted, 5)[0]?.deviceBytes, BLOCK_DEVICE_BYTES);
  closeGrants(granted);
  const data = temporaryFile("data", "content");
  const [file] = openGrants([{ name: "data", kind: "file", what: data, rights: ["read"] }]);
  assert.is(file?.deviceBytes, undefined);
  closeGrants([file!]);
});

test.run();
