// The disk guest under Bulkhead: what it writes it reads again, also when its devices are killed;
// and when the whole VM is, what it had flushed is on the disk.

import { spawn } from "node:child_process";
import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { guestPath } from "../../build/guest.js";
import type { DeviceConfig } from "../../host/machine/config.js";
import { check, contentsOf, create, missingQemu, newPath } from "../devices-as/qemu.js";
import { BULKHEAD, bulkhead, whyNoKvm } from "../support/bulkhead.js";
import { note, skip } from "../support/skip.js";
import { config, Run } from "../support/vm.js";
import { Random, SEED } from "../virtio/random.js";

const ELF = guestPath("disk");
const MIB = 1024 * 1024;
const DEVICE_KILLS = Number(process.env.BULKHEAD_TEST_KILLS ?? 15);
const VM_KILLS = 6;
const KILL_DELAY_MS_MAX = 60;

const unavailable = whyNoKvm() ?? missingQemu();
if (unavailable !== undefined) skip(unavailable);
const withKvm = unavailable === undefined ? test : () => {};

function image(format: string, bytes: number): string {
  if (format === "qcow2") return create({ bytes });
  const path = newPath("img");
  fs.writeFileSync(path, "");
  fs.truncateSync(path, bytes);
  return path;
}

for (const [format, transport] of [
  ["raw", "mmio"],
  ["raw", "pci"],
  ["qcow2", "mmio"],
  ["qcow2", "pci"],
] as const) {
  withKvm(`a guest reads what it wrote, in this run and the next, ${format}, ${transport}`, () => {
    const path = image(format, 8 * MIB);
    const how = ["-m", "64M", "-d", path, "--transport", transport];
    const run = (params: string) => bulkhead(["run", ELF, "-p", params, ...how]);
    const written = run("bytes=4000000 depth=8 request=65536 rounds=3");
    assert.match(written.stdout, /^disk guest: 1 passed, 0 failed: PASS$/m);
    assert.is(written.status, 0);
    if (format === "qcow2") assert.equal(check(path), { corruptions: 0, leaks: 0, errors: 0 });
    assert.match(run("bytes=4000000 depth=3 request=4096 check seed=3").stdout, /: PASS$/m);
    assert.match(run("bytes=4000000 check seed=2").stdout, /not 0x.*: FAIL$/ms);
  });
}

test("bulkhead run says what is wrong with an image before a guest runs", () => {
  const missing = bulkhead(["run", ELF, "-d", "/nowhere/disk.img"]);
  assert.match(missing.stderr, /Cannot grant blk0\.image "\/nowhere\/disk\.img": ENOENT/);
  const folder = bulkhead(["run", ELF, "-d", "/tmp"]);
  assert.match(folder.stderr, /Cannot grant blk0\.image "\/tmp": EISDIR, it is a directory/);
  assert.equal([missing.status, folder.status], [2, 2]);
});

withKvm("bulkhead run says what backing file is missing, and takes it", () => {
  const base = create({ bytes: MIB });
  const top = create({ bytes: MIB, backing: { path: base, format: "qcow2" } });
  const run = (disk: string) => bulkhead(["run", ELF, "-m", "64M", "-d", disk]);
  const without = run(top);
  assert.match(without.stderr, new RegExp(`backing file "${base}" is not granted: add backing=`));
  assert.is.not(without.status, 0);
  assert.match(run(`${top},backing=${base}`).stdout, /: PASS$/m);
});

function disk(path: string, format: string): DeviceConfig {
  const grant = { kind: "file" as const, what: path, rights: ["read" as const, "write" as const] };
  const module = fileURLToPath(new URL("../../devices/blk.wasm", import.meta.url));
  const options = { format };
  const id = `${format}0`;
  return {
    id,
    module,
    grants: { image: grant },
    options,
    isolation: "process",
    seccomp: "enforce",
  };
}

