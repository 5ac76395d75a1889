// What `npm run bench` makes of its numbers; the numbers themselves are nobody's promise.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { chart } from "../../build/bench/chart.js";
import { takeFigures } from "../../build/bench/machine.js";
import { figuresOf } from "../../build/bench/machine-host.js";
import { median } from "../../build/bench/processes.js";
import {
  CHART,
  finished,
  markdownTable,
  merged,
  type Results,
  type SectionResult,
  withNumbers,
} from "../../build/bench/report.js";
import { rounds } from "../../build/bench/rounds.js";
import { isMet, parseTarget, type Row, ratioOf } from "../../build/bench/rows.js";
import { runSection, SECTIONS } from "../../build/bench/sections.js";
import { readSource } from "../support/sources.js";

const slower: Row = { name: "p50", unit: "µs", ours: 40, theirs: 20, target: "≤ 1.5 ×" };
const faster: Row = {
  name: "depth 16",
  unit: "requests/s",
  ours: 2e5,
  theirs: 1e5,
  target: "≥ 1.5 ×",
};
const alone: Row = { name: "start", unit: "ms", ours: 200, target: "≤ 250" };

function section(name: string, rows: Row[]): SectionResult {
  return {
    name,
    title: `all of ${name}`,
    peer: "QEMU",
    date: "2026-11-30T00:00:00Z",
    load: 1,
    rows,
  };
}

function results(sections: SectionResult[], machine = { processor: "one" }): Results {
  return { machine, sections };
}

test("rounds() gives everybody a turn in each round, in turns first, and medians", async () => {
  const order: string[] = [];
  const turn = (name: string, values: number[]) => async () => {
    order.push(name);
    return { value: values.shift()! };
  };
  const turns = [turn("a", [9, 1, 5]), undefined, turn("b", [1, 2, 90])];
  const medians = await rounds("nothing", turns, 3);
  assert.equal(order, ["a", "b", "b", "a", "a", "b"]);
  assert.equal(medians, [{ value: 5 }, undefined, { value: 2 }]);
});

test("median() of an even count is the mean of the two in the middle", () => {
  assert.is(median([4, 1, 3, 100]), 3.5);
});

test("parseTarget() knows bounds of ratios and of numbers", () => {
  assert.equal(parseTarget("≥ 0.8 ×"), { more: true, bound: 0.8, relative: true });
  assert.equal(parseTarget("≤ 250"), { more: false, bound: 250, relative: false });
  assert.equal([parseTarget("soon"), parseTarget(undefined)], [undefined, undefined]);
});

test("ratioOf() is ours by theirs, as a reader would have it", () => {
  assert.is(ratioOf(slower), 2);
  assert.is(ratioOf({ ...slower, ratio: 3 }), 2);
  assert.is(ratioOf({ ...slower, ours: 0 }), undefined);
  assert.is(ratioOf(alone), undefined);
  assert.is(ratioOf({ ...slower, theirs: 0 }), undefined);
});

test("isMet() compares the ratio, or our own number", () => {
  assert.equal([slower, faster, alone].map(isMet), [false, true, true]);
  assert.is(isMet({ ...slower, theirs: undefined }), undefined);
  assert.is(isMet({ ...alone, ours: 251 }), false);
});

test("finished() rounds, and has the ratio of what a reader sees", () => {
  const row = finished({ name: "x", unit: "ms", ours: 123.456, theirs: 77.77777 });
  assert.equal(row, { name: "x", unit: "ms", ours: 123.5, theirs: 77.78, ratio: 1.588 });
});

test("merged() replaces sections of the same name, in the order of the report", () => {
  const before = results([section("b", [slower]), section("a", [slower])]);
  const all = merged(results([section("a", [alone])]), before, ["a", "b"]);
  assert.equal(all, results([section("a", [alone]), section("b", [slower])]));
});

test("merged() keeps nothing that another machine measured", () => {
  const before = results([section("b", [slower])], { processor: "another" });
  const now = results([section("a", [alone])]);
  assert.equal(merged(now, before, ["a", "b"]), now);
});

test("markdownTable() says what was missed", () => {
  const lines = markdownTable(results([section("a", [slower, faster, alone])])).split("\n");
  assert.equal(lines.slice(2), [
    "| **all of a** | | *QEMU* | | |",
    "| p50 | 40.0 µs | 20.0 µs | 2.00 × | ≤ 1.5 ×, missed |",
    "| depth 16 | 200\u00a0000 requests/s | 100\u00a0000 requests/s | 2.00 × | ≥ 1.5 × |",
    "| start | 200 ms | | | ≤ 250 |",
  ]);
});

