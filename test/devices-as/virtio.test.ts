// The SDK's numbers against the kernel's headers.

import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { headerValues, missingCompiler } from "../support/headers.js";
import { skip } from "../support/skip.js";

const SDK = new URL("../../../devices-as/sdk/virtio.ts", import.meta.url);

const unavailable = missingCompiler();
if (unavailable === undefined) {
  test("the SDK's numbers are those of the kernel's headers", () => {
    const source = fs.readFileSync(SDK, "utf8");
    const ours = [...source.matchAll(/^export const (\w+): u\d+ = (\w+);$/gm)];
    assert.is(ours.length, source.match(/^export/gm)?.length, "one is not looked at");
    const theirs = headerValues(
      ["ids", "blk", "console", "input"].map((name) => `linux/virtio_${name}.h`),
      ours.map(([, name]) => name!),
    );
    for (const [, name, value] of ours) assert.is(theirs.get(name!), BigInt(value!), name);
  });
} else {
  skip(unavailable);
}

test.run();
