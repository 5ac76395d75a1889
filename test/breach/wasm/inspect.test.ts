// A module that attacks whoever only looks at it: `bulkhead inspect` repeats what a module says.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { EXIT } from "../../../host/errors.js";
import { manifest, moduleWith } from "../../runtime/support.js";
import { bulkhead } from "../../support/bulkhead.js";
import { scratchFile } from "../support/confined.js";

/** Erases the screen, answers a question of the terminal, and paints what is not so. */
const ESCAPES = "\u001b[2J\u001b]0;root\u0007\u009b31m\r\nOK: it may do nothing";
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const CONTROLS = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/;

const MODULES: readonly (readonly [where: string, module: () => Uint8Array])[] = [
  ["the name of an import", () => importing(`"env" "${escaped(ESCAPES)}"`)],
  ["the name of an imported module", () => importing(`"${escaped(ESCAPES)}" "fd_read"`)],
  [
    "the name of an imported global",
    () => importing(`"env" "${escaped(ESCAPES)}"`, "(global i32)"),
  ],
  ["the name of its manifest", () => moduleWith({}, manifest({ name: ESCAPES }))],
  ["the name of an export", () => moduleWith({ more: `(func (export "${escaped(ESCAPES)}"))` })],
  ["the features of its manifest", () => moduleWith({}, manifest({ features: ESCAPES }))],
];

/** Text as the text format of WebAssembly has it. */
function escaped(text: string): string {
  return [...new TextEncoder().encode(text)]
    .map((byte) => `\\${byte.toString(16).padStart(2, "0")}`)
    .join("");
}

function importing(names: string, type = "(func)"): Uint8Array {
  return moduleWith({ imports: `(import ${names} ${type})` });
}

for (const [where, module] of MODULES) {
  test(`bulkhead inspect prints no escape sequence from ${where}`, () => {
    const { status, stdout, stderr } = bulkhead(["inspect", scratchFile(module())]);
    assert.is(status, EXIT.usage, stderr);
    assert.is(stdout, "");
    assert.match(stderr, /^Error: Cannot use this module/);
    assert.not.match(stderr, CONTROLS);
    // A line of its own would be taken for one of ours.
    assert.not.match(stderr, /^\s*OK/m);
  });
}

test.run();
