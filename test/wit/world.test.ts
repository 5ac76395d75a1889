// Every device module must be what wit/ says. The component tools check it: a module that meets the
// world can be wrapped as a component. (Nothing but this test ever makes one.)

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { componentEmbed, componentNew } from "@bytecodealliance/jco";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { builtModules, manifest, moduleWith } from "../runtime/support.js";

const WIT = fileURLToPath(new URL("../../../wit", import.meta.url));

/** WASI preview 1 in terms of components: knows the type of every function of it. */
const jco = path.dirname(createRequire(import.meta.url).resolve("@bytecodealliance/jco"));
const adapter = fs.readFileSync(path.join(jco, "..", "lib", "wasi_snapshot_preview1.reactor.wasm"));

/** What is wrong with `module`, or an empty string. */
async function faultOf(module: Uint8Array): Promise<string> {
  const binary = await componentEmbed({ binary: module, witPath: WIT, world: "device" });
  try {
    await componentNew(binary, [["wasi_snapshot_preview1", adapter]]);
    return "";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

for (const { name, file } of builtModules()) {
  test(`${name} meets the world in wit/`, async () => {
    assert.is(await faultOf(fs.readFileSync(file)), "");
  });
}

test("the world in wit/ is met by the least module that the runtime takes", async () => {
  assert.is(await faultOf(moduleWith()), "");
});

for (const part of [
  "reserve",
  "set",
  "start",
  "activate",
  "reset",
  "configure",
  "wake",
  "attention",
  "serve",
  "describe",
] as const) {
  test(`the world in wit/ refuses a module without ${part}()`, async () => {
    assert.match(await faultOf(moduleWith({ [part]: "" })), new RegExp(`export.*\`${part}\``));
  });
}

test("the world in wit/ refuses a module whose serve() has another type", async () => {
  const serve = '(func (export "serve") (param i32 i32 i64 i32 i32) (result i32) i32.const 0)';
  assert.match(await faultOf(moduleWith({ serve })), /type mismatch for function `serve`/);
});

test("the world in wit/ refuses a module whose reset() has a result", async () => {
  const reset = '(func (export "reset") (result i32) i32.const 0)';
  assert.match(await faultOf(moduleWith({ reset })), /type mismatch for function `reset`/);
});

test("the world in wit/ refuses an import that it does not declare", async () => {
  const imports = '(import "env" "abort" (func (param i32 i32 i32 i32)))';
  assert.match(await faultOf(moduleWith({ imports })), /`env`/);
});

test("the world in wit/ refuses a function that WASI preview 1 does not have", async () => {
  const imports = '(import "wasi_snapshot_preview1" "fd_ioctl" (func (param i32) (result i32)))';
  assert.match(await faultOf(moduleWith({ imports })), /fd_ioctl/);
});

test("the world in wit/ refuses a function of WASI preview 1 of another type", async () => {
  const imports = '(import "wasi_snapshot_preview1" "fd_read" (func (param i64) (result i32)))';
  assert.match(await faultOf(moduleWith({ imports }, manifest())), /fd_read/);
});

test.run();
