// A confined blk that is killed while it writes to a real file: what it answered is there, and the
// image is one that QEMU finds nothing wrong with. And a disk of the host that is full.

import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { inspectModule } from "../../host/sandbox/manifest.js";
import { resolveOptions } from "../../host/sandbox/options.js";
import { READY, REPLIES } from "../../host/wire/format.js";
import { ConfinedDevice, endAll } from "../breach/support/confined.js";
import { note, skip } from "../support/skip.js";
import { Random, SEED } from "../virtio/random.js";
import { encode, FLUSH, OK, OUT } from "./examples/blk.js";
import {
  BLK_RELEASE,
  between,
  check,
  contentsOf,
  create,
  directory,
  missingQemu,
  newPath,
  noise,
  qemuImg,
} from "./qemu.js";

const MIB = 1024 * 1024;
const KILLS = Number(process.env.BULKHEAD_TEST_KILLS ?? 20);
/** Within that time a device is killed; twice the time after one that had not answered anything. */
const KILL_DELAY_MS = 25;
const SECTORS = (8 * MIB) / 512;
/** Features of the driver: it can flush. */
const FEATURES = 1n << 9n;
const MODULE = fileURLToPath(BLK_RELEASE);
const BATCH = 16;

test.after.each(endAll);

async function start(image: string, format: string, backing?: string): Promise<ConfinedDevice> {
  const { manifest } = inspectModule(new Uint8Array(fs.readFileSync(MODULE)));
  const file = (name: string, what: string, rights: ("read" | "write")[]) => ({
    name,
    kind: "file" as const,
    what,
    rights,
  });
  const grants = [file("image", image, ["read", "write"])];
  if (backing !== undefined) grants.push(file("backing0", backing, ["read"]));
  const device = new ConfinedDevice(MODULE, grants, resolveOptions(manifest, { format }));
  for (;;) {
    const message = await device.receive();
    assert.ok(message !== undefined, `it did not start`);
    if (message.type === READY) break;
  }
  device.activate(FEATURES);
  return device;
}

/** What the sectors of a disk may hold: what was answered last, or what was asked for since. */
class Expectation {
  readonly #may: Set<number>[];

  constructor(contents: Uint8Array) {
    this.#may = Array.from({ length: SECTORS }, () => new Set<number>());
    this.settle(contents, "at first");
  }

  asked(sector: number, sectors: number, value: number): void {
    for (let i = sector; i < sector + sectors; i++) this.#may[i]!.add(value);
  }

  /** It was answered: what was asked for before it is not there any more. */
  answered(sector: number, sectors: number, value: number): void {
    for (let i = sector; i < sector + sectors; i++) {
      for (const other of this.#may[i]!) {
        if (other === value) break;
        this.#may[i]!.delete(other);
      }
    }
  }

  /** Looks that each sector is one of those, and begins anew with what is there. */
  settle(contents: Uint8Array, when: string): void {
    const words = new Uint32Array(contents.buffer, contents.byteOffset, contents.length / 4);
    for (let sector = 0; sector < SECTORS; sector++) {
      const found = words[sector * 128]!;
      const may = this.#may[sector]!;
      if (may.size > 0 && !may.has(found)) {
        const list = [...may].join(", ");
        throw new Error(`${when}: sector ${sector} is ${found}, not one of ${list}`);
      }
      const isWhole = words.subarray(sector * 128, sector * 128 + 128).every((w) => w === found);
      assert.ok(isWhole || may.size === 0, `${when}: sector ${sector} is torn`);
      may.clear();
      may.add(found);
    }
  }
}

let sequence = 1;

