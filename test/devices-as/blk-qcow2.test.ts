// Reading qcow2 images that QEMU made, and refusing those that cannot be used.

import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type DeviceTrap, file, type MemoryFile, openDevice } from "../../host/testing/main.js";
import { skip } from "../support/skip.js";
import { Random } from "../virtio/random.js";
import { ask, IN, IOERR, OK, OUT } from "./examples/blk.js";
import {
  BLK,
  between,
  contentsOf,
  create,
  missingQemu,
  newPath,
  noise,
  qemuImg,
  qemuIo,
  randomWrites,
  readAll,
} from "./qemu.js";

const MIB = 1024 * 1024;
const QCOW2 = { format: "qcow2" };

function load(path: string, rights: "ro" | "rw" = "ro"): MemoryFile {
  return file(new Uint8Array(fs.readFileSync(path)), rights);
}

type Grants = Record<string, MemoryFile>;

function open(grants: Grants, options: Record<string, string | number | true> = QCOW2) {
  const device = openDevice(BLK, grants, options);
  device.negotiate();
  return device;
}

/** What a device says that does not start. */
function refusal(grants: Grants, options: Record<string, string> = QCOW2): string {
  try {
    openDevice(BLK, grants, options);
  } catch (error) {
    return (error as DeviceTrap).log?.join("\n") ?? String(error);
  }
  throw new Error("it started");
}

function same(actual: Uint8Array, expected: Uint8Array): void {
  assert.is(actual.length, expected.length);
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  assert.unreachable(`byte ${at} is ${actual[at]}, not ${expected[at]}`);
}

const unavailable = missingQemu();
if (unavailable !== undefined) skip(unavailable);
/** A test that needs QEMU's tools. */
const compare = unavailable === undefined ? test : () => {};

for (const options of [
  ["compat=0.10", "cluster_size=512"],
  ["compat=0.10"],
  ["cluster_size=512"],
  ["cluster_size=4096"],
  ["cluster_size=65536"],
  ["cluster_size=2M"],
  ["refcount_bits=1"],
  ["refcount_bits=64", "lazy_refcounts=on"],
  ["preallocation=metadata"],
]) {
  compare(`blk reads qcow2 with ${options.join(", ")} as QEMU does`, () => {
    const random = new Random(options.join().length);
    const bytes = 5 * MIB + 512;
    const path = create({ bytes, options });
    qemuIo(path, randomWrites(random, bytes, 30));
    if (!options.includes("compat=0.10")) {
      qemuIo(path, ["write -z 0 1M", "write -z -u 2M 512k", "discard 3M 100k"]);
    }
    same(readAll(open({ image: load(path) })), contentsOf(path));
  });

  compare(`blk reads qcow2 that is compressed, with ${options.join(", ")}`, () => {
    const random = new Random(options.join().length);
    const bytes = 3 * MIB;
    const raw = newPath("raw");
    fs.writeFileSync(raw, compressible(random, bytes));
    const path = newPath("qcow2");
    const o = options.filter((each) => !each.startsWith("preallocation"));
    const args = o.length > 0 ? ["-o", o.join()] : [];
    qemuImg("convert", "-c", "-f", "raw", "-O", "qcow2", ...args, raw, path);
    same(readAll(open({ image: load(path) })), new Uint8Array(fs.readFileSync(raw)));
  });
}

compare("blk reads through backing files of both formats, smaller and larger than the disk", () => {
  const random = new Random(7);
  const raw = newPath("raw");
  fs.writeFileSync(raw, noise(random, MIB + 100));
  const middle = create({ bytes: 3 * MIB, backing: { path: raw, format: "raw" } });
  qemuIo(middle, randomWrites(random, 3 * MIB, 20));
  const backing = { path: middle, format: "qcow2" };
  const top = create({ bytes: 2 * MIB, options: ["cluster_size=4096"], backing });
  qemuIo(top, [...randomWrites(random, 2 * MIB, 20), "write -z 600k 32k"]);
  const grants = { image: load(top), backing0: load(middle), backing1: load(raw) };
  same(readAll(open(grants)), contentsOf(top));
});

compare("blk refuses a backing file that is not granted, and names it", () => {
  const base = create({ bytes: MIB });
  const top = create({ bytes: MIB, backing: { path: base, format: "qcow2" } });
  const said = refusal({ image: load(top) });
  assert.ok(said.includes(`its backing file "${base}" is not granted: add backing=PATH`), said);
  const again = refusal({ image: load(base), backing0: load(base) });
  assert.match(again, /backing0: granted, but image names no backing file/);
});

