// The host's side of a disk that fio writes while its device, and then its VMM, are killed. A
// program of its own, because it runs wherever a job runs:
//
//   node fio-host.js '{"kernel":…,"initrd":…,"tools":…,"emulated":true}'
//
// Each boot but the last writes, and is killed at a random instant after its flush was answered;
// the next one compares what it finds. In between qemu-img looks at the image.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { GuestConsole } from "./guest-console.js";
import { GUEST_TRIES_MAX } from "./tries.js";

/** What the job is told. */
export interface FioSettings {
  kernel: string;
  /** Initramfs whose init is fio-init.sh. */
  initrd: string;
  /** A disk with fio. */
  tools: string;
  /** The host is emulated, and a try that dies of that is repeated. */
  emulated: boolean;
}

const PARAMETERS = "console=ttyS0 quiet oops=panic panic=-1";
const DISK = "32M";
/** Boots that write, of each format. */
const CYCLES = 2;
/** Processes of the disk that are killed in each of them. */
const KILLS = 2;
/** Within that time of the guest's last word, a process is killed. */
const KILL_DELAY_MS_MAX = 800;
const POLL_MS = 20;

function say(text: string): void {
  console.log(`host: ${text}`);
}

function anyTime(): Promise<void> {
  return sleep(Math.random() * KILL_DELAY_MS_MAX);
}

/** What bulkhead says of a process of the disk, the second device. */
const CONFINED = /blk1: .*\bprocess (\d+)/;

/** Processes of the disk that took the place of one that was killed. */
function successors({ text }: GuestConsole): string[] {
  return [...text.matchAll(/blk1: started again in process (\d+)/g)].map(([, pid = ""]) => pid);
}

/** Kills the process of the disk, again when there is another. */
async function killDevices(guest: GuestConsole, first: string): Promise<void> {
  let hasEnded = false;
  void guest.exit.then(() => (hasEnded = true));
  for (let kill = 0; kill < KILLS; kill++) {
    await anyTime();
    process.kill(Number(successors(guest).at(-1) ?? first), "SIGKILL");
    while (successors(guest).length <= kill) {
      if (hasEnded) throw new Error("the guest ended before its disk was there again");
      await sleep(POLL_MS);
    }
  }
}

/** Waits until a process that was killed holds no lock any more. */
async function gone(pid: string): Promise<void> {
  while (fs.existsSync(`/proc/${pid}`)) await sleep(POLL_MS);
}

async function expectDone(guest: GuestConsole, what: string): Promise<void> {
  const [, status] = await guest.expect(new RegExp(`^guest: ${what}: (\\d+)\\r?$`, "m"));
  say(`${what}: ${status}`);
  if (status !== "0") throw new Error(`fio: ${what}`);
}

async function written(guest: GuestConsole, write: number): Promise<void> {
  await expectDone(guest, `wrote ${write}`);
  await expectDone(guest, `verified ${write}`);
  await guest.expect(/^guest: goes on/m);
}

/** Lets the guest write with seed `write`, and ends it in the middle of more. */
async function writeAndDie(guest: GuestConsole, write: number, pid: string): Promise<void> {
  await guest.expect(new RegExp(`^guest: writes ${write}`, "m"));
  await Promise.all([killDevices(guest, pid), written(guest, write)]);
  say(`killed ${KILLS} processes of the disk`);
  await anyTime();
  guest.kill();
  say(`killed the VM after ${guest.seconds} s: ${await guest.exit}`);
  await gone(successors(guest).at(-1)!);
}

/** What the emulator did to a guest: that a device was killed is no complaint here. */
function symptomOf(guest: GuestConsole): string | undefined {
  return guest.symptomIn(guest.text.replaceAll(/^.*blk1: gone: was killed by SIGKILL.*$/gm, ""));
}

async function boot(settings: FioSettings, image: string, cycle: number): Promise<void> {
  const { kernel, initrd, tools, emulated } = settings;
  const verify = cycle > 1 ? ` fio.verify=${cycle - 1}` : "";
  const write = cycle <= CYCLES ? ` fio.write=${cycle}` : "";
  for (let left = GUEST_TRIES_MAX; ; left--) {
    const guest = new GuestConsole([
      ...["-k", kernel, "-i", initrd, "-m", "256M", "-c", "2", "-d", `${tools},ro`, "-d", image],
      ...["-p", `${PARAMETERS}${verify}${write}`],
    ]);
    try {
      const [, pid = ""] = await guest.expect(CONFINED);
      if (verify !== "") await expectDone(guest, `verified ${cycle - 1}`);
      if (write !== "") return await writeAndDie(guest, cycle, pid);
      await guest.expect(/^guest: done/m);
      say(`ended with ${await guest.exit}`);
      return;
    } catch (error) {
      guest.kill();
      await guest.exit;
      const symptom = symptomOf(guest);
      if (symptom === undefined || left === 1 || !emulated) {
        console.log(guest.text);
        throw error;
      }
      say(`again, after ${guest.seconds} s: ${symptom.split(":")[0]}`);
    }
  }
}

function qemuImg(...args: string[]): void {
  const { status, stdout, stderr } = spawnSync("qemu-img", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`qemu-img ${args[0]}: status ${status}\n${stdout}${stderr}`);
}

/** Looks for errors and corruptions; a leak is what a VM that dies may leave (status 3). */
function check(image: string): void {
  const { status, stdout, stderr } = spawnSync("qemu-img", ["check", "-f", "qcow2", image], {
    encoding: "utf8",
  });
  say(`qemu-img check: ${status === 0 || status === 3 ? "good" : `${stdout}${stderr}`}`);
}

async function use(settings: FioSettings, directory: string, format: string): Promise<void> {
  const image = path.join(directory, `disk.${format}`);
  qemuImg("create", "-q", "-f", format, image, DISK);
  for (let cycle = 1; cycle <= CYCLES + 1; cycle++) {
    say(`${format}, boot ${cycle}`);
    await boot(settings, image, cycle);
    if (format === "qcow2") check(image);
  }
}

const settings = JSON.parse(process.argv[2] ?? "{}") as FioSettings;
const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-fio-"));
try {
  for (const format of ["qcow2", "raw"]) await use(settings, directory, format);
  say("done");
} finally {
  fs.rmSync(directory, { recursive: true });
}
