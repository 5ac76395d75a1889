// The SDK's numbers against the kernel's headers.

import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { headerValues, missingCompiler } from "../support/headers.js";
import { skip } from "../support/skip.js";

const SDK = new URL("../../../devices-as/sdk/virtio.ts", import.meta.url);

const unavailable = missingCompiler();
if (unavailable === undefined) {
  test("the SDK's device types are those of linux/virtio_ids.h", () => {
    const source = fs.readFileSync(SDK, "utf8");
    const ours = [...source.matchAll(/^export const (VIRTIO_ID_\w+): u32 = (\d+);$/gm)];
    assert.ok(ours.length > 20, "not one for each");
    const theirs = headerValues(
      ["linux/virtio_ids.h"],
      ours.map(([, name]) => name!),
    );
    for (const [, name, value] of ours) assert.is(theirs.get(name!), BigInt(value!), name);
  });
} else {
  skip(unavailable);
}

test.run();
