import { test } from "uvu";
import * as assert from "uvu/assert";
import { LINES_BURST_MAX, LINES_PER_SECOND_MAX, LineLog } from "../../host/wire/line-log.js";

function clocked() {
  const lines: string[] = [];
  const clock = { now: 0 };
  const log = new LineLog(
    (line) => lines.push(line),
    () => clock.now,
  );
  return { lines, clock, log };
}

test("LineLog.line() drops what comes faster than the limit, and says how much", () => {
  const { lines, clock, log } = clocked();
  for (let i = 0; i < LINES_BURST_MAX + 5; i += 1) log.line("x");
  assert.is(lines.length, LINES_BURST_MAX);
  clock.now += 1000;
  for (let i = 0; i < 100; i += 1) log.line("y");
  assert.is(lines.length, LINES_BURST_MAX + LINES_PER_SECOND_MAX);
  assert.is(lines[LINES_BURST_MAX], "y (5 lines before it dropped)");
});

test("LineLog.line() saves up no more than one burst", () => {
  const { lines, clock, log } = clocked();
  clock.now += 1e9;
  for (let i = 0; i < 1000; i += 1) log.line("x");
  assert.is(lines.length, LINES_BURST_MAX);
});

test("LineLog.once() says each topic once", () => {
  const { lines, log } = clocked();
  log.once("a", "first a");
  log.once("a", "second a");
  log.once("b", "first b");
  assert.equal(lines, ["first a", "first b"]);
});

test.run();
