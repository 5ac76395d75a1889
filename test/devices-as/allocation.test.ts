// No device allocates once it is at work: nobody would free it. Looked for in the compiled modules:
// what the entry points of requests and events can reach never moves the end of the heap.

import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileDevice } from "../../host/author/device.js";

const DEVICES = new URL("../../../devices-as/", import.meta.url);

/** Exports that a driver's doing calls; the others run before it is there. */
const AT_WORK = ["activate", "configure", "reset", "serve", "wake"];

/** What the allocator of the stub runtime does, whatever asks it. */
const MOVES_HEAP_END = "global.set $~lib/rt/stub/offset";

interface Module {
  /** Bodies by name, in text format. */
  functions: Map<string, string>;
  /** Names of the functions behind the exports AT_WORK, and of all that a table holds. */
  roots: string[];
}

function parse(text: string): Module {
  const bodies = text.split(/^ \(func /m).slice(1);
  const functions = new Map(bodies.map((body) => [body.slice(0, body.search(/[ )\n]/)), body]));
  const exported = [...text.matchAll(/^ \(export "(\w+)" \(func ([^)]+)\)\)/gm)];
  const roots = exported.filter(([, name]) => AT_WORK.includes(name!)).map(([, , of]) => of!);
  const elements = [...text.matchAll(/^ \(elem .*$/gm)].flatMap(
    ([line]) => line.match(/\$\S+/g) ?? [],
  );
  const inTable = elements.map((name) => name.replace(/\)+$/, ""));
  return { functions, roots: [...roots, ...inTable.filter((name) => functions.has(name))] };
}

/** Functions that can be called, directly or not, from `roots`. */
function reachable({ functions, roots }: Module): Set<string> {
  const found = new Set<string>();
  const left = [...roots];
  for (let name = left.pop(); name !== undefined; name = left.pop()) {
    if (found.has(name)) continue;
    found.add(name);
    const calls = functions.get(name)?.matchAll(/\bcall (\$\S+?)\)*$/gm) ?? [];
    for (const [, callee] of calls) left.push(callee!);
  }
  return found;
}

function allocators(module: Module): string[] {
  const all = [...module.functions].filter(([, body]) => body.includes(MOVES_HEAP_END));
  return all.map(([name]) => name);
}

const examples = fs.readdirSync(new URL("examples/", DEVICES)).map((name) => `examples/${name}`);
for (const file of [
  "blk.ts",
  "console.ts",
  "rng.ts",
  ...examples.filter((name) => name.endsWith(".ts")),
]) {
  test(`${file} allocates nothing at work`, async () => {
    const { text } = await compileDevice(new URL(file, DEVICES).pathname);
    const module = parse(text);
    assert.is(module.roots.length >= AT_WORK.length, true, "entry points are missing");
    assert.ok(allocators(module).length > 0, "no allocator: this test looks in vain");
    const can = reachable(module);
    assert.equal(
      allocators(module).filter((name) => can.has(name)),
      [],
    );
  });
}

test("a device that allocates at work is found", async () => {
  const source = `
    import { Chain, Device, register } from "bulkhead/sdk";
    let kept: StaticArray<u8> = [];
    class Test extends Device {
      constructor() { super(42, [8]); }
      serve(queue: u32, chain: Chain): void { kept = new StaticArray<u8>(<i32>chain.readable); }
    }
    register(new Test());`;
  const module = parse((await compileDevice("/nowhere/test.ts", { source })).text);
  const can = reachable(module);
  assert.ok(allocators(module).some((name) => can.has(name)));
});

test.run();
