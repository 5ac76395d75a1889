// The device path, all of it but the guest: our confined disk against a process that shares the
// guest's memory and is confined by nothing. The same driver on the same rings drives both, in
// turns, on images that are alike and in the page cache.
//
//   node dist/build/bench/device-path.js [rounds [seconds [sleeps]]]     a JSON object a line
//
// In a VM a request of either has one wake-up more: the driver's, or the I/O worker's, which here
// is the same thread.

import { type ChildProcess, execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { sayJson } from "../../host/cli/output.js";
import { hasCoreToSpare } from "../../host/machine/lookout.js";
import { ConfinedDisk } from "./confined-disk.js";
import { BenchRam, DiskDriver, type Workload } from "./disk-driver.js";
import { median } from "./processes.js";
import type { Row } from "./rows.js";
import { DAEMON, startDaemon, VhostUserDisk } from "./vhost-user.js";

export interface DevicePathOptions {
  rounds?: number;
  /** Of one workload on one side in one round. */
  seconds?: number;
  /**
   * Whether our I/O worker looks before it sleeps; by default if a VM of no vCPU may do that here,
   * for the guest runs on its thread. A VM may where the machine has a core more than that.
   */
  looks?: boolean;
}

/** Far beyond any cache of a processor, and of a size that the page cache keeps. */
const IMAGE_BYTES = 128 * 1024 * 1024;

/** VIRTIO_BLK_F_FLUSH: both have a write-back cache then. */
const VIRTIO_BLK_F_FLUSH = 1n << 9n;
const VIRTIO_RING_F_EVENT_IDX = 1n << 29n;
const VIRTIO_F_VERSION_1 = 1n << 32n;
const FEATURES = VIRTIO_BLK_F_FLUSH | VIRTIO_RING_F_EVENT_IDX | VIRTIO_F_VERSION_1;

const KIB = 1024;
const DEPTHS = [1, 8, 32];
/** What a kernel that reads ahead has underway. */
const SEQUENTIAL_DEPTH = 4;

function workloads(): Workload[] {
  const each = [false, true].map((write) => ({ write, verb: write ? "write" : "read" }));
  const random = each.flatMap(({ write, verb }) =>
    DEPTHS.map((depth) => {
      const name = `4 KiB random ${verb}, depth ${depth}`;
      return { name, write, bytes: 4 * KIB, depth, sequential: false };
    }),
  );
  const sequential = each.map(({ write, verb }) => {
    const name = `128 KiB sequential ${verb}`;
    return { name, write, bytes: 128 * KIB, depth: SEQUENTIAL_DEPTH, sequential: true };
  });
  return [...random, ...sequential];
}

/** A disk without holes, all of it in the page cache. */
function makeImage(file: string): void {
  const fd = openSync(file, "wx", 0o600);
  const piece = Buffer.alloc(1 << 20, 0x5a);
  for (let at = 0; at < IMAGE_BYTES; at += piece.length) writeSync(fd, piece, 0, piece.length, at);
  closeSync(fd);
}

function hasDaemon(): boolean {
  try {
    execFileSync(DAEMON, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** One of the two disks, and the memory of its guest. */
interface Side {
  driver: DiskDriver;
  close(): void;
}

function ourSide(image: string, looks: boolean): Side {
  const ram = new BenchRam();
  const disk = new ConfinedDisk({ ram, image, features: FEATURES, looks });
  const close = () => {
    disk.close();
    ram.close();
  };
  return { driver: new DiskDriver(ram, disk, IMAGE_BYTES), close };
}

async function theirSide(image: string, socket: string): Promise<Side> {
  const daemon: ChildProcess = await startDaemon(image, socket);
  const ram = new BenchRam();
  const disk = new VhostUserDisk({ ram, socket, features: FEATURES });
  const close = () => {
    disk.close();
    daemon.kill();
    ram.close();
  };
  return { driver: new DiskDriver(ram, disk, IMAGE_BYTES), close };
}

function rowOf(workload: Workload, ours: number[], theirs: number[]): Row {
  const { name, bytes, depth, sequential } = workload;
  const scale = sequential ? bytes / 1e6 : 1;
  const ratios = theirs.map((each, round) => ours[round]! / each);
  const isCompared = theirs.length > 0;
  return {
    name,
    unit: sequential ? "MB/s" : "IOPS",
    ours: median(ours) * scale,
    theirs: isCompared ? median(theirs) * scale : undefined,
    ratio: isCompared ? median(ratios) : undefined,
    target: !sequential && depth === 32 ? 1 : 0.8,
  };
}

/** Requests a second of each workload in each round; the sides take turns at being first. */
function measure(sides: Side[], { rounds = 5, seconds = 0.4 }: DevicePathOptions): number[][][] {
  const all = workloads();
  const results = sides.map(() => all.map((): number[] => []));
  for (const { driver } of sides) driver.run(all[0]!, seconds); // code is warm, pages are there
  for (let round = 0; round < rounds; round += 1) {
    for (const [index, workload] of all.entries()) {
      for (let turn = 0; turn < sides.length; turn += 1) {
        const side = (turn + round) % sides.length;
        results[side]![index]!.push(sides[side]!.driver.run(workload, seconds));
      }
    }
  }
  return results;
}

/** Measures both sides; ours alone where the daemon is not installed. */
export async function benchDevicePath(options: DevicePathOptions = {}): Promise<Row[]> {
  const scratch = mkdtempSync(path.join(os.tmpdir(), "bulkhead-device-path-"));
  const sides: Side[] = [];
  try {
    const images = ["ours", "theirs"].map((name) => path.join(scratch, name));
    for (const image of images) makeImage(image);
    sides.push(ourSide(images[0]!, options.looks ?? hasCoreToSpare(0)));
    if (hasDaemon()) sides.push(await theirSide(images[1]!, path.join(scratch, "socket")));
    const [ours, theirs] = measure(sides, options);
    return workloads().map((each, i) => rowOf(each, ours![i]!, theirs?.[i] ?? []));
  } finally {
    for (const side of sides) side.close();
    rmSync(scratch, { recursive: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const [rounds = "5", seconds = "0.4", word] = process.argv.slice(2);
  const times = { rounds: Number(rounds), seconds: Number(seconds) };
  const how = word === "sleeps" ? { looks: false } : {};
  for (const row of await benchDevicePath({ ...times, ...how })) sayJson(row);
  process.exit(); // the descriptors of the data path would keep the event loop
}
