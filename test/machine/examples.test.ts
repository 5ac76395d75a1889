// Debian's unmodified kernel as a guest of the devices in devices-as/examples/: drivers that were
// written for other monitors' devices find nothing odd about them.

import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { note, skip } from "../support/skip.js";
import { type Job, type JobResult, machineUnavailable, runInMachine } from "./machine.js";
import { withoutSigns } from "./tries.js";

const examples: Job = {
  command: ({ node, checkout, kernel, examplesInitrd }) => {
    return [
      node,
      path.join(checkout, "dist/test/machine/examples-host.js"),
      kernel,
      examplesInitrd,
    ];
  },
  isWrong: (output) => /^guest: .*\bdiffers/m.test(output),
};

/** What the guest says of `device`, line by line. */
function said({ output }: JobResult, device: string): string[] {
  const lines = withoutSigns(output).replaceAll("\r", "").split("\n");
  const start = `guest: ${device} `;
  return lines.filter((line) => line.startsWith(start)).map((line) => line.slice(start.length));
}

const unavailable = machineUnavailable();
if (unavailable === undefined) {
  let result: JobResult;

  test.before(async () => {
    [result] = (await runInMachine([examples])) as [JobResult];
    note(`status ${result.status}, ${result.seconds.toFixed(1)} s`);
    if (result.status !== 0) note(result.output);
  });

  test("a stock kernel keeps a file on the RAM disk, whose name and size it knows", () => {
    assert.equal(said(result, "ramdisk"), ["4096 sectors", "same"]);
  });

  test("a stock kernel hears what it says to the echo, also what did not fit at once", () => {
    assert.equal(said(result, "echo"), ["same"]);
  });

  test("a stock kernel gets random bytes from the mixer", () => {
    assert.match(result.output, /^guest: rng_current virtio_rng\.0/m);
    const [line = ""] = said(result, "mixer");
    const [read, gzipped] = (line.match(/\d+/g) ?? []).map(Number);
    assert.is(read, 4096);
    assert.ok(gzipped! > read!, `${gzipped} bytes gzipped`);
  });

  test("a stock kernel sees the errors of the flaky disk, and the rest of it as it is", () => {
    const [read = "", written = ""] = said(result, "flaky");
    const [failed, of, right] = (read.match(/\d+/g) ?? []).map(Number);
    assert.is(of, 16);
    assert.ok(failed! > 0 && failed! < of!, read);
    assert.is(right, of! - failed!);
    const hash = /^host: flaky has (\w{64})/m.exec(result.output)?.[1];
    assert.is(written, `written ${hash}`);
  });

  test("a stock kernel hears what two typists type who connect one after the other", () => {
    const shift = (value: number) => `1 42 ${value}`;
    const tap = (code: number) => [`1 ${code} 1`, "0 0 0", `1 ${code} 0`];
    const h = [shift(1), ...tap(35), shift(0), "0 0 0"];
    const [i, enter] = [23, 28].map((code) => [...tap(code), "0 0 0"]);
    const events = [...h, ...i!, ...enter!].join(" ");
    assert.equal(said(result, "keyboard"), ["Bulkhead keyboard", "listens", events]);
  });

  test("a stock kernel is done with all of them, and powers off", () => {
    assert.match(result.output, /^guest: done/m);
    assert.is(result.status, 0);
  });
} else {
  skip(unavailable);
}

test.run();
