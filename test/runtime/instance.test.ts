import { test } from "uvu";
import * as assert from "uvu/assert";
import { VmmError } from "../../host/errors.js";
import { DeviceInstance, WAITS } from "../../host/runtime/instance.js";
import { GrantedFiles } from "../../host/runtime/wasi_snapshot_preview1.js";
import { GRANT_KIND_NAMES, rightsOf } from "../../host/sandbox/grant-kinds.js";
import { importsOf } from "../../host/sandbox/grants.js";
import { manifest, moduleWith } from "./support.js";

function create(module: Uint8Array): DeviceInstance {
  return DeviceInstance.create(module, (facts) => new GrantedFiles(facts.manifest, []));
}

/** Asserts that creating an instance of `module` fails with ERR_MODULE and such a message. */
function refused(module: Uint8Array, message: RegExp): void {
  assert.throws(
    () => create(module),
    (error: unknown) => {
      assert.instance(error, VmmError);
      assert.is((error as VmmError).code, "ERR_MODULE");
      assert.match((error as VmmError).message, message);
      return true;
    },
  );
}

test("DeviceInstance.create() takes a module that is as wit/ says", () => {
  const device = create(moduleWith());
  device.start();
  assert.is(device.inboxAddress, device.memory.address + 65536);
  assert.is(device.outboxAddress, device.inboxAddress + 0x200000);
});

for (const part of [
  "initialize",
  "reserve",
  "set",
  "start",
  "activate",
  "reset",
  "configure",
  "wake",
  "attention",
  "serve",
  "describe",
] as const) {
  const name = part === "initialize" ? "_initialize" : part;
  test(`DeviceInstance.create() refuses a module without "${name}"`, () => {
    refused(moduleWith({ [part]: "" }), new RegExp(`no function "${name}"`));
  });
}

test("DeviceInstance.create() refuses a function with other parameters", () => {
  const serve = '(func (export "serve") (param i32) (result i32) i32.const 0)';
  refused(
    moduleWith({ serve }),
    /exports serve as \(i32\) -> \(i32\), which is \(i32 i32 i32 i32 i32\)/,
  );
});

test("DeviceInstance.create() refuses a module without a memory of its name", () => {
  refused(moduleWith({ memory: '(memory (export "ram") 64 256)' }), /no memory "memory"/);
});

test("DeviceInstance.create() refuses a memory without a maximum", () => {
  refused(moduleWith({ memory: '(memory (export "memory") 64)' }), /maximum/);
});

test("DeviceInstance.create() refuses an import that no capability links", () => {
  const imports = `(import "wasi_snapshot_preview1" "path_open"
    (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))`;
  refused(moduleWith({ imports }), /path_open/);
});

test("DeviceInstance.create() refuses an import from another module", () => {
  const imports = '(import "env" "abort" (func (param i32 i32 i32 i32)))';
  refused(moduleWith({ imports }), /env\.abort/);
});

test("DeviceInstance.create() refuses a start section: it would run before the lock-down", () => {
  refused(moduleWith({ more: "(func $go) (start $go)" }), /start/);
});

test("DeviceInstance.create() refuses code that does not validate", () => {
  const serve = '(func (export "serve") (param i32 i32 i32 i32 i32) (result i32))';
  refused(moduleWith({ serve }), /Cannot compile the module/);
});

test("DeviceInstance.create() runs no code of the module", () => {
  const device = create(moduleWith({ initialize: '(func (export "_initialize") unreachable)' }));
  assert.throws(() => device.start(), /_initialize: unreachable/);
});

test("DeviceInstance.start() refuses a window outside the memory", () => {
  const reserve = '(func (export "reserve") (param i32) (result i32) i32.const -65536)';
  assert.throws(() => create(moduleWith({ reserve })).start(), /not in its memory/);
});

test("DeviceInstance.start() lets initialization grow the memory", () => {
  const initialize = '(func (export "_initialize") (drop (memory.grow (i32.const 100))))';
  const device = create(moduleWith({ initialize }));
  device.start();
  assert.is(device.memory.bytes, 164 * 65536);
  assert.is(device.memory.view.byteLength, 164 * 65536);
});

