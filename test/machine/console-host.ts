// The host's side of a Debian on the virtio console (distribution-console.test.ts): bulkhead runs
// on a terminal that is the guest's only console, and named ports lead to a pseudo-terminal and to
// a socket.
//
//   node console-host.js DIRECTORY emulated|real

import { once } from "node:events";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { Slave } from "../support/slave.js";
import {
  ask,
  boot,
  DEBIAN_PARAMETERS,
  end,
  logIn,
  say,
  signOfLife,
  withDisks,
} from "./debian-guest.js";
import type { GuestConsole } from "./guest-console.js";

/**
 * A stock Debian loads virtio_console from its root file system. Until then it needs another
 * console, or its initramfs has nowhere to start init from; and systemd, which has looked for
 * consoles by then, has to be told to have a login on it.
 */
const PARAMETERS =
  "console=ttyS0 console=hvc0 systemd.wants=serial-getty@hvc0.service " +
  `root=/dev/vda1 ${DEBIAN_PARAMETERS}`;
const PTY_PORT = "org.bulkhead.pty";
const SOCKET_PORT = "org.bulkhead.socket";
/** A link: a line of the guest with the path itself would look like a complaint (tries.ts). */
const PORTS = "ports";
/** Looks of the guest at its terminal's size, and the seconds between two. */
const LOOKS_MAX = 50;
const LOOK_SECONDS = 0.2;

const work = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-console-"));
fs.chmodSync(work, 0o755);
const SOCKET = path.join(work, "socket");
const SECOND_CONSOLE = path.join(work, "hvc1");
const SERIAL = path.join(work, "ttyS0");

/** What bulkhead said of itself; the pattern has one group. */
function said({ plain }: GuestConsole, pattern: RegExp): string {
  const found = [...plain.matchAll(pattern)].at(-1)?.[1];
  if (found === undefined) throw new Error(`bulkhead did not say ${pattern}`);
  return found;
}

/** The guest's terminal is another size than before, as soon as the guest knows. */
async function size(guest: GuestConsole, before: string): Promise<string> {
  const changed = `[ "$(stty size)" = "${before}" ] || break; sleep ${LOOK_SECONDS}`;
  return ask(guest, "size", `for i in $(seq ${LOOKS_MAX}); do ${changed}; done; stty size`);
}

async function look(guest: GuestConsole): Promise<void> {
  say(`login on ${await ask(guest, "tty", "tty")}`);
  say(`consoles: ${await ask(guest, "consoles", "cat /sys/class/tty/console/active")}`);
  say(`ports: ${await ask(guest, "ports", `ls ${PORTS}/`)}`);
  say(`size ${await size(guest, "")}`);
  guest.resize({ rows: 31, columns: 99 });
  say(`size ${await size(guest, "40 100")}`);
}

/** Somebody at the other end of a port. */
interface Peer {
  send(text: string): void;
  /** What the guest says, up to the end of a line. */
  line(): Promise<string>;
  leave(): void;
}

function onPty(guest: GuestConsole): Peer {
  const slave = new Slave(said(guest, /^# console1\.port1: pty (\/dev\/pts\/\d+)$/gm));
  return {
    send: (text) => slave.type(text),
    line: async () => String(await slave.hearText("\n")),
    leave: () => slave.close(),
  };
}

async function onSocket(): Promise<Peer> {
  const socket = net.connect(SOCKET);
  await once(socket, "connect");
  let heard = "";
  socket.on("data", (bytes) => (heard += String(bytes)));
  return {
    send: (text) => void socket.write(text),
    line: async () => {
      while (!heard.endsWith("\n")) await once(socket, "data");
      return heard;
    },
    leave: () => socket.destroy(),
  };
}

async function talk(guest: GuestConsole, name: string, peer: Peer): Promise<void> {
  peer.send(`to ${name}\n`);
  say(`guest hears: ${await ask(guest, "hears", `head -n 1 ${PORTS}/${name}`)}`);
  guest.type(`echo from ${name} >${PORTS}/${name}`);
  say(`guest says: ${(await peer.line()).trim()}`);
  peer.leave();
  const silent = await ask(guest, "alone", `timeout 60 cat ${PORTS}/${name} | wc -c`);
  say(`guest alone: ${silent}`);
}

/** The device's process dies, and its guest goes on typing. */
async function kill(guest: GuestConsole): Promise<void> {
  const confined = /^# console0: .* process (\d+): /gm;
  const pid = said(guest, confined);
  process.kill(Number(pid), "SIGKILL");
  say(`guest ${await ask(guest, "goes", "echo on")}`);
  say(`console0 is ${said(guest, confined) === pid ? "the same" : "another"}`);
}

async function use(guest: GuestConsole): Promise<void> {
  await logIn(guest);
  signOfLife(guest);
  guest.type(`ln -sfn /dev/v*-ports ${PORTS}`); // a boot that is repeated finds the first one's
  await look(guest);
  await talk(guest, PTY_PORT, onPty(guest));
  await talk(guest, SOCKET_PORT, await onSocket());
  await kill(guest);
  await end(guest, "poweroff");
}

const [, , directory = "", kind = ""] = process.argv;

try {
  fs.writeFileSync(SECOND_CONSOLE, "");
  const ports = `port=pty,name1=${PTY_PORT},port=${SOCKET},name2=${SOCKET_PORT}`;
  await withDisks(directory, kind, (disks) =>
    boot(disks, {
      word: "console",
      args: [
        ...["-d", disks.at("disk.img"), "-p", PARAMETERS],
        ...["--console", "virtio", "--serial", SERIAL],
        ...["--device", `console,file=${SECOND_CONSOLE},${ports}`],
      ],
      terminal: { rows: 40, columns: 100 },
      serial: SERIAL,
      use,
    }),
  );
  say("done");
} catch (error) {
  console.log(fs.readFileSync(SERIAL, "latin1"));
  throw error;
} finally {
  fs.rmSync(work, { recursive: true });
}
