// A Debian that is used as its user would (distribution.ts): what the programs of the host's side
// share, which run wherever a job runs.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { ROOT_PASSWORD } from "../../build/distribution.js";
import type { TerminalSize } from "../../host/machine/pty.js";
import { GuestConsole, HUNG_TASK_SECONDS } from "./guest-console.js";
import { GUEST_TRIES_MAX } from "./tries.js";

/**
 * Of any Debian: `quiet` as its boot loader has it, but systemd says what it does, so that one that
 * hangs is told from one that is slow; and one that oopses reboots instead of staying there.
 */
export const DEBIAN_PARAMETERS =
  "quiet systemd.show_status=true oops=panic panic=-1 " +
  `sysctl.kernel.hung_task_timeout_secs=${HUNG_TASK_SECONDS}`;

export function say(text: string): void {
  console.log(`host: ${text}`);
}

/**
 * Types a command and waits for what it says after `word`. What is typed has a backslash, so it is
 * never taken for the answer; nor need the answer begin a line: a shell whose terminal gets another
 * size writes its prompt and what was typed again, and the answer comes right behind.
 */
export async function ask(guest: GuestConsole, word: string, command: string): Promise<string> {
  guest.type(`echo guest\\: ${word} $(${command})`);
  const [, answer = ""] = await guest.expect(new RegExp(`guest: ${word} ?(.*)\n`));
  return answer;
}

export async function logIn(guest: GuestConsole): Promise<void> {
  await guest.expect(/login: /);
  say(`login after ${guest.seconds} s`);
  guest.type("root");
  await guest.expect(/Password: /);
  guest.type(ROOT_PASSWORD);
  await guest.expect(/:~# /);
}

/** Has the guest say on its serial console that it lives, as long as it does. */
export function signOfLife(guest: GuestConsole): void {
  guest.type("(while sleep 3; do echo alive; done) >/dev/ttyS0 &");
}

/** Has the guest end by itself, which bulkhead says with status 0. */
export async function end(guest: GuestConsole, command: string): Promise<void> {
  guest.type(command);
  const status = await guest.exit;
  say(`${command} ended with ${status} after ${guest.seconds} s`);
  if (guest.symptom !== undefined || status !== 0) throw new Error(`the guest did not ${command}`);
}

/** Where a job's disks are. */
export interface Disks {
  at(name: string): string;
  isEmulated: boolean;
}

/** Calls `use` with the disks in `directory`; somebody's machine keeps its files as they are. */
export async function withDisks(
  directory: string,
  kind: string,
  use: (disks: Disks) => Promise<void>,
): Promise<void> {
  const isEmulated = kind !== "real";
  const place = isEmulated ? directory : copyOf(directory);
  try {
    await use({ at: (name) => path.join(place, name), isEmulated });
  } finally {
    if (place !== directory) fs.rmSync(place, { recursive: true });
  }
}

function copyOf(source: string): string {
  const copy = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-distribution-"));
  fs.cpSync(source, copy, { recursive: true });
  return copy;
}

export interface Boot {
  /** Begins what is said of it. */
  word: string;
  /** Of `bulkhead run`, besides the kernel and what a Debian needs. */
  args: string[];
  /** It runs on a terminal of this size. */
  terminal?: TerminalSize;
  /** What its serial console says goes here, when it has another for its user: see signOfLife(). */
  serial?: string;
  use(guest: GuestConsole): Promise<void>;
}

/** One boot; the emulator's faults (tries.ts) let it be repeated on the disk as it is then. */
export async function boot({ at, isEmulated }: Disks, wanted: Boot): Promise<void> {
  const machine = ["-k", at("vmlinuz"), "-i", at("initrd.img"), "-m", "512M", "-c", "2"];
  for (let left = GUEST_TRIES_MAX; ; left--) {
    say(`boot ${wanted.word}`);
    const { args, terminal, serial } = wanted;
    const guest = new GuestConsole([...machine, ...args], terminal, serial);
    try {
      return await wanted.use(guest);
    } catch (error) {
      guest.kill();
      await guest.exit;
      const { symptom } = guest;
      if (symptom === undefined || left === 1 || !isEmulated) {
        console.log(guest.text);
        throw error;
      }
      // Its name alone: the rest of it would look as if the whole job were spoilt by it.
      say(`again, after ${guest.seconds} s: ${symptom.split(":")[0]}`);
    }
  }
}
