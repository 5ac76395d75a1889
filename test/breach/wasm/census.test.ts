// So that the attacks do not get fewer without anybody noticing.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { CALLS } from "./calls.js";
import { ENDINGS, ENTRIES } from "./endings.js";
import { IMPORTS } from "./imports.js";
import { LIMITS } from "./limits.js";
import { MANIFESTS } from "./manifests.js";
import { SHAPES } from "./shapes.js";
import { SURVIVORS } from "./survivors.js";

const REFUSED = [...IMPORTS, ...SHAPES, ...LIMITS, ...MANIFESTS];
const CONFINED = [...CALLS, ...ENDINGS, ...SURVIVORS];

test("at least 25 hostile modules run in confined processes, and 100 more are refused", () => {
  assert.ok(CONFINED.length >= 25, `${CONFINED.length}`);
  assert.ok(REFUSED.length >= 100, `${REFUSED.length}`);
});

test("no two attacks have the same name", () => {
  const names = [...REFUSED, ...CONFINED].map(({ name }) => name);
  assert.equal(
    names.filter((name, i) => names.indexOf(name) !== i),
    [],
  );
});

test("every entry point that the runtime calls is attacked", () => {
  const entries = ENTRIES.map(({ entry }) => entry);
  assert.equal(entries, ["_initialize", "reserve", "set", "start", "activate", "reset", "serve"]);
});

test.run();
