// host/sandbox/contract.ts is what wit/ says, to the component tools and to who starts a device.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { componentEmbed } from "@bytecodealliance/jco";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { contractText } from "../../build/contract.js";
import { readFunctionTypes } from "../../build/function-types.js";
import { compileDevice } from "../../host/author/device.js";
import { EXPORTS, WASI } from "../../host/sandbox/contract.js";
import { checkImports } from "../../host/sandbox/grants.js";
import { inspectModule } from "../../host/sandbox/manifest.js";
import { ROOT, readSource } from "../support/sources.js";

const WIT = fileURLToPath(new URL("../../../wit", import.meta.url));
const EXAMPLES = "devices-as/examples";

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

const devices = path.join(ROOT, "dist", "devices");
for (const name of fs.readdirSync(devices).filter((file) => file.endsWith(".wasm"))) {
  test(`${name} conforms`, () => {
    checkImports(inspectModule(fs.readFileSync(path.join(devices, name))));
  });
}

const examples = fs.existsSync(path.join(ROOT, EXAMPLES))
  ? fs.readdirSync(path.join(ROOT, EXAMPLES)).filter((file) => file.endsWith(".ts"))
  : [];
for (const name of examples) {
  test(`${EXAMPLES}/${name} conforms`, async () => {
    const { module } = await compileDevice(path.join(ROOT, EXAMPLES, name));
    checkImports(inspectModule(module));
  });
}

test.run();