test("withNumbers() replaces what is between the markers, and nothing else", () => {
  const readme = "before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n";
  const once = withNumbers(readme, results([section("a", [slower])]));
  assert.match(once, /^before\n<!-- bench -->\n.*\| p50 .*\n<!-- \/bench -->\nafter\n$/s);
  assert.not.match(once, /old/);
  assert.is(withNumbers(once, results([section("a", [slower])])), once);
  assert.throws(() => withNumbers("no markers", results([])), /README has no/);
});

/** Left edge and width of each bar, with its class. */
function barsOf(svg: string): string[] {
  const bars = svg.matchAll(/<rect class="(\w+)" x="(\d+)" y="[\d.]+" width="(\d+)"/g);
  return [...bars].map(([, kind, x, width]) => `${kind} ${x} ${width}`).slice(0);
}

test("chart() draws to the right what is faster, whatever the unit, in octaves", () => {
  const svg = chart(results([section("a", [slower, faster, alone])]));
  // Two octaves to each side of 515: half as fast, and twice as fast; what has no ratio has no bar.
  assert.equal(barsOf(svg), ["missed 433 82", "met 515 83"]);
});

test("chart() has the names of a row as text, not as markup", () => {
  const svg = chart(results([section("a", [{ ...slower, name: "<b> & co" }])]));
  assert.match(svg, /&lt;b&gt; &amp; co/);
});

const TERSE = `3;fio-3.33;bench;0;0;77252;15129;3782;5106;22;46442;215.0${";0".repeat(118)}`;

test("figuresOf() takes the guest's clock, the time of dd, and fio's reads a second", () => {
  const said = ["guest: init 3.17", "guest: dd from 4.10 s to 6.10 s", `guest: fio ${TERSE}`];
  const figures = { who: "ours", execToInitS: 9, kernelS: 3.17, dd: 33.554432, fio: 3782 };
  assert.equal(figuresOf("ours", `noise\n${said.join("\n")}\nguest: done\n`, 9), figures);
  for (const left of said) {
    const others = said.filter((line) => line !== left);
    assert.is(figuresOf("ours", others.join("\n"), 9), undefined, `without ${left}`);
  }
});

test("takeFigures() finds the lines of a round, whatever stands around them", () => {
  const figures = { who: "theirs", execToInitS: 1, kernelS: 2, dd: 3, fio: 4 };
  assert.equal(takeFigures(`# a\r\nfigures ${JSON.stringify(figures)}\r\nb`), [figures]);
});

test("README's table and the chart are those of results.json", () => {
  const kept = JSON.parse(readSource("build/bench/results.json")) as Results;
  assert.ok(kept.sections.length > 0);
  const readme = readSource("README.md");
  assert.is(withNumbers(readme, kept), readme, "run: npm run bench -- --render");
  assert.is(chart(kept), readSource(CHART), "run: npm run bench -- --render");
});

test("results.json has sections that exist, ratios, and targets that can be computed with", () => {
  const kept = JSON.parse(readSource("build/bench/results.json")) as Results;
  const names = SECTIONS.map(({ name }) => name);
  assert.equal(
    kept.sections.filter(({ name }) => !names.includes(name)).map(({ name }) => name),
    [],
  );
  const rows = kept.sections.flatMap((each) => each.rows);
  assert.equal(rows, rows.map(finished));
  const odd = rows.filter(({ target }) => target !== undefined && !parseTarget(target));
  assert.equal(odd, []);
});

test("each section has the module and the function that it names", async () => {
  for (const { module, run } of SECTIONS) {
    const url = new URL(`../../build/bench/${module}`, import.meta.url);
    const exports = (await import(url.href)) as Record<string, unknown>;
    assert.type(exports[run], "function", `${module} ${run}`);
  }
});

test("runSection() says what it did not find", async () => {
  const wrong = { ...SECTIONS[0]!, run: "benchNothing" };
  const context = { kernel: "", sleepingKernel: "", cpu: undefined, rounds: 1 };
  const error = await runSection(wrong, context).catch((reason: Error) => reason);
  assert.match(String(error), /no benchNothing\(\) in/);
});

test.run();