/** Writes as fast as it goes until the device is gone; returns how many were answered. */
async function load(device: ConfinedDevice, random: Random, expectation: Expectation) {
  let answers = 0;
  for (;;) {
    const asked = Array.from({ length: BATCH }, (_, id) => {
      if (random.oneIn(8)) return { id, sector: 0, sectors: 0, value: 0 };
      const sectors = between(random, 1, 20);
      const sector = between(random, 0, SECTORS - sectors);
      sequence += 1;
      expectation.asked(sector, sectors, sequence);
      return { id, sector, sectors, value: sequence };
    });
    const requests = asked.map(({ id, sector, sectors, value }) => {
      const data = new Uint8Array(new Uint32Array(sectors * 128).fill(value).buffer);
      const type = sectors === 0 ? FLUSH : OUT;
      return { id, readable: encode({ type, sector, data }), capacity: 1 };
    });
    device.request(...requests);
    for (let left = BATCH; left > 0; ) {
      const message = await device.receive();
      if (message === undefined) return answers;
      if (message.type !== REPLIES) continue;
      for (const { id, bytes } of message.replies) {
        assert.is(bytes[0], OK);
        const { sector, sectors, value } = asked[id]!;
        expectation.answered(sector, sectors, value);
        left -= 1;
        answers += 1;
      }
    }
  }
}

const unavailable = missingQemu();
if (unavailable !== undefined) skip(unavailable);
const compare = unavailable === undefined ? test : () => {};

for (const [name, options] of [
  ["64 KiB", []],
  ["512 bytes", ["cluster_size=512"]],
  ["64 KiB, version 2", ["compat=0.10"]],
] as const) {
  compare(
    `a blk that is killed ${KILLS} times leaves a good image, in clusters of ${name}`,
    async () => {
      const random = new Random(SEED);
      const base = newPath("raw");
      fs.writeFileSync(base, new Uint8Array(new Uint32Array((SECTORS * 128) / 2).fill(77).buffer));
      const backing = { path: base, format: "raw" };
      const image = create({ bytes: SECTORS * 512, options: [...options], backing });
      const expectation = new Expectation(contentsOf(image));
      let answers = 0;
      let delayMs = KILL_DELAY_MS;
      for (let kill = 0; kill < KILLS; kill++) {
        const device = await start(image, "qcow2", base);
        const dies = sleep(random.below(delayMs)).then(() => device.process.kill());
        const count = await load(device, random, expectation);
        if (count === 0) delayMs *= 2;
        answers += count;
        await dies;
        await device.close();
        const { corruptions, errors } = check(image);
        assert.equal([corruptions, errors], [0, 0], `kill ${kill}`);
        expectation.settle(contentsOf(image), `kill ${kill}`);
      }
      assert.ok(answers > KILLS, "it was never at work: this test looks in vain");
      note(`${answers} requests answered, ${KILLS} kills, seed ${SEED}`);
    },
  );
}

/** Has a small file system of its own; undefined, and counted as skipped, where that cannot be. */
function smallDisk(megabytes: number): string | undefined {
  const folder = fs.mkdtempSync(path.join(directory, "full-"));
  const args = ["-t", "tmpfs", "-o", `size=${megabytes}m`, "tmpfs", folder];
  if (spawnSync("mount", args).status === 0) return folder;
  skip("a small file system cannot be mounted: that takes root");
  return undefined;
}

for (const format of ["raw", "qcow2"]) {
  compare(`a full disk of the host is an error of the guest's disk, ${format}`, async () => {
    const folder = smallDisk(4);
    if (folder === undefined) return;
    try {
      const image = path.join(folder, "disk.img");
      qemuImg("create", "-q", "-f", format, image, 16 * MIB);
      const device = await start(image, format);
      const written: number[] = [];
      const data = noise(new Random(SEED), 64 * 1024);
      for (let sector = 0; sector < (16 * MIB) / 512; sector += 128) {
        device.request({ id: 0, readable: encode({ type: OUT, sector, data }), capacity: 1 });
        for (let answered = false; !answered; ) {
          const message = await device.receive();
          assert.ok(message !== undefined, "the device is gone");
          answered = message.type === REPLIES;
          if (answered && message.replies[0]!.bytes[0] === OK) written.push(sector);
        }
      }
      assert.ok(written.length > 16 && written.length < 128, `${written.length} were written`);
      await device.close();
      if (format === "qcow2") assert.equal(check(image).corruptions, 0);
      const raw = path.join(directory, "copied.raw");
      qemuImg("convert", "-f", format, "-O", "raw", image, raw);
      const contents = fs.readFileSync(raw);
      for (const sector of written) {
        assert.is(
          Buffer.compare(contents.subarray(sector * 512, sector * 512 + data.length), data),
          0,
        );
      }
    } finally {
      execFileSync("umount", [folder]);
    }
  });
}

test.run();