compare("blk wants to know the format of a backing file where the image does not say", () => {
  const raw = newPath("raw");
  fs.writeFileSync(raw, noise(new Random(3), MIB));
  const top = create({ bytes: MIB, backing: { path: raw, format: "raw" } });
  const image = load(top);
  const at = Buffer.from(image.bytes).indexOf(Buffer.from([0xe2, 0x79, 0x2a, 0xca]));
  image.bytes[at] = 0; // an extension that nobody knows
  const grants = { image, backing0: load(raw) };
  assert.match(refusal(grants), /has no format: add backing-format=raw or/);
  const options = { ...QCOW2, "backing-format": "raw" };
  same(readAll(open(grants, options)), contentsOf(top));
});

compare("blk goes no further than four backing files", () => {
  let path = create({ bytes: MIB });
  const grants: Grants = {};
  for (let index = 4; index >= 0; index--) {
    if (index < 4) grants[`backing${index}`] = load(path);
    path = create({ bytes: MIB, backing: { path, format: "qcow2" } });
  }
  assert.match(refusal({ ...grants, image: load(path) }), /would be the fifth: 4 are the most/);
});

compare("blk reads an image with snapshots", () => {
  const path = create({ bytes: MIB });
  qemuIo(path, ["write -P 1 0 128k"]);
  qemuImg("snapshot", "-c", "first", path);
  qemuIo(path, ["write -P 2 64k 128k"]);
  same(readAll(open({ image: load(path) })), contentsOf(path));
});

for (const [options, why] of [
  [["compression_type=zstd"], /compressed with zstd/],
  [["extended_l2=on"], /extended L2 entries/],
  [["data_file=FILE"], /its data in another file/],
] as const) {
  compare(`blk refuses qcow2 with ${options[0]}`, () => {
    const path = newPath("qcow2");
    const o = options.join().replace("FILE", newPath("data"));
    qemuImg("create", "-q", "-f", "qcow2", "-o", o, path, MIB);
    assert.match(refusal({ image: load(path) }), why);
  });
}

/** Patches an image of QEMU's, and puts back what was there. */
const patched = (patch: (view: DataView) => void, rights: "ro" | "rw" = "ro"): MemoryFile => {
  const path = create({ bytes: MIB });
  qemuIo(path, ["write -P 1 0 64k"]);
  const image = load(path, rights);
  patch(new DataView(image.bytes.buffer));
  return image;
};

for (const [what, patch, why] of [
  ["another magic", (view: DataView) => view.setUint32(0, 1), /no qcow2 image/],
  ["version 4", (view: DataView) => view.setUint32(4, 4), /a version of qcow2 that nobody/],
  ["clusters of 256 bytes", (view: DataView) => view.setUint32(20, 8), /512 bytes to 2 MiB/],
  ["clusters of 4 GiB", (view: DataView) => view.setUint32(20, 32), /512 bytes to 2 MiB/],
  ["2^63 bytes", (view: DataView) => view.setUint32(24, 1 << 31), /larger than 1 PiB/],
  ["2 PiB less 1", (view: DataView) => view.setUint32(24, 0x1fffff), /larger than 1 PiB/],
  ["a small L1 table", (view: DataView) => view.setUint32(36, 0), /L1 table is too small/],
  ["a huge L1 table", (view: DataView) => view.setUint32(36, 0xffffffff), /than 32 MiB/],
  ["L1 in the header", (view: DataView) => view.setUint32(44, 0), /L1 table is not inside/],
  ["L1 beyond the end", (view: DataView) => view.setUint32(40, 1), /L1 table is not inside/],
  ["L1 between clusters", (view: DataView) => view.setUint32(44, 0x30200), /L1 table is not/],
  ["refcounts in it", (view: DataView) => view.setUint32(52, 0), /refcount table is not ins/],
  ["many refcounts", (view: DataView) => view.setUint32(56, 1 << 30), /larger than 8 MiB/],
  ["a feature unknown", (view: DataView) => view.setUint8(72, 1), /that nobody knows/],
  ["a key", (view: DataView) => view.setUint32(32, 2), /encrypted/],
  ["a short header", (view: DataView) => view.setUint32(100, 96), /an impossible length/],
  ["a long header", (view: DataView) => view.setUint32(100, 65544), /an impossible length/],
  ["wide refcounts", (view: DataView) => view.setUint32(96, 7), /an impossible width/],
  ["a name far away", (view: DataView) => view.setUint32(8, 1), /name of its backing file/],
] as const) {
  compare(`blk refuses qcow2 with ${what}`, () => {
    assert.match(refusal({ image: patched(patch) }), why);
  });
}

