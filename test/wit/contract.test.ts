// host/sandbox/contract.ts is what wit/ says, to the component tools and to who starts a device.

import fs from "node:fs";
import { fileURLToPath } from "node:url";
import { componentEmbed } from "@bytecodealliance/jco";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { contractText } from "../../build/contract.js";
import { readFunctionTypes } from "../../build/function-types.js";
import { EXPORTS, WASI } from "../../host/sandbox/contract.js";
import { checkImports } from "../../host/sandbox/grants.js";
import { inspectModule } from "../../host/sandbox/manifest.js";
import { builtModules } from "../runtime/support.js";
import { readSource } from "../support/sources.js";

const WIT = fileURLToPath(new URL("../../../wit", import.meta.url));

/** How the component tools name the functions of a world in a module made for it. */
const OF_THE_WORLD = /^cm32p2\|\|(\w+?)$/;

test("host/sandbox/contract.ts is made from wit/ as it is: npm run contract", () => {
  assert.is(readSource("host/sandbox/contract.ts"), contractText());
});

test("EXPORTS has the functions and types that the component tools read in wit/", async () => {
  const module = await componentEmbed({ dummy: true, witPath: WIT, world: "device" });
  const theirs = [...readFunctionTypes(module)].flatMap(([name, type]) => {
    const function_ = OF_THE_WORLD.exec(name)?.[1];
    return function_ === undefined || function_.endsWith("_post") ? [] : [[function_, type]];
  });
  const ours = Object.entries(EXPORTS).filter(([name]) => name !== "_initialize");
  assert.equal(ours.sort(), theirs.sort());
});

test("WASI has preview 1 and nothing of the adapter that it is read from", () => {
  assert.is(WASI.fd_pread, "(i32 i32 i32 i64 i32) -> (i32)");
  assert.is(Object.keys(WASI).length, 46);
});

for (const { name, file } of builtModules()) {
  test(`${name} conforms`, () => {
    checkImports(inspectModule(fs.readFileSync(file)));
  });
}

test.run();
