// bulkhead new: what it makes, and what it refuses without leaving half of it.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { dependencyOn } from "../../host/author/dependency.js";
import { EXIT } from "../../host/errors.js";
import { bulkhead, jsonLines } from "../support/bulkhead.js";
import { folderOf } from "./support.js";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url)).replace(/\/$/, "");

const FILES = [
  ".gitignore",
  "README.md",
  "asconfig.json",
  "coin.test.js",
  "coin.ts",
  "package.json",
  "tsconfig.json",
];

test("bulkhead new makes a folder in which every word of the template is replaced", () => {
  const cwd = folderOf();
  const { status, stdout, stderr } = bulkhead(["new", "coin"], { cwd });
  assert.is(stderr, "");
  assert.is(status, EXIT.ok);
  assert.match(stdout, /^Made coin\/ with .*coin\.ts.*\n\nNext:\n {2}cd coin && npm install /);
  assert.equal(fs.readdirSync(cwd), ["coin"]);
  assert.equal(fs.readdirSync(path.join(cwd, "coin")).sort(), FILES);
  for (const file of FILES) {
    const text = fs.readFileSync(path.join(cwd, "coin", file), "utf8");
    assert.not.match(text, /@[A-Z]+@/, file);
  }
  const { dependencies } = JSON.parse(
    fs.readFileSync(path.join(cwd, "coin", "package.json"), "utf8"),
  );
  assert.equal(dependencies, { bulkhead: `file:${ROOT}` });
  assert.is(fs.statSync(path.join(cwd, "coin")).mode & 0o777, 0o777 & ~process.umask());
});

test("bulkhead new makes a device that bulkhead build takes", () => {
  const cwd = folderOf();
  const [made] = jsonLines(bulkhead(["new", "coin", "--json"], { cwd }).stdout);
  assert.is(made?.event, "created");
  assert.is(made?.folder, path.join(cwd, "coin"));
  assert.equal(made?.files, FILES);
  const { status, stderr } = bulkhead(["build", "coin/coin.ts"], { cwd });
  assert.is(stderr, "");
  assert.is(status, EXIT.ok);
});

test("bulkhead new fills a folder that is there and empty", () => {
  const cwd = folderOf();
  fs.mkdirSync(path.join(cwd, "coin"));
  assert.is(bulkhead(["new", "coin"], { cwd }).status, EXIT.ok);
  assert.equal(fs.readdirSync(path.join(cwd, "coin")).sort(), FILES);
});

for (const [name, problem] of [
  ["full", /^Error: Cannot make "full": it is there and not empty\n {2}choose another name/],
  ["file", /^Error: Cannot make "file": it is there and no directory\n/],
  ["My_Coin", /^Error: Cannot make a device "My_Coin": .*\n {2}did you mean "my-coin"\?/],
  ["../coin", /^Error: Cannot make a device "\.\.\/coin": .*\n {2}did you mean "coin"\?/],
  ["", /^Error: Cannot make a device "": a device's name is a small letter and up to 31/],
  ["a".repeat(33), /^Error: Cannot make a device "a{33}": [^\n]*\n$/],
] as const) {
  test(`bulkhead new refuses "${name}" and leaves all as it was`, () => {
    const cwd = folderOf({ "full/other.txt": "mine", file: "mine" });
    const { status, stdout, stderr } = bulkhead(["new", name], { cwd });
    assert.match(stderr, problem);
    assert.is(stdout, "");
    assert.is(status, EXIT.usage);
    assert.equal(fs.readdirSync(cwd).sort(), ["file", "full"]);
    assert.equal(fs.readdirSync(path.join(cwd, "full")), ["other.txt"]);
  });
}

test("bulkhead new says why where nothing can be made", () => {
  const { status, stderr } = bulkhead(["new", "coin"], { cwd: "/proc/self" });
  assert.match(stderr, /^Error: Cannot make "coin": (ENOENT|EACCES|EPERM)/);
  assert.is(status, EXIT.usage);
});

test("bulkhead new leaves nothing behind where a file cannot be written", () => {
  const cwd = folderOf();
  const shell = 'ulimit -f 0; exec "$@"'; // no file may have contents: as on a full disk
  const { status, stderr } = bulkhead(["new", "coin"], { cwd, shell });
  assert.match(stderr, /^Error: Cannot make "coin": EFBIG/);
  assert.is(status, EXIT.usage);
  assert.equal(fs.readdirSync(cwd), []);
});

/** A package in node_modules/bulkhead for which npm has noted `note`. */
function installed(note: object | undefined): string {
  const packages = note === undefined ? {} : { "node_modules/bulkhead": note };
  return folderOf({
    "bulkhead-1.2.3.tgz": "",
    "project/node_modules/.package-lock.json": JSON.stringify({ packages }),
    "project/node_modules/bulkhead/package.json": '{"version":"1.2.3"}',
  });
}

for (const [what, note, expected] of [
  ["a registry", { resolved: "https://example.org/bulkhead-1.2.3.tgz" }, "1.2.3"],
  ["a registry that is not noted", { version: "1.2.3" }, "1.2.3"],
  ["a tarball", { resolved: "file:../bulkhead-1.2.3.tgz" }, "file:/bulkhead-1.2.3.tgz"],
  [
    "a tarball that is gone",
    { resolved: "file:../gone.tgz" },
    "file:/project/node_modules/bulkhead",
  ],
  ["nowhere that npm knows", undefined, "file:/project/node_modules/bulkhead"],
] as const) {
  test(`dependencyOn() names a package from ${what}`, () => {
    const folder = installed(note);
    const found = dependencyOn(path.join(folder, "project/node_modules/bulkhead"));
    assert.is(found.replace(folder, ""), expected);
  });
}

test.run();
