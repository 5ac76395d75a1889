// A device that was granted a directory, taken over: whatever path it names, it stays beneath it.
// Its filter cannot see a path. What holds is the mount that the directory is for it, and Landlock.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DIRECTORY_OPEN_FLAGS } from "../../../host/sandbox/grant-kinds.js";
import { importsOf, type ResolvedGrant, WASI_MODULE } from "../../../host/sandbox/grants.js";
import { skip } from "../../support/skip.js";
import { Attacker, type AttackerOptions, missingNamespaces, NOBODY } from "../support/attacker.js";
import { directory } from "../support/confined.js";

const O_RDWR = 2;
const O_CREAT = 0o100;
const O_TRUNC = 0o1000;
const O_APPEND = 0o2000;
const O_PATH = 0o10000000;
const O_TMPFILE = 0o20200000;
const READ = DIRECTORY_OPEN_FLAGS;
const O_NOFOLLOW = 0o400000;

const outside = path.join(directory, "outside");
const granted = path.join(outside, "granted");
fs.mkdirSync(path.join(granted, "sub"), { recursive: true });
for (const each of [outside, granted, path.join(granted, "sub")]) fs.chmodSync(each, 0o777);
fs.writeFileSync(path.join(outside, "secret"), "secret");
fs.writeFileSync(path.join(granted, "inside"), "inside");
fs.writeFileSync(path.join(granted, "sub", "deep"), "deep");
fs.chmodSync(path.join(granted, "inside"), 0o666);
fs.symlinkSync("../secret", path.join(granted, "link"));
fs.symlinkSync("/etc/passwd", path.join(granted, "absolute"));
fs.symlinkSync("..", path.join(granted, "sub", "up"));
// Only root makes a device node; for anybody else there is none to be refused.
if (process.geteuid?.() === 0) {
  execFileSync("mknod", ["-m", "666", path.join(granted, "memory"), "c", "1", "5"]);
}

/** Paths that would lead out, if anything let them. */
const WAYS_OUT = [
  "../secret",
  "..",
  "sub/../../secret",
  "sub/up/../secret",
  "../../../../../../etc/passwd",
  "/etc/passwd",
  "/proc/self/root/etc/passwd",
  "/proc/1/root/etc/passwd",
  "/proc/self/cwd/etc/passwd",
  "/proc/self/mem",
  "/proc/self/fd/5/../secret",
  "/bulkhead/package.json",
  "link",
  "absolute",
  "memory",
];

function grant(...rights: ResolvedGrant["rights"]): ResolvedGrant {
  return { name: "files", kind: "dir", what: granted, rights };
}

/** What an owned device is told of each path that it opens with `flags`. */
async function opened(
  { rights }: ResolvedGrant,
  flags: number,
  paths: readonly string[],
  more: AttackerOptions = {},
): Promise<string[]> {
  const imports = importsOf("dir", rights).map((name) => ({ module: WASI_MODULE, name }));
  const deed = ["openat", flags, ...paths].join(" ");
  const options = { grants: [grant(...rights)], imports, ...more };
  const attacker = new Attacker({ deed, context: NOBODY }, options);
  try {
    await attacker.ready();
    attacker.go();
    return JSON.parse((await attacker.hear()) ?? "[]") as string[];
  } finally {
    await attacker.close();
  }
}

const missing = await missingNamespaces();
if (missing !== undefined) skip(missing);
else {
  test("an owned device opens what is in its directory, and beneath it", async () => {
    const found = await opened(grant("read"), READ, ["inside", "sub/deep", "nothing"]);
    assert.equal(found, ["inside", "deep", "ENOENT"]);
  });

  test("an owned device gets nowhere else, whatever path it names", async () => {
    for (const rights of [grant("read"), grant("read", "write")]) {
      const found = await opened(rights, READ, WAYS_OUT);
      assert.is(found.length, WAYS_OUT.length);
      for (const [i, what] of found.entries()) {
        assert.match(what, /^(EACCES|EXDEV|ELOOP|ENOENT|EISDIR|EPERM)$/, `${WAYS_OUT[i]}: ${what}`);
      }
    }
  });

  test("an owned device that opens in another way than its policy says does not", async () => {
    const writes = [O_RDWR, O_CREAT, O_TRUNC, O_APPEND, O_TMPFILE];
    for (const flags of [READ & ~O_NOFOLLOW, READ | O_PATH, ...writes.map((each) => READ | each)]) {
      assert.equal(await opened(grant("read"), flags, ["inside"]), [], flags.toString(8));
    }
    for (const flags of [READ | O_TMPFILE, READ | O_PATH, (READ | O_RDWR) & ~O_NOFOLLOW]) {
      assert.equal(await opened(grant("read", "write"), flags, ["inside"]), [], flags.toString(8));
    }
  });

  // Without the filter it can do without O_NOFOLLOW, and the mount still follows no link.
  test("an owned device without a filter gets nowhere else", async () => {
    const more: AttackerOptions = { seccomp: "off" };
    const found = await opened(grant("read"), READ & ~O_NOFOLLOW, WAYS_OUT, more);
    for (const [i, what] of found.entries()) {
      assert.match(what, /^(EACCES|EXDEV|ELOOP|ENOENT|EISDIR|EPERM)$/, `${WAYS_OUT[i]}: ${what}`);
    }
  });

  test("an owned device that may read cannot write, without a filter either", async () => {
    const more: AttackerOptions = { seccomp: "off" };
    const made = await opened(grant("read"), READ | O_RDWR | O_CREAT, ["inside", "new"], more);
    assert.ok(
      made.every((what) => /^(EROFS|EACCES)$/.test(what)),
      made.join(),
    );
    assert.not(fs.existsSync(path.join(granted, "new")));
  });

  test("an owned device that may write makes files in its directory alone", async () => {
    const flags = READ | O_RDWR | O_CREAT;
    const paths = ["made", "../made", "/made", "/proc/self/mem"];
    const [made, above, ...others] = await opened(grant("read", "write"), flags, paths);
    assert.equal([made, above], ["", ""], "what is above the directory is the directory");
    assert.ok(
      others.every((what) => /^E/.test(what)),
      others.join(),
    );
    assert.ok(fs.existsSync(path.join(granted, "made")));
    assert.not(fs.existsSync(path.join(outside, "made")));
  });
}

test.run();
