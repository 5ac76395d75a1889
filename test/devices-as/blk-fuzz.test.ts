// Damaged qcow2 images: whatever is in one, blk refuses it at its start with a reason, or goes on
// serving; it never traps, and never does more than a bounded amount of work for a request.

import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DeviceTrap, MemoryFile, openDevice } from "../../host/testing/main.js";
import { note, skip } from "../support/skip.js";
import { Random, SEED } from "../virtio/random.js";
import { segment, WRITE_ZEROES } from "./blk-model.js";
import { ask, FLUSH, IN, OK, OUT } from "./examples/blk.js";
import {
  BLK,
  between,
  create,
  missingQemu,
  newPath,
  qemuImg,
  qemuIo,
  randomWrites,
} from "./qemu.js";

const IMAGES = Number(process.env.BULKHEAD_TEST_IMAGES ?? 600);
const MIB = 1024 * 1024;

/** System calls for a request of 64 KiB: its clusters of 512 bytes, their tables and counts. */
const CALLS_MAX = 4096;

/** A file that counts what is done with it. */
class Counted extends MemoryFile {
  calls = 0;

  override put(from: Uint8Array, offset: number): number {
    this.calls += 1;
    return super.put(from, offset);
  }

  override get bytes(): Uint8Array {
    this.calls += 1;
    return super.bytes;
  }

  override set bytes(contents: Uint8Array) {
    super.bytes = contents;
  }
}

/** Images to begin with: with data, zeros, compressed clusters, in clusters of several sizes. */
function seeds(random: Random): Uint8Array[] {
  const all = ["cluster_size=512", "cluster_size=4096", "cluster_size=65536", "compat=0.10"];
  const paths = all.flatMap((option) => {
    const path = create({ bytes: MIB, options: [option] });
    qemuIo(path, [...randomWrites(random, MIB, 12), "write -z 0 64k"]);
    const small = newPath("qcow2");
    qemuImg("convert", "-c", "-O", "qcow2", "-o", option, path, small);
    return [path, small];
  });
  return paths.map((path) => new Uint8Array(fs.readFileSync(path)));
}

/** Where the numbers are that lead from one part of an image to another, by their sizes. */
const HEADER_32 = [4, 16, 20, 32, 36, 56, 60, 96, 100];
const HEADER_64 = [8, 24, 40, 48, 64, 72, 80, 88];

/** A number as an attacker would choose it. */
function bad(random: Random, bytes: number): bigint {
  const places = [
    0n,
    512n,
    4096n,
    0x10000n,
    0x20000n,
    0x30000n,
    BigInt(bytes),
    BigInt(bytes) - 512n,
  ];
  const bits = [0n, 1n, 1n << 62n, 1n << 63n, (1n << 63n) | 1n];
  switch (random.below(5)) {
    case 0:
      return (random.pick(places) | random.pick(bits)) & ((1n << 64n) - 1n);
    case 1:
      return BigInt(512 * random.below(bytes / 512)) | random.pick(bits);
    case 2:
      return 1n << BigInt(random.below(64));
    case 3:
      return (1n << 64n) - 1n - BigInt(random.below(3));
    default:
      return (BigInt(random.u32()) << 32n) | BigInt(random.u32());
  }
}

function damage(image: Uint8Array, random: Random): Uint8Array {
  const bytes = Buffer.from(image);
  const word = () => bad(random, bytes.length);
  const tables = [40, 48].map((at) => Number(bytes.readBigUInt64BE(at)));
  tables.push(Number(bytes.readBigUInt64BE(tables[0]!) & 0xff_ffff_fe00n));
  for (let times = between(random, 1, 4); times > 0; times--) {
    switch (random.below(5)) {
      case 0:
        bytes.writeUInt32BE(Number(word() & 0xffff_ffffn), random.pick(HEADER_32));
        break;
      case 1:
        bytes.writeBigUInt64BE(word(), random.pick(HEADER_64));
        break;
      case 2:
      case 3:
        bytes.writeBigUInt64BE(word(), random.pick(tables) + 8 * random.below(64));
        break;
      default:
        bytes[random.below(bytes.length)] = random.u32();
    }
  }
  const end = random.oneIn(10) ? random.below(bytes.length) : bytes.length;
  return new Uint8Array(bytes.subarray(0, end));
}

/** Whether a device with such an image starts; where it does not, it must say why. */
function start(image: Counted, rights: "ro" | "rw") {
  try {
    const grant = Object.assign(image, { rights });
    return openDevice(BLK, { image: grant }, { format: "qcow2" });
  } catch (error) {
    assert.instance(error, DeviceTrap, String(error));
    const { message, log } = error as DeviceTrap;
    assert.match(message, /^start: unreachable\n.*(refuse|demand)/, "no refusal");
    assert.not.match(log.join(), /assertion failed/);
    return undefined;
  }
}

const unavailable = missingQemu();
if (unavailable !== undefined) skip(unavailable);
const compare = unavailable === undefined ? test : () => {};

compare(`blk neither traps nor hangs on ${IMAGES} damaged images`, () => {
  const random = new Random(SEED);
  const from = seeds(random);
  let started = 0;
  let served = 0;
  for (let run = 0; run < IMAGES; run++) {
    const image = new Counted(damage(random.pick(from), random));
    const device = start(image, random.oneIn(3) ? "ro" : "rw");
    if (device === undefined) continue;
    started += 1;
    try {
      device.negotiate();
      for (let step = 0; step < 6; step++) {
        const sector = 128 * random.below(16);
        const data = new Uint8Array(512 * between(random, 1, 128)).fill(run);
        const request = random.pick([
          { type: IN, sector, room: 65536 },
          { type: OUT, sector, data },
          { type: WRITE_ZEROES, data: segment(sector, 128) },
          { type: FLUSH },
        ]);
        image.calls = 0;
        if (ask(device, request).status === OK) served += 1;
        assert.ok(image.calls <= CALLS_MAX, `${image.calls} calls for one request`);
      }
      device.reset();
      device.close();
    } catch (error) {
      throw new Error(`BULKHEAD_TEST_SEED=${SEED}, image ${run}: ${(error as Error).message}`);
    }
  }
  note(`${started} of ${IMAGES} damaged images started, ${served} requests succeeded`);
  assert.ok(started > IMAGES / 10 && started < IMAGES, "the images are all good, or all bad");
  assert.ok(served > started, "nothing succeeds: this test looks in vain");
});

compare("blk neither traps nor hangs on damaged compressed clusters", () => {
  const random = new Random(SEED);
  const raw = newPath("raw");
  const text = Buffer.alloc(256 * 1024, "a text that is easily compressed, or nearly so; ");
  for (let at = 0; at < text.length; at += between(random, 1, 400)) text[at] = random.u32();
  fs.writeFileSync(raw, text);
  const path = newPath("qcow2");
  qemuImg("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4096", raw, path);
  const good = new Uint8Array(fs.readFileSync(path));
  let damaged = 0;
  for (let run = 0; run < IMAGES / 3; run++) {
    const bytes = new Uint8Array(good);
    // Behind the header and the first tables there is little else than what is compressed.
    for (let times = 100; times > 0; times--) {
      bytes[between(random, 5 * 4096, bytes.length - 1)] = random.u32();
    }
    const device = start(new Counted(bytes), "ro")!;
    device.negotiate();
    for (let sector = 0; sector < text.length / 512; sector += 8) {
      if (ask(device, { type: IN, sector, room: 4096 }).status !== OK) damaged += 1;
    }
    device.close();
  }
  note(`${damaged} clusters were found damaged`);
  assert.ok(damaged > 0);
});

test.run();
