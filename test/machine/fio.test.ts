// fio in a guest with Debian's kernel, on raw and qcow2 disks whose device is killed while it
// writes, and whose VMM is killed after a flush was answered: all that was flushed is there.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { makeTools } from "../../build/bench/machine-images.js";
import { Cpio } from "../../build/cpio.js";
import { GUEST_MODULES, initramfs, librariesOf } from "../../build/machine.js";
import { findProgram, missing } from "../support/debian.js";
import { note, skip } from "../support/skip.js";
import type { FioSettings } from "./fio-host.js";
import {
  emulationWanted,
  type Job,
  type JobResult,
  machineUnavailable,
  runInMachine,
} from "./machine.js";

/** Six boots of 20 s, and 250 with ten programs for each processor. */
const JOB_MS = 1_000_000;
const OUTPUT = fileURLToPath(new URL("../../machine", import.meta.url));

type Files = Pick<FioSettings, "initrd" | "tools">;

/** Where they are on an emulated host. */
const EMULATED: Files = { initrd: "/guest/fio-initrd", tools: "/guest/tools.ext4" };

function build(): Files {
  const files = { initrd: path.join(OUTPUT, "fio.cpio"), tools: path.join(OUTPUT, "fio.ext4") };
  initramfs("fio-init.sh", [...GUEST_MODULES, "virtio_blk"]).write(files.initrd);
  makeTools(files.tools);
  return files;
}

/** Those files, and qemu-img, for an emulated host. */
function pack({ initrd, tools }: Files): string {
  const cpio = new Cpio();
  const qemuImg = findProgram("qemu-img")!;
  cpio.copy("/bin/qemu-img", qemuImg, 0o755);
  for (const library of librariesOf(qemuImg)) cpio.copy(library, library, 0o755);
  cpio.copy(EMULATED.initrd, initrd);
  cpio.copy(EMULATED.tools, tools);
  const archive = path.join(OUTPUT, "fio-host.cpio");
  cpio.write(archive);
  return archive;
}

function job(files: Files): Job {
  return {
    command: ({ node, checkout, kernel, emulated }) => {
      const settings = { ...(emulated ? EMULATED : files), kernel, emulated } satisfies FioSettings;
      const script = path.join(checkout, "dist/test/machine/fio-host.js");
      return [node, script, JSON.stringify(settings)];
    },
    timeoutMs: JOB_MS,
    isWrong: (output) => /^(?:guest: verified \d+: [^0]|host: qemu-img check: [^g])/m.test(output),
  };
}

/** What the host's side says, in order; of a boot that was repeated, what the last one did. */
function said({ output }: JobResult): string[] {
  const lines: string[] = [];
  for (const [, line = ""] of output.matchAll(/^host: (.*?)\r?$/gm)) {
    if (!line.startsWith("again")) lines.push(line);
    else lines.length = lines.findLastIndex((each) => /, boot \d$/.test(each)) + 1;
  }
  return lines;
}

const DISK = ["killed 2 processes of the disk"];
const CHECK = ["qemu-img check: good"];

function expected(format: string): string[] {
  const check = format === "qcow2" ? CHECK : [];
  const writes = (cycle: number) => [
    ...[`wrote ${cycle}: 0`, `verified ${cycle}: 0`, ...DISK, "killed the VM: 137"],
    ...check,
  ];
  return [
    ...[`${format}, boot 1`, ...writes(1)],
    ...[`${format}, boot 2`, "verified 1: 0", ...writes(2)],
    ...[`${format}, boot 3`, "verified 2: 0", "ended with 0", ...check],
  ];
}

const unavailable =
  missing("qemu-img", "qemu-utils") ??
  missing("fio", "fio") ??
  missing("mke2fs", "e2fsprogs") ??
  machineUnavailable();
if (unavailable !== undefined) skip(unavailable);
else {
  let result: JobResult;

  test.before(async () => {
    const files = build();
    const archive = emulationWanted() ? pack(files) : undefined;
    [result] = (await runInMachine([job(files)], { archive })) as [JobResult];
    note(`status ${result.status}, ${result.seconds.toFixed(1)} s`);
    if (result.status !== 0) note(result.output);
    for (const line of result.output.match(/^host: (?:again|killed the VM).*/gm) ?? []) note(line);
    fs.rmSync(files.tools);
  });

  for (const format of ["qcow2", "raw"]) {
    test(`what fio flushed is there after the device and the VMM were killed: ${format}`, () => {
      const lines = said(result).map((line) => line.replace(/ after [\d.]+ s/, ""));
      const start = lines.indexOf(`${format}, boot 1`);
      assert.equal(lines.slice(start, start + expected(format).length), expected(format));
    });
  }

  test("all of it was done", () => {
    assert.is(said(result).at(-1), "done");
    assert.is(result.status, 0);
  });
}

test.run();
