// The host's side of a Debian that is used as its user would (distribution.ts): runs bulkhead once
// a boot, logs in over the console and types. A program of its own, because it runs wherever a job
// runs:
//
//   node distribution-host.js DIRECTORY emulated|real BOOT...
//
// where BOOT is TRANSPORT:IMAGE:write:reboot or TRANSPORT:IMAGE:check:poweroff, all on one disk.

import { createHash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { ROOT_PASSWORD } from "../../build/distribution.js";
import { GuestConsole } from "./guest-console.js";
import { GUEST_TRIES_MAX } from "./tries.js";

/** Written as text that anybody can make, and as bytes that nobody can guess. */
const NUMBERS = 200_000;
const RANDOM_BYTES = 4 * 1024 * 1024;

/** `quiet` as Debian's boot loader has it; a guest that oopses reboots instead of staying there. */
const PARAMETERS = "console=ttyS0 root=/dev/vda1 quiet oops=panic panic=-1";

function say(text: string): void {
  console.log(`host: ${text}`);
}

/** Types a command and waits for what it says in the line that begins with `word`. */
async function ask(guest: GuestConsole, word: string, command: string): Promise<string> {
  guest.type(`echo "guest: ${word}" $(${command})`);
  const [, answer = ""] = await guest.expect(new RegExp(`^guest: ${word} ?(.*)\n`, "m"));
  return answer;
}

async function logIn(guest: GuestConsole): Promise<void> {
  await guest.expect(/login: /);
  say(`login after ${guest.seconds} s`);
  guest.type("root");
  await guest.expect(/Password: /);
  guest.type(ROOT_PASSWORD);
  await guest.expect(/:~# /);
}

/** Whether the guest's clock is between ours before and after it was read, and how it runs. */
async function lookAtClock(guest: GuestConsole): Promise<void> {
  const sys = "/sys/devices/system/clocksource/clocksource0";
  say(`clock ${await ask(guest, "clock", `cat ${sys}/current_clocksource`)}`);
  const before = Date.now() / 1000;
  const said = await ask(guest, "date", "date +%s.%N; sleep 1; date +%s.%N");
  const after = Date.now() / 1000;
  const [start = 0, end = 0] = said.split(" ").map(Number);
  const slow = Math.max(0, before - start);
  const fast = Math.max(0, end - after);
  say(`clock is ${slow.toFixed(1)} s slow, ${fast.toFixed(1)} s fast`);
  say(`a second took ${(end - start).toFixed(2)} s of ${(after - before).toFixed(2)}`);
}

/** What the guest knows of the machine that it runs on. */
async function look(guest: GuestConsole): Promise<void> {
  say(`cpus ${await ask(guest, "cpus", "nproc")}`);
  const disk = await ask(guest, "disk", "readlink /sys/block/vda");
  say(`disk on ${disk.split("/virtio")[0]}`); // a line with that word is a complaint: tries.ts
  say(`root ${await ask(guest, "root", "findmnt -n -o SOURCE,FSTYPE,OPTIONS /")}`);
  say(`units failed: ${await ask(guest, "failed", "systemctl --failed --plain --no-legend")}`);
  await lookAtClock(guest);
}

/** The sums of the two files, as the guest has them. */
async function sums(guest: GuestConsole): Promise<string> {
  return ask(guest, "sums", "sha256sum numbers random | cut -c 1-64");
}

function numbersSum(): string {
  const lines = Array.from({ length: NUMBERS }, (_, index) => `${index + 1}\n`);
  return createHash("sha256").update(lines.join("")).digest("hex");
}

let written = "";

async function write(guest: GuestConsole): Promise<void> {
  guest.type(`seq ${NUMBERS} >numbers; head -c ${RANDOM_BYTES} /dev/urandom >random; sync`);
  written = await sums(guest);
  say(`files ${written.startsWith(numbersSum()) ? "written" : `differ: ${written}`}`);
}

async function check(guest: GuestConsole): Promise<void> {
  const now = await sums(guest);
  say(`files ${now === written ? "same" : `differ: ${now}`}`);
}

async function use(guest: GuestConsole, does: string, end: string): Promise<void> {
  await logIn(guest);
  await look(guest);
  await (does === "write" ? write(guest) : check(guest));
  guest.type(end);
  const status = await guest.exit;
  say(`${end} ended with ${status} after ${guest.seconds} s`);
  if (guest.symptom !== undefined || status !== 0) throw new Error(`the guest did not ${end}`);
}

const [, , directory = "", kind, ...boots] = process.argv;
const place = kind === "real" ? copyOf(directory) : directory;

/** Somebody's machine keeps the files as they are. */
function copyOf(source: string): string {
  const copy = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-distribution-"));
  fs.cpSync(source, copy, { recursive: true });
  return copy;
}

/** One boot; the emulator's faults (tries.ts) let it be repeated on the disk as it is then. */
async function boot(word: string): Promise<void> {
  const [transport = "", image = "", does = "", end = ""] = word.split(":");
  const at = (name: string) => path.join(place, name);
  for (let left = GUEST_TRIES_MAX; ; left--) {
    say(`boot ${word}`);
    const guest = new GuestConsole([
      ...["-d", at(image), "-k", at("vmlinuz"), "-i", at("initrd.img"), "-m", "512M", "-c", "2"],
      ...["--transport", transport, "-p", PARAMETERS],
    ]);
    try {
      return await use(guest, does, end);
    } catch (error) {
      guest.kill();
      await guest.exit;
      const { symptom } = guest;
      if (symptom === undefined || left === 1 || kind !== "emulated") {
        console.log(guest.text);
        throw error;
      }
      // Its name alone: the rest of it would look as if the whole job were spoilt by it.
      say(`again, after ${guest.seconds} s: ${symptom.split(":")[0]}`);
    }
  }
}

try {
  for (const word of boots) await boot(word);
  say("done");
} finally {
  if (place !== directory) fs.rmSync(place, { recursive: true });
}
