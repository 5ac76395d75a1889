// Devices in their own, confined processes, spoken to as the VMM does.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { STATUS } from "../../host/runtime/status.js";
import type { ResolvedGrant } from "../../host/sandbox/grants.js";
import { CONFIG, LOG, READY, REPLIES } from "../../host/wire/format.js";
import { ConfinedDevice } from "../breach/support/confined.js";
import { manifest, moduleWith } from "./support.js";

const RNG = fileURLToPath(new URL("../../devices/rng.wasm", import.meta.url));
const URANDOM: ResolvedGrant = {
  name: "source",
  kind: "file",
  what: "/dev/urandom",
  rights: ["read"],
};

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-process-"));
test.after(() => fs.rmSync(directory, { recursive: true }));

/** A module as a file, which is what a device process is started from. */
function fileOf(module: Uint8Array): string {
  const file = path.join(directory, `${fs.readdirSync(directory).length}.wasm`);
  fs.writeFileSync(file, module);
  return file;
}

class Peer extends ConfinedDevice {
  /** Waits for READY and activates the device; returns the report. */
  async start(): Promise<string> {
    const message = await this.receive();
    assert.is(message?.type, READY, message?.text);
    this.activate();
    return message?.text ?? "";
  }
}

/** Asserts that a device started from `module` says this before it ends with this status. */
async function endsWith(peer: Peer, line: RegExp, status: number): Promise<void> {
  const message = await peer.receive();
  assert.is(message?.type, LOG);
  assert.match(message?.text ?? "", line);
  assert.is((await peer.exit).status, status, (await peer.exit).reason);
  await peer.leave();
}

test("rng in its process fills requests from /dev/urandom and ends with the socket", async () => {
  const peer = new Peer(RNG, [URANDOM]);
  const report = JSON.parse(await peer.start());
  assert.is(report.seccomp, "enforce");
  assert.is(report.wxPages, 0);
  peer.send([
    { id: 7, capacity: 32 },
    { id: 8, capacity: 4096 },
    { id: 9, capacity: 0 },
  ]);
  const message = await peer.receive();
  assert.is(message?.type, REPLIES, message?.text);
  const [first, second, third] = message!.replies;
  assert.equal([first?.id, first?.bytes.length], [7, 32]);
  assert.equal([second?.id, second?.bytes.length], [8, 4096]);
  assert.equal([third?.id, third?.bytes.length], [9, 0]);
  // 4096 random bytes lack more than 20 of the 256 values once in 10^30 times.
  assert.ok(new Set(second?.bytes).size > 236);
  const { status, reason } = await peer.leave();
  assert.is(status, STATUS.closed, reason);
});

test("rng in its process lives through a thousand calls and garbage collections", async () => {
  // V8 makes a faster wrapper at the 1000th call of an export, unless told not to, and collects its
  // young generation after some ten thousand: either would end a process that is sealed too
  // tightly.
  const peer = new Peer(RNG, [URANDOM]);
  await peer.start();
  const requests = Array.from({ length: 64 }, (_, id) => ({ id, capacity: 16 }));
  for (let batch = 0; batch < 1200; batch++) {
    peer.send(requests);
    let answered = 0;
    while (answered < 64) answered += (await peer.receive())?.replies.length ?? Number.NaN;
    assert.is(answered, 64, `batch ${batch}`);
  }
  assert.is((await peer.leave()).status, STATUS.closed);
});

test("rng in its process is reset more often than V8 lets one instance be called", async () => {
  const peer = new Peer(RNG, [URANDOM]);
  await peer.start();
  for (let round = 1; round <= 1200; round++) {
    peer.reset();
    peer.activate();
    peer.send([{ id: 1, capacity: 8 }]);
    assert.is((await peer.receive())?.replies[0]?.bytes.length, 8, `round ${round}`);
  }
  assert.is((await peer.leave()).status, STATUS.closed);
});

