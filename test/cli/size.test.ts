import { test } from "uvu";
import * as assert from "uvu/assert";
import { formatSize, parseCpuCount, parseMemorySize } from "../../host/cli/size.js";

const RANGE = { min: 16 * 1024 ** 2, max: 1024 ** 4 };

test("parseMemorySize() reads lkvm's suffixes, a bare number being MiB", () => {
  assert.is(parseMemorySize("512", RANGE), 512 * 1024 ** 2);
  assert.is(parseMemorySize("512M", RANGE), 512 * 1024 ** 2);
  assert.is(parseMemorySize("1g", RANGE), 1024 ** 3);
  assert.is(parseMemorySize("65536K", RANGE), 64 * 1024 ** 2);
  assert.is(parseMemorySize("33554432B", RANGE), 32 * 1024 ** 2);
});

for (const text of ["", "M", "12Q", "-1M", "1.5G", "0x10M", "512MB", " 512M", "1e9"]) {
  test(`parseMemorySize() refuses "${text}" as malformed`, () => {
    assert.throws(() => parseMemorySize(text, RANGE), /it is no number with one of the suffixes/);
  });
}

test("parseMemorySize() names the bounds of a size out of range", () => {
  assert.throws(() => parseMemorySize("1M", RANGE), /"1M": too little\na guest has from 16M to 1T/);
  assert.throws(() => parseMemorySize("2T", RANGE), /"2T": too much/);
});

test("parseMemorySize() refuses a size that is not whole pages", () => {
  assert.throws(() => parseMemorySize("33554433B", RANGE), /no multiple of the page size/);
});

test("formatSize() uses the largest unit that fits exactly", () => {
  assert.is(formatSize(1024 ** 3), "1G");
  assert.is(formatSize(1536 * 1024 ** 2), "1536M");
  assert.is(formatSize(100), "100B");
});

test("parseCpuCount() reads a count and names the bounds of one out of range", () => {
  assert.is(parseCpuCount("2", { min: 1, max: 8 }), 2);
  for (const text of ["0", "9", "99999999"]) {
    assert.throws(() => parseCpuCount(text, { min: 1, max: 8 }), /from 1 to 8 CPUs/);
  }
  assert.throws(() => parseCpuCount("two", { min: 1, max: 8 }), /it is no whole number/);
});

test.run();
