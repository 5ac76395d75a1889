// The packed package, installed in an empty folder as anybody would: there, without this checkout,
// a device is made, built, tested and run.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { EXIT } from "../../host/errors.js";
import { whyNoKvm } from "../support/bulkhead.js";
import { note, skip } from "../support/skip.js";
import { folderOf } from "./support.js";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const TSC = path.join(ROOT, "node_modules/.bin/tsc");

/** An install from a cold cache over a slow line; it only keeps a hang from stopping all tests. */
const TIMEOUT_MS = 300_000;

/** What npm calls a registry that cannot be reached. */
const OFFLINE = /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENOTCACHED)\b/;

const INSTALL = ["install", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"];

interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

function run(cwd: string, command: string, ...args: string[]): Outcome {
  // The runner's npm must not tell this one where it is.
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("npm_"));
  const env = Object.fromEntries(inherited);
  return spawnSync(command, args, { cwd, env, encoding: "utf8", timeout: TIMEOUT_MS });
}

/** Packs this package into `folder`; returns the tarball and the files in it. */
function pack(folder: string): { tarball: string; files: string[] } {
  const args = ["pack", "--ignore-scripts", "--json", "--pack-destination", folder];
  const { status, stdout, stderr } = run(ROOT, "npm", ...args);
  assert.is(status, 0, stderr);
  const [packed] = JSON.parse(stdout) as { filename: string; files: { path: string }[] }[];
  const files = packed!.files.map((file) => file.path);
  return { tarball: path.join(folder, packed!.filename), files };
}

const folder = folderOf();
const { tarball, files } = pack(folder);
const project = path.join(folder, "project");
fs.mkdirSync(project);
const installation = run(project, "npm", ...INSTALL, tarball);
const offline = installation.status !== 0 && OFFLINE.test(installation.stderr);

/** A test of the installed package; skipped where its dependencies cannot be had. */
function testInstalled(name: string, body: () => void): void {
  test(name, () => {
    if (offline)
      skip(`${name}: the packages that it depends on can not be fetched or are not cached`);
    else body();
  });
}

test("the package has what an author needs, and no source or test of its own", () => {
  for (const file of [
    "dist/bundle/author/description-worker.js",
    "dist/bundle/testing/main.js",
    "dist/bundle/testing/main.d.ts",
    "dist/guest/entropy.elf",
    "devices-as/asconfig.json",
    "devices-as/tsconfig.json",
    "devices-as/sdk/index.ts",
    "devices-as/template/gitignore",
    "devices-as/template/device.ts",
  ]) {
    assert.ok(files.includes(file), file);
  }
  assert.equal(
    files.filter((file) => /^(host|build|test|dist\/(host|build|test))\//.test(file)),
    [],
  );
});

testInstalled("npm install of the package makes `npx bulkhead --help` work", () => {
  assert.is(installation.status, 0, installation.stderr);
  const { status, stdout } = run(project, "npx", "--no-install", "bulkhead", "--help");
  assert.is(status, EXIT.ok);
  for (const command of ["run", "new", "build"]) {
    assert.match(stdout, new RegExp(`^ {2}${command} `, "m"));
  }
});

testInstalled("the installed package makes a device that depends on the same package", () => {
  const made = run(project, "npx", "--no-install", "bulkhead", "new", "coin");
  assert.is(made.status, EXIT.ok, made.stderr);
  const text = fs.readFileSync(path.join(project, "coin/package.json"), "utf8");
  assert.is(JSON.parse(text).dependencies.bulkhead, `file:${tarball}`);
  const { status, stderr } = run(path.join(project, "coin"), "npm", ...INSTALL);
  assert.is(status, 0, stderr);
});

testInstalled("the new device is built and its test passes with npm test", () => {
  const coin = path.join(project, "coin");
  const { status, stdout, stderr } = run(coin, "npm", "test");
  assert.is(status, 0, stdout + stderr);
  assert.match(
    stdout,
    /bulkhead run KERNEL --device \.\/coin\.wasm --grant coin0\.source=file:PATH:ro/,
  );
  assert.match(stdout, /^(# |ℹ )pass 4$/m);
  assert.match(stdout, /^(# |ℹ )fail 0$/m);
});

testInstalled("the test of the new device fails when the device is wrong", () => {
  const coin = path.join(project, "coin");
  const source = fs.readFileSync(path.join(coin, "coin.ts"), "utf8");
  const wrong = source.replace("chain.writeOf(this.buffer, 0, count);", "chain.fill(0, count);");
  assert.is.not(wrong, source);
  fs.writeFileSync(path.join(coin, "coin.ts"), wrong);
  const { status, stdout } = run(coin, "npm", "test");
  fs.writeFileSync(path.join(coin, "coin.ts"), source);
  assert.is(status, 1);
  assert.match(stdout, /^(# |ℹ )fail [1-4]$/m);
});

testInstalled("the installed compiler names the place of a mistake", () => {
  fs.writeFileSync(path.join(project, "wrong.ts"), "nothing();\n");
  const args = ["--no-install", "bulkhead", "build", "wrong.ts"];
  const { status, stderr } = run(project, "npx", ...args);
  assert.is(status, EXIT.usage);
  assert.match(
    stderr,
    /^wrong\.ts:1:1: Cannot find name 'nothing'\. \(AS2304\)\n {4}nothing\(\);\n/,
  );
});

testInstalled("an editor finds no mistake in the new device, and one where there is one", () => {
  const coin = path.join(project, "coin");
  const own = ({ stdout }: Outcome) => stdout.split("\n").filter((line) => line.startsWith("coin"));
  assert.equal(own(run(coin, TSC, "--project", ".")), []);
  const file = path.join(coin, "coin.ts");
  fs.appendFileSync(file, "source.readBytes(1);\n");
  assert.match(own(run(coin, TSC, "--project", "."))[0]!, /^coin\.ts\(\d+,\d+\): error TS\d+: /);
});

testInstalled("the new device runs in a guest with npm start", () => {
  const why = whyNoKvm();
  if (why !== undefined) return skip(why);
  const coin = path.join(project, "coin");
  const source = path.join(coin, "coin.ts");
  fs.writeFileSync(source, fs.readFileSync(source, "utf8").replace("source.readBytes(1);\n", ""));
  const { status, stdout, stderr } = run(coin, "npm", "start");
  assert.is(status, 0, stdout + stderr);
  assert.match(stdout, /1 passed, 0 failed: PASS/);
  assert.match(stderr, /coin0: source=\S+ \(file, read\) → process \d+/);
  note(`npm start of a new device: ${/coin0: source.*/.exec(stderr)?.[0]}`);
});

test.run();
