// The world of a test refuses what that of a confined process refuses, with the same errno: a
// device that is wrong must not pass its tests.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { file, openDevice } from "../../host/testing/main.js";
import { CALLS, type Call, CONTENTS, moduleOf, SHOWN_BYTES } from "../breach/wasm/calls.js";

/** The rights of a grant as a test writes them. */
function wordOf(rights: NonNullable<Call["rights"]>): "ro" | "wo" | "rw" {
  if (rights.length === 2) return "rw";
  return rights[0] === "read" ? "ro" : "wo";
}

for (const call of CALLS) {
  test(`in a test, too, a module that ${call.name}`, () => {
    const { rights = ["read"], errno, bytes = 0 } = call;
    const data = file(CONTENTS, rights === null ? "ro" : wordOf(rights));
    const device = openDevice(moduleOf(call), rights === null ? {} : { data });
    device.negotiate();
    const reply = device.request(0, "", 4 + SHOWN_BYTES);
    const expected = new Uint8Array(SHOWN_BYTES);
    expected.set(new TextEncoder().encode(CONTENTS.slice(0, bytes)));
    assert.is(new DataView(reply.buffer, reply.byteOffset).getUint32(0, true), errno);
    assert.equal(reply.subarray(4), expected);
    assert.is(new TextDecoder().decode(data.bytes), CONTENTS);
  });
}

test.run();
