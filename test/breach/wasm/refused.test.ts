// Hostile modules of which nothing runs: each is refused before the process is even confined.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { VmmError } from "../../../host/errors.js";
import { moduleWith } from "../../runtime/support.js";
import { load, type Refusal } from "../support/attack.js";
import { IMPORTS } from "./imports.js";
import { LIMITS } from "./limits.js";
import { MANIFESTS } from "./manifests.js";
import { SHAPES } from "./shapes.js";

const REFUSALS: readonly Refusal[] = [...IMPORTS, ...SHAPES, ...LIMITS, ...MANIFESTS];

test("the module that all attacks are made of is not refused itself", () => {
  load(moduleWith()).start();
});

for (const { name, module, because } of REFUSALS) {
  test(name, () => {
    let refusal: unknown;
    try {
      load(module());
    } catch (error) {
      refusal = error;
    }
    assert.instance(refusal, VmmError, `accepted, or refused by accident: ${refusal}`);
    const { code, message } = refusal as VmmError;
    assert.is(code, "ERR_MODULE");
    assert.match(message, because);
  });
}

test.run();
