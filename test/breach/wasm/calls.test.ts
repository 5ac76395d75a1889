// Hostile calls of granted functions, from modules in real, confined processes.

import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { started } from "../support/attack.js";
import { ConfinedDevice, endAll, grantOf, scratchFile } from "../support/confined.js";
import { CALLS, type Call, CONTENTS, moduleOf, SHOWN_BYTES } from "./calls.js";

/** Asserts what a call returned and what it left in the module's buffer, which was empty before. */
function checkReply(reply: Uint8Array | undefined, { errno, bytes = 0 }: Call): void {
  assert.is(reply?.length, 4 + SHOWN_BYTES);
  assert.is(new DataView(reply!.buffer).getUint32(0, true), errno);
  const expected = new Uint8Array(SHOWN_BYTES);
  expected.set(new TextEncoder().encode(CONTENTS.slice(0, bytes)));
  assert.equal(reply?.subarray(4), expected);
}

for (const call of CALLS) {
  test(`a module that ${call.name}`, async () => {
    const file = scratchFile(CONTENTS);
    const { rights = ["read"] } = call;
    const grants = rights === null ? [] : [grantOf(file, rights)];
    const device = await started(new ConfinedDevice(moduleOf(call), grants));
    device.request({ id: 1, capacity: 4 + SHOWN_BYTES });
    const answer = await device.receive();
    checkReply(answer?.replies[0]?.bytes, call);
    assert.is((await device.leave()).status, 0);
    assert.is(fs.readFileSync(file, "latin1"), CONTENTS);
  });
}

test.after.each(endAll);
test.run();
