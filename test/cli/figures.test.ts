import { test } from "uvu";
import * as assert from "uvu/assert";
import { bytes, count, duration, uptime } from "../../host/cli/figures.js";

test("count() has as many figures as it needs", () => {
  assert.equal([0, 7, 999, 1000, 1234, 12345, 1e6, 2.5e9].map(count), [
    ...["0", "7", "999", "1k", "1.2k", "12k", "1M", "2.5G"],
  ]);
});

test("bytes() goes in steps of 1024", () => {
  assert.equal([0, 1023, 1024, 1536, 64 * 1024 ** 2].map(bytes), [
    "0",
    "1023",
    "1K",
    "1.5K",
    "64M",
  ]);
});

test("duration() is in microseconds, milliseconds or seconds", () => {
  const all = [undefined, 0.5, 12.3, 999, 1500, 25_000, 1_500_000, 60_000_000];
  assert.equal(all.map(duration), ["-", "0.5us", "12us", "999us", "1.5ms", "25ms", "1.5s", "60s"]);
});

test("uptime() is in the largest unit that fits", () => {
  const ago = (seconds: number) => uptime(1e12 - seconds * 1000, 1e12);
  assert.equal([-1, 0, 59, 60, 3599, 3600, 172_799, 172_800].map(ago), [
    ...["0s", "0s", "59s", "1m", "59m", "1h", "47h", "2d"],
  ]);
});

test.run();
