// What an owned device can change through a directory that it was granted, by calls that its filter
// lets through with any name, and by those that it has without a filter.

import fs from "node:fs";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  DIRECTORY_FILE_MODE,
  DIRECTORY_FILES_MAX,
  DIRECTORY_OPEN_FLAGS,
} from "../../../host/sandbox/grant-kinds.js";
import { importsOf, type ResolvedGrant, WASI_MODULE } from "../../../host/sandbox/grants.js";
import { landlockAbi } from "../../../host/sandbox/landlock.js";
import { FCNTL } from "../../../host/sandbox/linux.js";
import { skip } from "../../support/skip.js";
import {
  Attacker,
  type AttackerOptions,
  deathOf,
  missingNamespaces,
  NOBODY,
} from "../support/attacker.js";
import { directory as scratch } from "../support/confined.js";
import type { Attempt } from "./directory-attempts.js";

const O_RDWR = 2;
const O_CREAT = 0o100;
const S_IFIFO = 0o010000;
const AT_REMOVEDIR = 0x200;
let places = 0;

interface Place {
  parent: string;
  grant: ResolvedGrant;
}

/** A directory beside a file that anyone may change, both in one that anyone may change. */
function newPlace(...rights: ResolvedGrant["rights"]): Place {
  fs.chmodSync(scratch, 0o755);
  const parent = path.join(scratch, `changes${places++}`);
  const what = path.join(parent, "granted");
  fs.mkdirSync(path.join(what, "sub"), { recursive: true });
  for (const each of [parent, what, path.join(what, "sub")]) fs.chmodSync(each, 0o777);
  for (const file of [path.join(parent, "outside"), path.join(what, "shared")]) {
    fs.writeFileSync(file, "contents");
    fs.chmodSync(file, 0o666);
  }
  fs.symlinkSync("..", path.join(what, "up"));
  return { parent, grant: { name: "files", kind: "dir", what, rights } };
}

/** What each attempt led to, or how the process ended at it. */
async function attack(
  { grant }: Place,
  attempts: readonly Attempt[],
  more: AttackerOptions = {},
): Promise<string[] | string> {
  const imports = importsOf("dir", grant.rights).map((name) => ({ module: WASI_MODULE, name }));
  const deed = `directory ${JSON.stringify(attempts)}`;
  const attacker = new Attacker({ deed, context: NOBODY }, { grants: [grant], imports, ...more });
  try {
    await attacker.ready();
    attacker.go();
    const said = await attacker.hear();
    if (said !== undefined) return JSON.parse(said) as string[];
    return deathOf(await attacker.end()) ?? "gone";
  } finally {
    await attacker.close();
  }
}

function unlinking(name: string): Attempt {
  return ["unlinkat", "dir", name, 0];
}

const OUT = ["../outside", "sub/../../outside", "up/outside"];

const missing = await missingNamespaces();
if (missing !== undefined) skip(missing);
else {
  test("an owned device removes files of its directory, and none outside", async () => {
    const place = newPlace("read", "write");
    const names = [...OUT, "/bulkhead/package.json", "sub", "shared"];
    const results = await attack(place, names.map(unlinking));
    const here = ["ENOENT", "ENOENT", "ELOOP"];
    assert.equal(results, [...here, "EROFS", "EISDIR", "result 0"]);
    assert.equal(fs.readdirSync(place.parent), ["granted", "outside"]);
  });

  test("canary: without walls the same names lead out", async () => {
    for (const name of OUT) {
      const place = newPlace("read", "write");
      const results = await attack(place, [unlinking(name)], { walls: "nothing" });
      assert.equal(results, ["result 0"], name);
      assert.equal(fs.readdirSync(place.parent), ["granted"]);
    }
  });

  test("without a filter either it makes no links, FIFOs or directories", async () => {
    if (landlockAbi() === 0) return skip("this kernel has no Landlock");
    const attempts: Attempt[] = [
      ["symlinkat", "/etc/passwd", "dir", "made"],
      ["mknodat", "dir", "made", S_IFIFO | 0o600, 0],
      ["mkdirat", "dir", "made", 0o700],
      ["unlinkat", "dir", "sub", AT_REMOVEDIR],
      ["renameat", "dir", "shared", "dir", "sub/moved"],
    ];
    const place = newPlace("read", "write");
    const results = await attack(place, attempts, { walls: "no filter" });
    assert.equal(results, ["EACCES", "EACCES", "EACCES", "EACCES", "EXDEV"]);
    assert.equal(fs.readdirSync(place.grant.what), ["shared", "sub", "up"]);
  });

  test("without a filter either it changes nothing in a directory to be read", async () => {
    const attempts: Attempt[] = [
      unlinking("shared"),
      ["fchmodat", "dir", "shared", 0o4777],
      ["mkdirat", "dir", "made", 0o700],
    ];
    const results = await attack(newPlace("read"), attempts, { walls: "no filter" });
    assert.equal(results, ["EROFS", "EROFS", "EROFS"]);
  });

  const flags = DIRECTORY_OPEN_FLAGS;
  const refused: Readonly<Record<string, Attempt>> = {
    "makes a set-user-id program": ["openat", "dir", "made", flags | O_RDWR | O_CREAT, 0o4755],
    "opens beneath its working directory": [
      ...(["openat", FCNTL.AT_FDCWD, "shared", flags] as const),
      DIRECTORY_FILE_MODE,
    ],
    "removes a directory": ["unlinkat", "dir", "sub", AT_REMOVEDIR],
    "renames a file": ["renameat", "dir", "shared", "dir", "made"],
  };
  for (const [what, attempt] of Object.entries(refused)) {
    test(`the filter denies an owned device that ${what}`, async () => {
      assert.is(await attack(newPlace("read", "write"), [attempt]), "denied");
    });
  }

  test("an owned device opens no more files than rules name descriptors for", async () => {
    const reading: Attempt = ["openat", "dir", "shared", flags, DIRECTORY_FILE_MODE];
    const attempts = new Array<Attempt>(DIRECTORY_FILES_MAX + 1).fill(reading);
    const descriptors = [4, 6, 7, 8, 9, 10, 11, 12].map((fd) => `result ${fd}`);
    assert.equal(await attack(newPlace("read"), attempts), [...descriptors, "EMFILE"]);
  });
}

test.run();
