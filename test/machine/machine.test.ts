import { test } from "uvu";
import * as assert from "uvu/assert";
import { JobReader } from "./machine.js";

const without = (reader: JobReader) =>
  [...reader.results].map(([index, { status, output }]) => ({ index, status, output }));

test("JobReader takes status and output of each job", () => {
  const reader = new JobReader();
  reader.push("@@start 0\none\ntwo\n\n@@end 0 0\n@@start 1\nno line break\n@@end 1 137\n@@off\n");
  assert.equal(without(reader), [
    { index: 0, status: 0, output: "one\ntwo\n" },
    { index: 1, status: 137, output: "no line break" },
  ]);
  assert.ok(reader.complete);
});

test("JobReader takes lines that come in pieces", () => {
  const reader = new JobReader();
  for (const character of "@@start 4\ndone\n\n@@end 4 3\n") reader.push(character);
  assert.equal(without(reader), [{ index: 4, status: 3, output: "done\n" }]);
});

test("JobReader has no result for a job whose host vanished", () => {
  const reader = new JobReader();
  reader.push("@@start 0\n\n@@end 0 0\n@@start 1\nhalf a li");
  assert.equal(without(reader), [{ index: 0, status: 0, output: "" }]);
  assert.not(reader.complete);
});

test("JobReader knows the job that was running, and what it had written", () => {
  const reader = new JobReader();
  assert.is(reader.unfinished, undefined);
  reader.push("@@start 0\n\n@@end 0 0\n@@start 1\na line\nhalf a li");
  assert.equal(reader.unfinished, { index: 1, output: "a line\n" });
  reader.push("ne\n@@end 1 0\n");
  assert.is(reader.unfinished, undefined);
});

test.run();