compare("blk refuses a file that is too short for a header", () => {
  assert.match(refusal({ image: file("QFI") }), /no qcow2 image/);
  assert.match(refusal({ image: file(0) }), /no qcow2 image/);
});

for (const [what, at, entry, why] of [
  ["an L2 table between clusters", 0x30000, 0x8000_0000_0004_0200n, /L2 table at 0x40200/],
  ["a cluster between clusters", 0x40000, 0x8000_0000_0005_0200n, /cluster at 0x50200/],
  ["a compressed one of nothing", 0x40000, 0x4000_0000_0000_0000n, /compressed cluster at 0x0/],
  ["a compressed one beyond", 0x40000, 0x7fff_ffff_ffff_ffffn, /compressed cluster at 0x3/],
] as const) {
  compare(`blk answers what leads to ${what} with IOERR`, () => {
    const device = open({ image: patched((view) => view.setBigUint64(at, entry)) });
    assert.is(ask(device, { type: IN, room: 512 }).status, IOERR);
    assert.match(device.log.at(-1)!, why);
  });
}

const FIXED = "110"; // the last block, and its codes are those of the specification
const DYNAMIC = "101"; // the last block, and its codes are in it
const LENGTHS = `${"000".repeat(15)}`;
for (const [what, bits] of [
  ["a block of no type", "111"],
  ["a stored block whose length is wrong", "10000000100000000000000000000000"],
  ["bytes from before the first", `${FIXED}000000100000`],
  ["a length that has no code", `${FIXED}11000110`],
  ["a distance that has no code", `${FIXED}01110001000000111110`],
  // Codes of one bit for 0 and for 138 zeros at most: they come to one more than there are.
  [
    "too many lengths of codes",
    `${DYNAMIC}00000000001111000000100100${LENGTHS}1111111110011011${"1".repeat(8)}`,
  ],
  ["a length again, before the first", `${DYNAMIC}00000000001111100000000100${LENGTHS}100`],
  ["too many codes", `${DYNAMIC}00000000001111100100100100${LENGTHS}`],
] as const) {
  compare(`blk answers what is compressed as ${what} with IOERR`, () => {
    const image = patched((view) => {
      view.setBigUint64(0x40000, (1n << 62n) | 0x50000n);
      for (let at = 0; at < 512; at++) {
        const byte = bits.slice(8 * at, 8 * at + 8).padEnd(8, "0");
        view.setUint8(0x50000 + at, Number.parseInt([...byte].reverse().join(""), 2));
      }
    });
    const device = open({ image });
    assert.is(ask(device, { type: IN, room: 512 }).status, IOERR);
    assert.match(device.log.at(-1)!, /compressed cluster at 0x50000/);
  });
}

compare("blk reads zeros where a table or a cluster is behind the end of the file", () => {
  for (const at of [0x30000, 0x40000]) {
    const image = patched((view) => view.setBigUint64(at, 0x8000_0000_1000_0000n));
    const { status, data } = ask(open({ image }), { type: IN, room: 512 });
    assert.equal([status, data], [OK, new Uint8Array(512)]);
  }
});

compare("blk does not write to a qcow2 image that is granted for reading", () => {
  const path = create({ bytes: MIB });
  const device = open({ image: load(path) });
  assert.is(ask(device, { type: OUT, data: new Uint8Array(512) }).status, IOERR);
});

/** Bytes of which some can be compressed, some not, and some are zero. */
function compressible(random: Random, bytes: number): Uint8Array {
  const all = new Uint8Array(bytes);
  for (let at = 0; at < bytes; ) {
    const length = Math.min(between(random, 1, 40_000), bytes - at);
    const part = all.subarray(at, at + length);
    switch (between(random, 0, 3)) {
      case 0:
        part.set(noise(random, length));
        break;
      case 1: {
        const period = noise(random, between(random, 1, 3000));
        for (let i = 0; i < length; i++) part[i] = period[i % period.length]!;
        break;
      }
      case 2:
        for (let i = 0; i < length; i++) part[i] = 0x61 + between(random, 0, 7) ** 2;
        break;
    }
    at += length;
  }
  return all;
}

test.run();