test("DeviceInstance.serve() refuses a reply longer than its capacity", () => {
  const serve = '(func (export "serve") (param i32 i32 i32 i32 i32) (result i32) i32.const 9)';
  const device = create(moduleWith({ serve }));
  device.start();
  const place = { readable: 0, bytes: 0, writable: 0, capacity: 8 };
  assert.throws(() => device.serve(0, place), /claims 9 bytes of a capacity of 8/);
});

test("DeviceInstance.serve() returns the one value that says that the request waits", () => {
  const serve = `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    (i32.sub (i32.const 0) (local.get 0)))`;
  const device = create(moduleWith({ serve }));
  device.start();
  const place = { readable: 0, bytes: 0, writable: 0, capacity: 8 };
  assert.is(device.serve(1, place), WAITS);
  assert.throws(() => device.serve(2, place), /claims 4294967294 bytes/);
});

test("DeviceInstance.serve() turns a trap into a fault that names entry point and reason", () => {
  const serve = `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    (i32.load (i32.const -1)))`;
  const device = create(moduleWith({ serve }));
  device.start();
  const place = { readable: 0, bytes: 0, writable: 0, capacity: 8 };
  assert.throws(() => device.serve(0, place), /^serve: memory access out of bounds$/);
});

test("GrantedFiles implements every function that a grant links", () => {
  const functions = new GrantedFiles(manifest(), []).link();
  for (const kind of GRANT_KIND_NAMES) {
    for (const name of importsOf(kind, rightsOf(kind))) assert.ok(functions[name], name);
  }
});

for (const [where, address] of [
  ["beyond its memory", "0x7ffffff0"],
  ["at the end of its memory", `${64 * 65536 - 23}`],
  ["at the end of all addresses", "-4"],
] as const) {
  test(`DeviceInstance.start() refuses attention ${where}`, () => {
    const attention = `(func (export "attention") (result i32) i32.const ${address})`;
    assert.throws(() => create(moduleWith({ attention })).start(), /attention: .* not in its/);
  });
}

test("DeviceInstance.start() takes attention anywhere inside, also where memory grew", () => {
  for (const at of [1, 64 * 65536 - 24, 65 * 65536 - 24]) {
    const attention = `(func (export "attention") (result i32)
      (if (i32.gt_u (i32.const ${at}) (i32.const 4194280)) (then
        (drop (memory.grow (i32.const 1)))))
      i32.const ${at})`;
    const device = create(moduleWith({ attention }));
    device.start();
    assert.ok(device.attention.isQuiet);
    device.memory.view.setUint32(at + 8, 0x103, true);
    assert.is(device.attention.interest, 0x103);
  }
});

test("DeviceInstance.attention reads what a module writes after its memory grew", () => {
  const activate = `(func (export "activate") (param i64)
    (drop (memory.grow (i32.const 100)))
    (i64.store (i32.const 0) (local.get 0)))`;
  const device = create(moduleWith({ activate }));
  device.start();
  device.memory.view.setBigUint64(65536, 5n, true);
  device.activate(0);
  assert.is(device.attention.deadline, 5n);
  assert.not.ok(device.attention.isQuiet);
});

test("DeviceInstance.reset() forgets what the device waited for, unless it says so again", () => {
  const reset = '(func (export "reset") (i32.store (i32.const 8) (i32.const 4)))';
  const device = create(moduleWith({ reset }));
  device.start();
  device.memory.view.setBigUint64(0, 77n, true);
  device.memory.view.setUint32(8, 3, true);
  device.reset();
  assert.is(device.attention.deadline, 0n);
  assert.is(device.attention.interest, 4);
});

test("Attention.settle() clears what has come and nothing else", () => {
  const device = create(moduleWith());
  device.start();
  const { attention, memory } = device;
  memory.view.setBigUint64(0, 77n, true);
  memory.view.setUint32(8, 0x0103, true);
  memory.view.setUint32(12, 9, true);
  attention.settle(0x0101, false);
  assert.equal([attention.interest, attention.deadline], [2, 77n]);
  attention.settle(0, true);
  assert.equal([attention.interest, attention.deadline], [2, 0n]);
  assert.is(memory.view.getUint32(12, true), 9);
});

test.run();
