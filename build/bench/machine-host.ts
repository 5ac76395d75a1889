// The host's side of one round in the test machine: the same kernel under Bulkhead and then under
// QEMU, each of which boots, reads a disk and powers off. A program of its own, because it runs
// wherever a job runs:
//
//   node machine-host.js '{"files":…,"kernel":…,"oursFirst":true}'
//
// It prints one line of JSON for each, which takeFigures() in machine.ts reads.

import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { BenchFiles } from "./machine-images.js";

const BULKHEAD = fileURLToPath(new URL("../../bundle/cli/main.js", import.meta.url));

const PARAMETERS = "console=ttyS0 quiet oops=panic panic=-1";
const MIB = 1024 * 1024;
const DATA_BYTES = 64 * MIB;

/** A guest on an emulated host: three times what the longest took on a busy machine. */
const GUEST_MS_MAX = 150_000;
/** The emulator kills a guest now and then; see test/machine/tries.ts. */
const TRIES_MAX = 3;

/** What a round is told. */
export interface RoundSettings {
  files: BenchFiles;
  kernel: string;
  oursFirst: boolean;
}

/** What one guest gave. */
export interface Figures {
  who: "ours" | "theirs";
  /** From before the start of the process to the first word of the guest's init, on our clock. */
  execToInitS: number;
  /** The guest's own clock at that moment. */
  kernelS: number;
  /** Sequential, MB/s. */
  dd: number;
  /** Random 4 KiB, 16 in flight, requests/s. */
  fio: number;
}

function ours({ files, kernel }: RoundSettings, data: string): string[] {
  return [
    ...[process.execPath, BULKHEAD, "run", "-k", kernel, "-i", files.initrd, "-m", "512M"],
    ...["-c", "1", "-d", `${files.tools},ro`, "-d", data, "-p", PARAMETERS],
  ];
}

function theirs({ files, kernel }: RoundSettings, data: string): string[] {
  const disk = (id: string, file: string, more = "") => [
    ...["-drive", `file=${file},format=raw,if=none,id=${id}${more}`],
    ...["-device", `virtio-blk-device,drive=${id}`],
  ];
  return [
    ...[files.qemu, "-L", files.firmware, "-M", "microvm", "-enable-kvm", "-cpu", "host"],
    ...["-m", "512", "-smp", "1", "-nodefaults", "-no-user-config", "-nographic"],
    ...["-serial", "stdio", "-no-reboot", "-global", "virtio-mmio.force-legacy=false"],
    ...["-kernel", kernel, "-initrd", files.initrd, "-append", PARAMETERS],
    ...disk("t", files.tools, ",readonly=on"),
    ...disk("d", data),
  ];
}

/** Runs a guest to its end; resolves to all that was said, and to when its init said the first. */
function run(command: string[]): Promise<{ text: string; initS: number }> {
  const [file, ...args] = command;
  const begin = performance.now();
  const child = spawn(file!, args, { stdio: ["ignore", "pipe", "pipe"], timeout: GUEST_MS_MAX });
  let text = "";
  let initS = Number.NaN;
  child.stdout.setEncoding("utf8").on("data", (more: string) => {
    text += more;
    if (Number.isNaN(initS) && text.includes("guest: init")) {
      initS = (performance.now() - begin) / 1000;
    }
  });
  child.stderr.setEncoding("utf8").on("data", (more: string) => (text += more));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => resolve({ text, initS }));
  });
}

/** Fields of fio's terse output, version 3 (fio(1), "Terse output"), counted from 0. */
const FIO_READ_IOPS = 7;

/** What bench-init.sh said in `text`; undefined where it did not come to its end. */
export function figuresOf(who: Figures["who"], text: string, initS: number): Figures | undefined {
  const [, uptime] = /guest: init ([\d.]+)/.exec(text) ?? [];
  const [, before, after] = /guest: dd from ([\d.]+) s to ([\d.]+) s/.exec(text) ?? [];
  const [, terse] = /guest: fio (3;.*)/.exec(text) ?? [];
  const iops = terse?.split(";")[FIO_READ_IOPS];
  if (uptime === undefined || after === undefined || iops === undefined) return undefined;
  return {
    who,
    execToInitS: initS,
    kernelS: Number(uptime),
    dd: DATA_BYTES / (Number(after) - Number(before)) / 1e6,
    fio: Number(iops),
  };
}

async function figures(who: Figures["who"], command: string[]): Promise<Figures> {
  for (let left = TRIES_MAX; ; left--) {
    const { text, initS } = await run(command);
    const found = figuresOf(who, text.replaceAll("\r", ""), initS);
    if (found !== undefined) return found;
    console.log(text);
    if (left === 1) throw new Error(`no figures from ${command.join(" ")}`);
  }
}

async function round(settings: RoundSettings): Promise<void> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-bench-"));
  const data = path.join(directory, "data.img");
  try {
    fs.writeFileSync(data, Buffer.alloc(DATA_BYTES, "bulkhead"));
    const turns = [
      ["ours", ours(settings, data)],
      ["theirs", theirs(settings, data)],
    ] as const;
    for (const [who, command] of settings.oursFirst ? turns : turns.toReversed()) {
      console.log(`figures ${JSON.stringify(await figures(who, command))}`);
    }
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await round(JSON.parse(process.argv[2] ?? "") as RoundSettings);
}
