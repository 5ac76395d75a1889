import { test } from "uvu";
import * as assert from "uvu/assert";
import { InMemoryWorld } from "./in-memory-world.js";
import { builtDevice, Conversation, manifest, moduleWith } from "./support.js";

/** What rng answers to a few requests in a world of this seed. */
function entropy(seed: number): string[] {
  const rng = Conversation.started(builtDevice("rng"), new InMemoryWorld(seed));
  const capacities = [1, 64, 4096, 65536];
  const replies = capacities.flatMap((capacity, id) => rng.ask({ id, capacity }));
  return replies.map(({ bytes }) => Buffer.from(bytes).toString("hex"));
}

test("rng.wasm runs in memory alone, and the seed decides every byte", () => {
  const first = entropy(1);
  assert.equal(
    first.map((hex) => hex.length / 2),
    [1, 64, 4096, 65536],
  );
  assert.equal(entropy(1), first);
  assert.not.equal(entropy(2), first);
});

test("InMemoryWorld gives the standard streams of a module to @wasmer/wasi", () => {
  // Reads one byte from standard input, which is empty there, and answers errno and count.
  const imports = `(import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))`;
  const serve = `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    (i32.store (i32.const 16) (i32.const 64))
    (i32.store (i32.const 20) (i32.const 1))
    (i32.store (i32.const 8) (i32.const 99))
    (i32.store (local.get 3)
      (call $fd_read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 8)))
    (i32.store offset=4 (local.get 3) (i32.load (i32.const 8)))
    (i32.const 8))`;
  const rights: "read"[] = ["read"];
  const capabilities = [{ name: "source", kind: "file" as const, rights, required: true }];
  const module = moduleWith({ imports, serve }, manifest({ capabilities }));
  const [reply] = Conversation.started(module, new InMemoryWorld(1)).ask({ id: 1, capacity: 8 });
  assert.equal([...reply!.bytes], [0, 0, 0, 0, 0, 0, 0, 0]);
});

test.run();
