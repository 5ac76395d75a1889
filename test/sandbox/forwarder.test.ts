// Calls into Wasm that leave V8 nothing to compile; that it compiles nothing, lockdown.test.ts
// shows.

import { test } from "uvu";
import * as assert from "uvu/assert";
import wabtOf from "wabt";
import { Forwarder, type Signature } from "../../host/sandbox/forwarder.js";

const wabt = await wabtOf();

function instantiate(wat: string): WebAssembly.Exports {
  const module = wabt.parseWat("module.wat", wat, {});
  const { buffer } = module.toBinary({});
  module.destroy();
  return new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array(buffer))).exports;
}

const SIGNATURES: Record<string, Signature> = {
  count: { parameters: [], results: ["i32"] },
  last: { parameters: ["i32", "i64", "i32"], results: ["i64"] },
  trap: { parameters: [], results: [] },
};

interface Functions {
  count(): number;
  last(a: number, b: bigint, c: number): bigint;
  trap(): void;
}

const WAT = `(module
  (global $n (mut i32) (i32.const 0))
  (func (export "count") (result i32)
    (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
  (func (export "last") (param i32 i64 i32) (result i64)
    (i64.add (i64.mul (local.get 1) (i64.const 100))
             (i64.extend_i32_u (i32.sub (local.get 0) (local.get 2)))))
  (func (export "trap") unreachable))`;

test("Forwarder.call reaches the one instance, however often it is called", () => {
  const forwarder = new Forwarder<Functions>(instantiate(WAT), SIGNATURES);
  for (let i = 1; i <= 5000; i++) assert.is(forwarder.call.count(), i);
});

test("Forwarder.call passes arguments in order and the result back", () => {
  const forwarder = new Forwarder<Functions>(instantiate(WAT), SIGNATURES);
  assert.is(forwarder.call.last(9, 7n, 4), 705n);
});

test("Forwarder.call uses a function at most 900 times before another takes its place", () => {
  const forwarder = new Forwarder<Functions>(instantiate(WAT), SIGNATURES);
  const uses = new Map<unknown, number>();
  for (let i = 0; i < 3000; i++) {
    const { count } = forwarder.call;
    uses.set(count, (uses.get(count) ?? 0) + 1);
  }
  assert.is(Math.max(...uses.values()), 900);
});

test("Forwarder.call passes a trap on", () => {
  const forwarder = new Forwarder<Functions>(instantiate(WAT), SIGNATURES);
  assert.throws(() => forwarder.call.trap(), /unreachable/);
});

test("Forwarder refuses a function of another type, and one that is missing", () => {
  const other = instantiate('(module (func (export "count") (result i64) (i64.const 0)))');
  const { count } = SIGNATURES;
  assert.throws(() => new Forwarder(other, { count: count! }), /Cannot use this module/);
  assert.throws(() => new Forwarder(instantiate("(module)"), SIGNATURES), /Cannot use this module/);
});

test.run();
