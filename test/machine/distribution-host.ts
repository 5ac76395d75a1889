// The host's side of a Debian that is used as its user would (distribution.ts): runs bulkhead once
// a boot, logs in over the console and types. A program of its own, because it runs wherever a job
// runs:
//
//   node distribution-host.js DIRECTORY emulated|real BOOT...
//
// where BOOT is TRANSPORT:IMAGE:write:reboot or TRANSPORT:IMAGE:check:poweroff, all on one disk.

import { createHash } from "node:crypto";
import { ask, boot, DEBIAN_PARAMETERS, end, logIn, say, withDisks } from "./debian-guest.js";
import type { GuestConsole } from "./guest-console.js";

/** Written as text that anybody can make, and as bytes that nobody can guess. */
const NUMBERS = 200_000;
const RANDOM_BYTES = 4 * 1024 * 1024;

const PARAMETERS = `console=ttyS0 root=/dev/vda1 ${DEBIAN_PARAMETERS}`;

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

async function use(guest: GuestConsole, does: string, ending: string): Promise<void> {
  await logIn(guest);
  await look(guest);
  await (does === "write" ? write(guest) : check(guest));
  await end(guest, ending);
}

const [, , directory = "", kind = "", ...boots] = process.argv;

await withDisks(directory, kind, async (disks) => {
  for (const word of boots) {
    const [transport = "", image = "", does = "", ending = ""] = word.split(":");
    const args = ["-d", disks.at(image), "--transport", transport, "-p", PARAMETERS];
    await boot(disks, { word, args, use: (guest) => use(guest, does, ending) });
  }
  say("done");
});
