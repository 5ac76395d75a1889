// Writing to qcow2 images: random requests, and what QEMU says of what they leave behind.

import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type DeviceTrap, file, MemoryFile, openDevice } from "../../host/testing/main.js";
import { skip } from "../support/skip.js";
import { Random, SEED } from "../virtio/random.js";
import { Model } from "./blk-model.js";
import { ask, IOERR, OK, OUT } from "./examples/blk.js";
import {
  BLK,
  check,
  contentsOf,
  create,
  missingQemu,
  newPath,
  noise,
  qemuImg,
  qemuIo,
  randomWrites,
} from "./qemu.js";

const MIB = 1024 * 1024;
const STEPS = 100;

const unavailable = missingQemu();
if (unavailable !== undefined) skip(unavailable);
/** A test that needs QEMU's tools. */
const compare = unavailable === undefined ? test : () => {};

function load(path: string, rights: "ro" | "rw" = "rw"): MemoryFile {
  return file(new Uint8Array(fs.readFileSync(path)), rights);
}

/** Random requests; then QEMU writes; then the device again, after a death. */
function exercise(path: string, backing: Record<string, MemoryFile> = {}): void {
  const random = new Random(SEED);
  const image = load(path);
  const model = new Model(random, { image, ...backing }, contentsOf(path));
  for (let step = 0; step < STEPS; step++) model.step();
  model.checkContents();
  model.device.reset();
  const saved = model.save(image);
  const bytes = model.contents.length;
  qemuIo(saved, randomWrites(random, bytes, 20));
  image.bytes = new Uint8Array(fs.readFileSync(saved));
  model.contents.set(contentsOf(saved));
  model.restart();
  for (let step = 0; step < STEPS; step++) model.step();
  model.restart(); // what was set aside is lost
  for (let step = 0; step < STEPS / 10; step++) model.step();
  model.checkContents();
  model.device.reset();
  model.save(image, 8192);
}

for (const options of [
  ["compat=0.10", "cluster_size=512"],
  ["compat=0.10"],
  ["cluster_size=512"],
  ["cluster_size=1024", "lazy_refcounts=on"],
  ["cluster_size=4096"],
  ["cluster_size=65536"],
  ["cluster_size=2M"],
  ["preallocation=metadata"],
]) {
  compare(`blk writes qcow2 with ${options.join(", ")} as QEMU would`, () => {
    exercise(create({ bytes: 5 * MIB + 512, options }));
  });

  compare(`blk copies from backing files, with ${options.join(", ")}`, () => {
    const random = new Random(SEED);
    const raw = newPath("raw");
    fs.writeFileSync(raw, noise(random, MIB + 100));
    const base = create({ bytes: 3 * MIB, backing: { path: raw, format: "raw" } });
    qemuIo(base, randomWrites(random, 3 * MIB, 10));
    const [before0, before1] = [load(base, "ro"), load(raw, "ro")];
    const o = options.filter((each) => !each.startsWith("preallocation"));
    const backing = { path: base, format: "qcow2" };
    const path = create({ bytes: 4 * MIB, options: o, backing });
    exercise(path, { backing0: before0, backing1: before1 });
    assert.equal(before0.bytes, load(base).bytes);
  });

  compare(`blk overwrites what is compressed, with ${options.join(", ")}`, () => {
    const raw = newPath("raw");
    const text = Buffer.alloc(2 * MIB, "a text that is easily compressed; ");
    text.set(noise(new Random(SEED), 100_000), 300_000);
    fs.writeFileSync(raw, text);
    const path = newPath("qcow2");
    const o = options.filter((each) => !each.startsWith("preallocation"));
    const args = o.length > 0 ? ["-o", o.join()] : [];
    qemuImg("convert", "-c", "-f", "raw", "-O", "qcow2", ...args, raw, path);
    exercise(path);
  });
}

compare("blk makes the refcount table larger", () => {
  const path = create({ bytes: 24 * MIB, options: ["cluster_size=512"] });
  const image = load(path);
  const tableAt = () => Buffer.from(image.bytes).readBigUInt64BE(48);
  const before = tableAt();
  const model = new Model(new Random(SEED), { image }, contentsOf(path));
  const data = noise(new Random(SEED), 512 * 1024);
  for (let at = 0; at < model.contents.length; at += data.length) {
    assert.is(ask(model.device, { type: OUT, sector: at / 512, data }).status, OK);
    model.contents.set(data, at);
  }
  assert.is.not(tableAt(), before, "it did not: this test looks in vain");
  model.device.reset();
  model.save(image);
});

/** A file of which one write in a few fails. */
class Failing extends MemoryFile {
  fails: () => boolean = () => false;

  override put(from: Uint8Array, offset: number): number {
    const isReal = from.length > 0 && this.fails();
    // Some of it may be there already: a disk is full in the middle of a write, between sectors.
    if (isReal) super.put(from.subarray(0, (from.length >> 1) & ~511), offset);
    return isReal ? -51 : super.put(from, offset);
  }

