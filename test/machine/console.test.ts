// The console in whole machines: no byte is lost on the way, however slowly the other end reads.

import { once } from "node:events";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { guestPath } from "../../build/guest.js";
import type { DeviceConfig } from "../../host/machine/config.js";
import { whyNoKvm } from "../support/bulkhead.js";
import { CONSOLE, guestPattern } from "../support/console.js";
import { note, skip } from "../support/skip.js";
import { config, Run } from "../support/vm.js";

/** What a `cat` of a large file is. */
const BYTES = 10 * 1024 * 1024;
/** The test reads so much, and then nothing for a moment. */
const SLOW_BYTES = 1024 * 1024;
const SLOW_MS = 20;

const consoles = suite("console of a VM");
const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-console-"));
fs.chmodSync(directory, 0o755);
consoles.after(() => fs.rmSync(directory, { recursive: true }));

type Grants = DeviceConfig["grants"];

function start(cmdline: string, grants: Grants, isolation: DeviceConfig["isolation"] = "process") {
  const device = {
    id: "console0",
    module: CONSOLE,
    grants,
    isolation,
    seccomp: "enforce" as const,
  };
  return Run.create(config(cmdline, { kernel: guestPath("console"), devices: [device] }));
}

function listening(name: string): { grants: Grants; what: string } {
  const what = path.join(directory, name);
  return { what, grants: { socket: { kind: "unix", what, rights: ["listen"] } } };
}

/** All that comes from `socket` until it is `bytes` long, read in a hurry and then not at all. */
async function readSlowly(socket: net.Socket, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let [count, next] = [0, SLOW_BYTES];
  for (; count < bytes; ) {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) {
      await Promise.race([once(socket, "readable"), once(socket, "end")]);
      if (socket.readableEnded) break;
      continue;
    }
    chunks.push(chunk);
    count += chunk.length;
    if (count < next) continue;
    next += SLOW_BYTES;
    await new Promise((resolve) => setTimeout(resolve, SLOW_MS));
  }
  return Buffer.concat(chunks);
}

/** MB/s that the guest measured. */
function rateOf(text: string): string {
  const [, bytes, ns] = /(?:sent|received) (\d+) bytes.* in (\d+) ns/.exec(text) ?? [];
  return `${((Number(bytes) / Number(ns)) * 1000).toFixed(0)} MB/s`;
}

consoles("a file gets all that the guest says", async () => {
  const what = path.join(directory, "output");
  fs.writeFileSync(what, "before\n");
  const run = await start(`send=${BYTES}`, { file: { kind: "file", what, rights: ["append"] } });
  assert.is((await run.vm.run()).status, 0);
  const said = fs.readFileSync(what);
  assert.ok(said.subarray(7).equals(guestPattern(BYTES)), "bytes were lost or changed");
  note(`guest → file: ${rateOf(run.text)}`);
});

for (const isolation of ["process", "inline"] as const) {
  consoles(`a slow reader of a socket gets all that the guest says: ${isolation}`, async () => {
    const { grants, what } = listening(`slow-${isolation}`);
    const run = await start(`send=${BYTES}`, grants, isolation);
    const socket = net.connect(what);
    await once(socket, "connect");
    const done = run.vm.run();
    const said = await readSlowly(socket, BYTES);
    assert.ok(said.equals(guestPattern(BYTES)), "bytes were lost or changed");
    assert.is((await done).status, 0);
    socket.destroy();
    note(`guest → socket: ${rateOf(run.text)}`);
  });

  consoles(`the guest gets all that is sent to its socket: ${isolation}`, async () => {
    const { grants, what } = listening(`fast-${isolation}`);
    const run = await start(`expect=${BYTES}`, grants, isolation);
    const socket = net.connect(what);
    await once(socket, "connect");
    socket.write(guestPattern(BYTES));
    assert.is((await run.vm.run()).status, 0, run.text);
    assert.match(run.text, `received ${BYTES} bytes, 0 wrong`);
    socket.destroy();
    note(`socket → guest: ${rateOf(run.text)}`);
  });
}

consoles("a reader that goes away does not stop the guest, and the next one is heard", async () => {
  const { grants, what } = listening("next");
  const run = await start(`send=${BYTES} echo`, grants);
  const first = net.connect(what);
  await once(first, "connect");
  const done = run.vm.run();
  await once(first, "data");
  first.destroy();
  await run.until(() => run.text.includes("console: sent"));
  const next = net.connect(what);
  await once(next, "connect");
  next.write("q");
  const [heard] = await once(next, "data");
  assert.is(String(heard), "q");
  assert.is((await done).status, 0);
  next.destroy();
});

const reason = whyNoKvm();
if (reason === undefined) consoles.run();
else skip(reason);
