// Sockets of devices in whole machines: who connects is served, also while a device is dead, and
// nothing is left behind.

import { randomBytes } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { compileDevice } from "../../host/author/device.js";
import { bulkhead, ENTROPY_GUEST, whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";
import { type VmmProcess, withVmm } from "../support/vmm-process.js";

/**
 * An entropy device of which every request is told to a peer: one byte, how many connections this
 * instance had. The bytes that it answers with are worth nothing.
 */
const SOURCE = `
  import { capability, Chain, Device, register, Rights } from "bulkhead/sdk";

  const port = capability.unix("port", Rights.Connect | Rights.Listen);
  const said = new StaticArray<u8>(1);

  class Teller extends Device {
    constructor() {
      super(4, [64]);
    }

    serve(queue: u32, chain: Chain): void {
      if (!port.connected && port.accept()) said[0] += 1;
      if (port.connected && port.writeBytes(said, 0, 1) == 0 && !port.again) port.close();
      chain.fill(7, min<u32>(chain.writable, 64));
    }
  }
  register(new Teller());`;

/** An entropy device that has nothing but what its peers send: without them its requests wait. */
const WAITER_SOURCE = `
  import { capability, Chain, Device, register, Rights } from "bulkhead/sdk";

  const port = capability.unix("port", Rights.Connect | Rights.Listen);

  class Waiter extends Device {
    constructor() {
      super(4, [64]);
    }

    serve(queue: u32, chain: Chain): void {
      while (port.accept()) {
        if (chain.writeFrom(port, chain.writable) > 0) return;
        if (port.again) break;
        port.close();
      }
      port.awaitReadable();
      chain.wait();
    }
  }
  register(new Waiter());`;

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-port-"));
fs.chmodSync(directory, 0o755);
const MODULE = path.join(directory, "teller.wasm");
const WAITER = path.join(directory, "waiter.wasm");
const LISTEN = path.join(directory, "listen.socket");
const CONNECT = path.join(directory, "connect.socket");
const GUEST = ["-p", "bench seconds=600 depth=1 request=64 timeout=60"];

function grant(word: string): string[] {
  const what = word === "listen" ? LISTEN : CONNECT;
  return ["--device", MODULE, "--grant", `teller0.port=unix:${what}:${word}`, ...GUEST];
}

/** Somebody who connects; resolves with the first that is heard. */
class Visitor {
  readonly socket: net.Socket;
  readonly heard: Promise<number>;
  readonly closed: Promise<void>;

  constructor(socket: net.Socket) {
    this.socket = socket.on("error", () => {});
    this.heard = new Promise((resolve, reject) => {
      socket.once("data", (data) => resolve(data[0]!));
      socket.once("close", () => reject(new Error("nobody answered")));
    });
    this.heard.catch(() => {});
    this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
  }
}

function pidOf(machine: VmmProcess): number {
  return Number(machine.events("device-ready").at(-1)?.pid);
}

async function comesAndGoes(machine: VmmProcess): Promise<void> {
  await machine.until(() => machine.text.includes("bench"));
  assert.is(fs.statSync(LISTEN).mode & 0o777, 0o600);
  const first = new Visitor(net.connect(LISTEN));
  assert.is(await first.heard, 1);
  const second = new Visitor(net.connect(LISTEN));
  process.kill(pidOf(machine), "SIGKILL");
  // Its connection ends with a device; whoever waits for one is served by the next.
  await first.closed;
  const third = new Visitor(net.connect(LISTEN));
  assert.is(await second.heard, 1);
  second.socket.destroy();
  assert.is(await third.heard, 2);
  assert.is(machine.events("device-ready").length, 2);
  assert.is(await machine.end(), 143);
  assert.is(fs.existsSync(LISTEN), false, "the file of the socket is left behind");
}

const unix = suite("unix");

unix.before(async () => {
  for (const [file, source] of [
    [MODULE, SOURCE],
    [WAITER, WAITER_SOURCE],
  ] as const) {
    fs.writeFileSync(file, (await compileDevice("/nowhere/device.ts", { source })).module);
  }
});
unix.after(() => fs.rmSync(directory, { recursive: true }));

/** A test that runs a guest, and is skipped where none can run. */
function guestTest(name: string, args: string[], body: (m: VmmProcess) => Promise<void>): void {
  unix(name, () => {
    const reason = whyNoKvm();
    return reason === undefined ? withVmm(args, body) : skip(reason);
  });
}

guestTest(
  "a confined device that listens is there again after it died",
  grant("listen"),
  (machine) => comesAndGoes(machine),
);

guestTest(
  "a VMM without a filter or a warden does the same",
  [...grant("listen"), "--seccomp", "off"],
  (machine) => comesAndGoes(machine),
);

guestTest(
  "a device that listens inside the VMM takes one after the other",
  [...grant("listen"), "--isolation", "inline"],
  async (machine) => {
    await machine.until(() => machine.text.includes("bench"));
    const visitors = [1, 2].map(() => new Visitor(net.connect(LISTEN)));
    assert.is(await visitors[0]!.heard, 1);
    visitors[0]!.socket.destroy();
    assert.is(await visitors[1]!.heard, 2);
    assert.is(await machine.end(), 143);
    assert.is(fs.existsSync(LISTEN), false);
  },
);

unix("a confined device that was connected is connected again after it died", async () => {
  const reason = whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const callers: Visitor[] = [];
  const server = net.createServer((socket) => void callers.push(new Visitor(socket)));
  await new Promise<void>((resolve) => server.listen(CONNECT, resolve));
  await withVmm(grant("connect"), async (machine) => {
    await machine.until(() => callers.length === 1);
    assert.is(await callers[0]!.heard, 1);
    process.kill(pidOf(machine), "SIGKILL");
    await callers[0]!.closed;
    await machine.until(() => callers.length === 2);
    assert.is(await callers[1]!.heard, 1);
    assert.is(await machine.end(), 143);
  });
  server.close();
});

/** What a guest wants that reads from visitors, and they bring. */
const WANTED_BYTES = 20_000;
const WAITING = ["-p", `bytes=${WANTED_BYTES} request=64 depth=4 timeout=60`];
const WAITER_LISTENS = ["--device", WAITER, "--grant", `waiter0.port=unix:${LISTEN}:listen`];

/** The guest gets what three visitors bring one after the other, and no sooner. */
async function bring(machine: VmmProcess): Promise<void> {
  await machine.until(() => machine.events("vmm-ready").length === 1);
  const visitors = [1, 2, 3].map(() => net.connect(LISTEN).on("error", () => {}));
  for (const visitor of visitors) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.not.match(machine.text, /passed/);
    visitor.end(randomBytes(WANTED_BYTES * 0.4));
  }
  await machine.exit;
  assert.match(machine.text, /1 passed, 0 failed: PASS/);
}

for (const isolation of ["process", "inline"]) {
  const args = [...WAITER_LISTENS, ...WAITING, "--isolation", isolation];
  guestTest(`requests wait until somebody connects and sends (${isolation})`, args, bring);
}

unix("a VM whose device has nobody to connect to is not started", async () => {
  const reason = whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const machine = bulkhead(["run", ENTROPY_GUEST, ...grant("connect")]);
  assert.is(machine.status, 2);
  assert.match(
    machine.stderr,
    /^Error: Cannot grant port=unix:.*: ENOENT, there is no such socket/,
  );
});

unix.run();
