import { test } from "uvu";
import * as assert from "uvu/assert";
import { type OptionWord, resolveOptions } from "../../host/sandbox/options.js";
import { manifest } from "../runtime/support.js";

const MANIFEST = manifest({
  name: "disk",
  capabilities: [{ name: "image", kind: "file", rights: ["read"], required: true }],
  options: [
    { name: "rate", type: "number" },
    { name: "slow", type: "flag" },
    { name: "serial", type: "text" },
  ],
});

function resolved(given: Record<string, OptionWord>) {
  return resolveOptions(MANIFEST, given);
}

test("resolveOptions() gives what was set, in the order of the manifest", () => {
  assert.equal(resolved({ serial: "a=b", slow: true, rate: "10" }), [
    { index: 0, number: "10", text: "" },
    { index: 1, number: "1", text: "" },
    { index: 2, number: "0", text: "a=b" },
  ]);
  assert.equal(resolved({ slow: true }), [{ index: 1, number: "1", text: "" }]);
  assert.equal(resolved({}), []);
});

for (const [word, number] of [
  ["0", 0n],
  ["64K", 65536n],
  ["8m", 8n << 20n],
  ["17179869183G", 17179869183n << 30n],
  ["18446744073709551615", 2n ** 64n - 1n],
] as const) {
  test(`resolveOptions() takes ${word} as a number`, () => {
    assert.is(resolved({ rate: word })[0]?.number, `${number}`);
  });
}

for (const [given, message] of [
  [{ rate: "-1" }, /Cannot set rate of device disk: "-1", expected a number/],
  [{ rate: "1.5" }, /"1.5", expected a number/],
  [{ rate: "0x10" }, /"0x10", expected a number/],
  [{ rate: "" }, /"", expected a number/],
  [{ rate: "18446744073709551616" }, /expected a number below 2\^64/],
  [{ rate: "17179869184G" }, /expected a number below 2\^64/],
  [{ rate: true }, /no value, write it as rate=NUMBER/],
  [{ serial: true }, /no value, write it as serial=TEXT/],
  [{ slow: "yes" }, /"yes", but it is a flag/],
  [{ serial: "é".repeat(129) }, /258 bytes, at most 256/],
  [{ image: "disk.img" }, /it is a capability, and granted with --grant ID.image=file:/],
  [{ rat: "1" }, /its options are rate, slow, serial/],
  [{ constructor: "1" }, /its options are/],
] as const) {
  test(`resolveOptions() refuses ${JSON.stringify(given).slice(0, 60)}`, () => {
    assert.throws(() => resolved(given as Record<string, OptionWord>), message);
  });
}

test("resolveOptions() says so when a device has no options", () => {
  assert.throws(() => resolveOptions(manifest(), { rate: "1" }), /it has no options/);
});

test.run();
