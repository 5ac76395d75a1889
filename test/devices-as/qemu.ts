// Images made and looked at by QEMU's own tools: what a disk of ours is compared with.

import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { DeviceUnderTest } from "../../host/testing/main.js";
import type { Random } from "../virtio/random.js";
import { ask, IN, OK } from "./examples/blk.js";

export const BLK = new URL("../../devices/blk.debug.wasm", import.meta.url);
/** The optimised build, for what takes long. */
export const BLK_RELEASE = new URL("../../devices/blk.wasm", import.meta.url);

/** Why these tests cannot run, or undefined. */
export function missingQemu(): string | undefined {
  const { status } = spawnSync("qemu-img", ["--version"]);
  return status === 0 ? undefined : "qemu-img is missing: apt install qemu-utils";
}

/** From `low` to `high`, both included. */
export function between(random: Random, low: number, high: number): number {
  return low + random.below(high - low + 1);
}

/** Bytes that cannot be compressed. */
export function noise(random: Random, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, () => random.u32());
}

/** A directory of the test's own, gone at its end. */
export const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-blk-"));
process.on("exit", () => fs.rmSync(directory, { recursive: true, force: true }));

let count = 0;

/** A name for a new file. */
export function newPath(ending: string): string {
  count += 1;
  return path.join(directory, `${count}.${ending}`);
}

export function qemuImg(...args: (string | number)[]): string {
  return execFileSync("qemu-img", args.map(String), { encoding: "utf8", stdio: "pipe" });
}

export interface Created {
  bytes: number;
  /** Options of -o: `cluster_size=512`, `compat=0.10`. */
  options?: string[];
  backing?: { path: string; format: string };
}

export function create({ bytes, options = [], backing }: Created): string {
  const file = newPath("qcow2");
  const o = options.length > 0 ? ["-o", options.join(",")] : [];
  const b = backing === undefined ? [] : ["-b", backing.path, "-F", backing.format];
  qemuImg("create", "-q", "-f", "qcow2", ...o, ...b, file, bytes);
  return file;
}

/** Has qemu-io run these commands on a file. */
export function qemuIo(file: string, commands: string[], format = "qcow2"): void {
  const args = commands.flatMap((command) => ["-c", command]);
  const said = execFileSync("qemu-io", ["-f", format, ...args, file], { encoding: "utf8" });
  if (/failed|error/i.test(said)) throw new Error(said);
}

/** Writes at random places of random lengths, in sectors. */
export function randomWrites(random: Random, bytes: number, howMany: number): string[] {
  return Array.from({ length: howMany }, () => {
    const length = 512 * between(random, 1, 128);
    const at = 512 * between(random, 0, (bytes - length) / 512);
    return `write -P ${between(random, 1, 255)} ${at} ${length}`;
  });
}

/** What is on the disk that an image is, as QEMU reads it. */
export function contentsOf(file: string, format = "qcow2"): Uint8Array {
  const raw = newPath("raw");
  qemuImg("convert", "-f", format, "-O", "raw", file, raw);
  const bytes = new Uint8Array(fs.readFileSync(raw));
  fs.rmSync(raw);
  return bytes;
}

/** All that a device reads of its disk, in requests of odd lengths. */
export function readAll(device: DeviceUnderTest): Uint8Array {
  const capacity = Number(Buffer.from(device.readConfig(0, 8)).readBigUInt64LE());
  const all = new Uint8Array(capacity * 512);
  for (let sector = 0, step = 1; sector < capacity; sector += step, step = (step * 7) % 1009) {
    const sectors = Math.min(step, capacity - sector);
    const { status, data } = ask(device, { type: IN, sector, room: sectors * 512 });
    if (status !== OK) throw new Error(`sector ${sector}: ${device.log.join("\n")}`);
    all.set(data, sector * 512);
  }
  return all;
}

export interface Check {
  corruptions: number;
  leaks: number;
  errors: number;
}

/** What qemu-img check finds in an image. */
export function check(file: string): Check {
  const { stdout, stderr } = spawnSync("qemu-img", ["check", "-f", "qcow2", "--output=json", file]);
  try {
    const found = JSON.parse(stdout.toString()) as Record<string, number>;
    const { corruptions = 0, leaks = 0, "check-errors": errors = 0 } = found;
    return { corruptions, leaks, errors };
  } catch {
    throw new Error(`qemu-img check says: ${stderr.toString()}`);
  }
}