  override resize(bytes: number): number {
    return this.fails() ? -51 : super.resize(bytes);
  }
}

compare("blk keeps an image consistent whose disk is full now and then", () => {
  for (let run = 0; run < 8; run++) {
    const random = new Random(SEED + run);
    const options = [`cluster_size=${random.pick([512, 4096, 65536])}`];
    const path = create({ bytes: 4 * MIB, options });
    const image = new Failing(new Uint8Array(fs.readFileSync(path)), "rw");
    const device = openDevice(BLK, { image }, { format: "qcow2" });
    device.negotiate();
    image.fails = () => random.oneIn(4);
    const written = new Map<number, number>();
    const asked = new Set<number>();
    for (let step = 0; step < 200; step++) {
      const [first, sectors] = [random.below(7000), 1 + random.below(16)];
      const value = 1 + random.below(255);
      const data = new Uint8Array(512 * sectors).fill(value);
      const { status } = ask(device, { type: OUT, sector: first, data });
      for (let sector = first; sector < first + sectors; sector++) {
        asked.add(sector);
        if (status === OK) written.set(sector, value);
        else written.set(sector, 0);
      }
    }
    image.fails = () => false;
    assert.is(ask(device, { type: OUT, sector: 8000, data: new Uint8Array(512) }).status, OK);
    const saved = newPath("qcow2");
    fs.writeFileSync(saved, image.bytes);
    const { corruptions, errors } = check(saved);
    assert.equal([corruptions, errors], [0, 0], `run ${run}`);
    const contents = contentsOf(saved);
    for (const [sector, value] of written) {
      if (value !== 0) assert.is(contents[sector * 512], value, `run ${run}, sector ${sector}`);
    }
    for (let sector = 0; sector < 8000; sector++) {
      const isZero = contents[sector * 512] === 0;
      // What is there of a write that failed must not come up anywhere else.
      assert.ok(isZero || asked.has(sector), `run ${run}: sector ${sector} was never written`);
    }
  }
});

/** What a device says that does not start, with an image of QEMU's that `patch` changes. */
function refusal(path: string, patch: (view: DataView) => void = () => {}): string {
  const image = load(path);
  patch(new DataView(image.bytes.buffer));
  const before = new Uint8Array(image.bytes);
  try {
    openDevice(BLK, { image }, { format: "qcow2" });
  } catch (error) {
    assert.equal(image.bytes, before);
    return (error as DeviceTrap).log.join("\n");
  }
  throw new Error("it started");
}

compare("blk does not write to an image that it could damage", () => {
  const plain = create({ bytes: MIB });
  assert.match(
    refusal(plain, (view) => view.setUint8(79, 1)),
    /not closed by who wrote it last/,
  );
  assert.match(
    refusal(plain, (view) => view.setUint8(79, 2)),
    /it is marked corrupt/,
  );
  assert.match(
    refusal(plain, (view) => view.setBigUint64(40, 0x10000n)),
    /overlap/,
  );
  assert.match(refusal(create({ bytes: MIB, options: ["refcount_bits=8"] })), /not of 16 bits/);
  const path = create({ bytes: MIB });
  qemuImg("snapshot", "-c", "first", path);
  assert.match(refusal(path), /it has snapshots: grant it ro/);
});

compare("blk clears the features that nobody takes care of when it writes", () => {
  const path = create({ bytes: MIB });
  qemuImg("bitmap", "--add", path, "dirty");
  const image = load(path);
  assert.is(image.bytes[95], 1);
  openDevice(BLK, { image }, { format: "qcow2" });
  assert.is(image.bytes[95], 0);
});

for (const [what, at, entry] of [
  ["the header", 0x40000, 0x8000_0000_0000_0000n],
  ["the refcount table", 0x40000, 0x8000_0000_0001_0000n],
  ["the L1 table", 0x40000, 0x8000_0000_0003_0000n],
  ["what is far away", 0x40000, 0x8000_1000_0000_0000n],
  ["a cluster that is not counted", 0x40000, 0x0000_0000_0006_0000n],
  ["an L2 table that is the refcount table", 0x30000, 0x8000_0000_0001_0000n],
] as const) {
  compare(`blk does not write to ${what}, whatever the tables say`, () => {
    const path = create({ bytes: MIB });
    qemuIo(path, ["write -P 1 0 64k"]);
    const image = load(path);
    new DataView(image.bytes.buffer).setBigUint64(at, entry);
    const before = new Uint8Array(image.bytes);
    const device = openDevice(BLK, { image }, { format: "qcow2" });
    device.negotiate();
    const { status } = ask(device, { type: OUT, data: new Uint8Array(512).fill(7) });
    if (what === "the header") {
      // Offset 0 is none: the cluster is absent, and gets a new place.
      assert.is(status, OK);
      assert.equal(image.bytes.subarray(0, 112), before.subarray(0, 112));
    } else {
      assert.is(status, IOERR);
      assert.equal(image.bytes.subarray(0, before.length), before);
    }
  });
}

test.run();