test("a module that traps in serve() leaves a line and the status of a trap", async () => {
  const serve = '(func (export "serve") (param i32 i32 i32 i32 i32) (result i32) unreachable)';
  const peer = new Peer(fileOf(moduleWith({ serve })));
  await peer.start();
  peer.send([{ id: 1, capacity: 8 }]);
  await endsWith(peer, /^serve: unreachable$/, STATUS.trapped);
});

test("a module that overflows its stack ends as a trap", async () => {
  const serve = `(func $serve (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    (call $serve (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4)))`;
  const peer = new Peer(fileOf(moduleWith({ serve })));
  await peer.start();
  peer.send([{ id: 1, capacity: 8 }]);
  await endsWith(peer, /^serve: Maximum call stack size exceeded$/, STATUS.trapped);
});

test("a module that reads beyond its memory ends as a trap", async () => {
  const serve = `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    (i32.load (i32.const 0x7fffffff)))`;
  const peer = new Peer(fileOf(moduleWith({ serve })));
  await peer.start();
  peer.send([{ id: 1, capacity: 8 }]);
  await endsWith(peer, /^serve: memory access out of bounds$/, STATUS.trapped);
});

test("a module that claims more than its capacity ends before the VMM sees a reply", async () => {
  const serve = '(func (export "serve") (param i32 i32 i32 i32 i32) (result i32) i32.const 9)';
  const peer = new Peer(fileOf(moduleWith({ serve })));
  await peer.start();
  peer.send([{ id: 1, capacity: 8 }]);
  await endsWith(peer, /claims 9 bytes of a capacity of 8/, STATUS.trapped);
});

test("a module that grows its memory in serve() goes on being served", async () => {
  const serve = `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    (drop (memory.grow (i32.const 10)))
    (memory.copy (local.get 3) (local.get 1) (local.get 2))
    (local.get 2))`;
  const peer = new Peer(fileOf(moduleWith({ serve })));
  await peer.start();
  for (let id = 0; id < 10; id++) {
    const readable = Uint8Array.of(id, 1, 2, 3);
    peer.send([{ id, readable, capacity: 8 }]);
    assert.equal((await peer.receive())?.replies, [{ id, bytes: readable, flags: 0 }]);
  }
  await peer.leave();
});

test("a module that traps in _initialize says so instead of READY", async () => {
  const initialize = '(func (export "_initialize") unreachable)';
  const peer = new Peer(fileOf(moduleWith({ initialize })));
  await endsWith(peer, /^_initialize: unreachable$/, STATUS.trapped);
});

test("a module that is refused says so instead of READY", async () => {
  const peer = new Peer(fileOf(moduleWith({ more: "(func $go) (start $go)" })));
  await endsWith(peer, /start/, 2);
});

test("a module's config space is told before READY and after each CONFIGURE", async () => {
  const peer = new Peer(
    fileOf(
      moduleWith(
        {
          initialize: '(func (export "_initialize") (i32.store (i32.const 16) (i32.const 32)))',
          configure: `(func (export "configure") (param i32 i32 i32)
            (i32.store16 (i32.add (i32.const 32) (local.get 0)) (local.get 2)))`,
        },
        manifest({ config: 4 }),
      ),
    ),
  );
  assert.equal((await peer.receive())?.config, [0, 0, 0, 0]);
  await peer.start();
  for (let count = 1; count <= 2000; count += 1) {
    peer.configure(2, count, 2);
    const { type, generation, config } = (await peer.receive())!;
    const expected = { type: CONFIG, generation: count, config: [0, 0, count & 0xff, count >> 8] };
    assert.equal({ type, generation, config }, expected);
  }
  await peer.leave();
});

test("a device process ends when the VMM breaks the protocol", async () => {
  const peer = new Peer(fileOf(moduleWith()));
  await peer.start();
  peer.send([{ id: 1, capacity: 8 }], 1);
  await endsWith(peer, /queue 1 of 1/, STATUS.protocol);
});

test.run();
