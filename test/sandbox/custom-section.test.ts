import { test } from "uvu";
import * as assert from "uvu/assert";
import { withCustomSection, withSourceMapUrl } from "../../host/sandbox/custom-section.js";
import { inspectModule } from "../../host/sandbox/manifest.js";
import { moduleWith } from "../runtime/support.js";

const NAME = "sourceMappingURL";

function textOf(bytes: ArrayBuffer | undefined): string {
  return new TextDecoder().decode(bytes);
}

/** A module whose data, too, has the name of the section. */
function mapped(): Uint8Array<ArrayBuffer> {
  const module = moduleWith({ more: `(data (i32.const 64) "${NAME}")` });
  return withCustomSection(module, NAME, new TextEncoder().encode("\u0005a.map"));
}

test("withCustomSection() adds a section that V8 finds", () => {
  const module = withCustomSection(moduleWith(), "more", Uint8Array.of(1, 2, 3));
  const [found] = WebAssembly.Module.customSections(new WebAssembly.Module(module), "more");
  assert.equal([...new Uint8Array(found!)], [1, 2, 3]);
});

test("withSourceMapUrl() replaces the URL and moves nothing else", () => {
  const before = mapped();
  const url = `file:///${"long/".repeat(40)}a.map`;
  const after = withSourceMapUrl(before, url);
  const sections = WebAssembly.Module.customSections(
    new WebAssembly.Module(new Uint8Array(after)),
    NAME,
  );
  assert.is(sections.length, 1);
  assert.is(textOf(sections[0]?.slice(2)), url); // behind its length, which takes two bytes
  const changed = [...before].filter((byte, i) => byte !== after[i]);
  assert.equal(changed, ["s".charCodeAt(0)]);
  assert.equal(inspectModule(after), inspectModule(before));
});

test("withSourceMapUrl() leaves a module without a map as it is", () => {
  const module = moduleWith();
  assert.is(withSourceMapUrl(module, "file:///a.map"), module);
});

test.run();