withKvm(`disks that are killed ${DEVICE_KILLS} times cost the guest no byte`, async () => {
  const paths = { raw: image("raw", 8 * MIB), qcow2: image("qcow2", 8 * MIB) };
  const devices = Object.entries(paths).map(([format, path]) => disk(path, format));
  const cmdline = "bytes=3000000 depth=16 request=16384 rounds=100000 timeout=60";
  const random = new Random(SEED);
  for (const device of devices) {
    const run = await Run.create(config(cmdline, { kernel: ELF, devices: [device] }));
    const done = run.vm.run();
    let isOver = false;
    void done.then(() => {
      isOver = true;
    });
    const until = async (condition: () => boolean) => {
      await run.until(() => isOver || condition());
      assert.not(isOver, run.text);
    };
    for (let kills = 1; kills <= DEVICE_KILLS; kills++) {
      await until(() => run.all("device-ready").length === kills);
      await sleep(random.below(KILL_DELAY_MS_MAX));
      process.kill(run.all("device-ready").at(-1)?.pid ?? 0, "SIGKILL");
    }
    await until(() => run.all("device-ready").length === DEVICE_KILLS + 1);
    const rounds = run.text.match(/flushed/g)?.length ?? 0;
    await until(() => (run.text.match(/flushed/g)?.length ?? 0) > rounds + 1);
    assert.not.match(run.text, /blk0: (?!at|flushed)/, "the guest found something wrong");
    run.vm.stop("enough");
    assert.is((await done).reason, "stopped");
  }
  assert.equal(check(paths.qcow2).corruptions, 0);
});

/** What the guest writes at a byte of the disk in a round: see word_at() in disk.c. */
function wordAt(at: number, round: bigint): bigint {
  const mask = (1n << 64n) - 1n;
  const product = (BigInt(at / 8) + 1n) * 0x9e3779b97f4a7c15n + round * 0xd1342543de82ef95n;
  const word = product & mask;
  return word ^ (word >> 29n);
}

/** The rounds that sectors of a disk are of, as the guest wrote them. */
function roundsOf(contents: Uint8Array, bytes: number, roundMax: number): Set<number> {
  const view = new DataView(contents.buffer, contents.byteOffset);
  const found = new Set<number>();
  for (let at = 0; at < bytes; at += 512) {
    const word = view.getBigUint64(at, true);
    let round = roundMax;
    while (round > 0 && word !== wordAt(at, BigInt(round))) round -= 1;
    found.add(round);
  }
  return found;
}

/** Runs the guest until it has flushed some rounds, and then kills everything at once. */
async function killAfter(path: string, params: string, delayMs: number): Promise<number> {
  const args = [BULKHEAD, "run", ELF, "-m", "64M", "-p", params, "-d", path];
  const vmm = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "ignore"] });
  const ended = new Promise((resolve) => vmm.once("close", resolve));
  let text = "";
  vmm.stdout.on("data", (more: Buffer) => {
    text += more.toString();
  });
  while (!text.includes("flushed round 2") && vmm.exitCode === null) await sleep(1);
  await sleep(delayMs);
  vmm.kill("SIGKILL");
  await ended;
  const rounds = [...text.matchAll(/flushed round (\d+)\s/g)].map(([, round]) => Number(round));
  assert.ok(rounds.length > 0, text);
  return rounds.at(-1)!;
}

for (const format of ["raw", "qcow2"]) {
  withKvm(`what was flushed is there when the VM is killed, ${format}`, async () => {
    const random = new Random(SEED);
    const bytes = 256 * 1024;
    const path = image(format, MIB);
    const flushes: number[] = [];
    for (let kill = 0; kill < VM_KILLS; kill++) {
      const params = `bytes=${bytes} depth=8 request=8192 rounds=1000000`;
      const flushed = await killAfter(path, params, random.below(KILL_DELAY_MS_MAX));
      flushes.push(flushed);
      if (format === "qcow2") assert.equal(check(path).corruptions, 0);
      // The guest goes on while it says so: what is there may be of a later round, or of two.
      const found = [...roundsOf(contentsOf(path, format), bytes, flushed + 200)];
      assert.ok(Math.min(...found) >= flushed, `${found} after round ${flushed} was flushed`);
    }
    note(`killed after ${flushes.join(", ")} rounds were flushed`);
  });
}

test.run();
