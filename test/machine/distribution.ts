// What the tests of a Debian on a disk share: a file for each disk, because each boot takes a
// minute on an emulated host, and a file has a time limit.

import path from "node:path";
import { suite, type Test } from "uvu";
import * as assert from "uvu/assert";
import { buildDistribution, type Distribution } from "../../build/distribution.js";
import { missing } from "../support/debian.js";
import { note, skip } from "../support/skip.js";
import { type Job, type JobResult, machineUnavailable, runInMachine } from "./machine.js";

/** A boot takes 110 s, and twice that on a busy machine; any may have to be repeated. */
const JOB_MS = 900_000;

/** How far a guest's clock may be off: CMOS has whole seconds, and reading it takes a while. */
const CLOCK_SECONDS_MAX = 5;

let disks: Distribution | undefined;

/** Why there can be no Debian here, or undefined. In CI a failed download is an error. */
function distributionUnavailable(): string | undefined {
  if (process.getuid?.() !== 0) return "no Debian to boot: only root can make one";
  const lacking =
    missing("mmdebstrap", "mmdebstrap") ??
    missing("qemu-img", "qemu-utils") ??
    missing("mke2fs", "e2fsprogs") ??
    machineUnavailable();
  if (lacking !== undefined) return lacking;
  try {
    disks = buildDistribution();
    return undefined;
  } catch (error) {
    if (process.env.CI === "true") throw error;
    return `no Debian to boot: ${(error as Error).message}; see: node dist/build/distribution.js`;
  }
}

/** Where the disk is on each transport, from /sys/devices on. */
const PLACES: Readonly<Record<string, RegExp>> = {
  pci: /^\.\.\/devices\/pci0000:00\/0000:00:01\.0$/,
  mmio: /^\.\.\/devices\/.*\bLNRO0005:00$/,
};

/** What the host's side says of one boot (distribution-host.ts); keys are the first words. */
function checkBoot(lines: string[], word: string): void {
  const [transport = "", , does, end] = word.split(":");
  const said = (start: string) => {
    return lines.find((line) => line.startsWith(start))?.slice(start.length) ?? "";
  };
  assert.match(said("login after "), /\d s/);
  assert.is(said("cpus "), "2");
  assert.match(said("disk on "), PLACES[transport]!);
  assert.match(said("root "), /^\/dev\/vda1 ext4 rw,/);
  assert.is(said("units failed: "), "");
  assert.is(said("clock k"), "vm-clock");
  const [slow = 99, fast = 99] = (said("clock is ").match(/[\d.]+/g) ?? []).map(Number);
  assert.ok(slow < CLOCK_SECONDS_MAX && fast < CLOCK_SECONDS_MAX, said("clock is "));
  const [guest = 0, host = 0] = (said("a second took ").match(/[\d.]+/g) ?? []).map(Number);
  assert.ok(guest >= 1 && guest <= host * 1.1, said("a second took "));
  assert.is(said("files "), does === "write" ? "written" : "same");
  assert.match(said(`${end} ended with `), /^0 /);
}

/** What was said from each `boot` on that was not repeated. */
export function bootsOf({ output }: JobResult): string[][] {
  const boots: string[][] = [];
  for (const [, line = ""] of output.matchAll(/^host: (.*?)\r?$/gm)) {
    if (line.startsWith("boot ")) boots.push([]);
    boots.at(-1)?.push(line);
  }
  return boots.filter((lines) => !lines.some((line) => line.startsWith("again")));
}

/** A suite on the result of `program`, which gets the disks, and then `words`. */
export function testProgram(
  program: string,
  words: readonly string[],
  define: (debian: Test, result: () => JobResult) => void,
): void {
  const debian = suite("Debian");
  const unavailable = distributionUnavailable();
  if (unavailable !== undefined) {
    skip(unavailable);
    return;
  }
  const job: Job = {
    command: (place) => {
      const kind = place.emulated ? "emulated" : "real";
      const script = path.join(place.checkout, "dist/test/machine", program);
      return [place.node, script, place.disks, kind, ...words];
    },
    timeoutMs: JOB_MS,
    isWrong: (output) => /^host: files differ/m.test(output),
  };
  let result: JobResult;

  debian.before(async () => {
    [result] = (await runInMachine([job], { disks })) as [JobResult];
    note(`status ${result.status}, ${result.seconds.toFixed(1)} s`);
    note(
      result.status === 0 ? [...result.output.matchAll(/^host: .*/gm)].join("\n") : result.output,
    );
  });
  define(debian, () => result);
  debian("is done with all of it", () => {
    assert.is(result.status, 0);
    assert.match(result.output, /^host: done\r?$/m);
  });
  debian.run();
}

/** Tests that Debian boots as each of `boots` says, one after the other on the same disk. */
export function testBoots(boots: readonly string[]): void {
  testProgram("distribution-host.js", boots, (debian, result) => {
    for (const [index, word] of boots.entries()) {
      debian(`boots, logs in, and its files are right: ${word}`, () => {
        const lines = bootsOf(result())[index] ?? [];
        assert.is(lines[0], `boot ${word}`);
        checkBoot(lines, word);
      });
    }
  });
}
