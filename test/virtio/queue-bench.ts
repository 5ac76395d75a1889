// One queue that is enabled, seen from both sides.

import * as assert from "uvu/assert";
import type { Desc } from "../../host/testing/mock-queue.js";
import { FAULT } from "../../host/virtio/virtqueue.js";
import { Bench, type BenchOptions } from "./rig.js";

export interface Options extends BenchOptions {
  size?: number;
  features?: bigint;
}

/** A queue that is enabled, from both sides; `features` as the driver accepts them. */
export function pair({ size = 8, features, ...options }: Options = {}) {
  const bench = new Bench({ queueSizesMax: [size], ...options });
  const [driver] = bench.driver.start(features === undefined ? {} : { features });
  const queue = bench.registers.queues[0]!;
  assert.ok(queue.ready);
  const segments = (slot: number, part: "readable" | "writable") => {
    const list: { gpa: number; bytes: number }[] = [];
    const { chains } = queue;
    let left = part === "readable" ? chains.readableBytes[slot]! : chains.writableBytes[slot]!;
    if (left > 0 && part === "readable") chains.seekReadable(slot, 0);
    else if (left > 0) chains.seekWritable(slot, 0);
    while (left > 0) {
      const bytes = chains.next(left);
      list.push({ gpa: chains.pieceHva - bench.ram.hva(bench.ram.gpa) + bench.ram.gpa, bytes });
      left -= bytes;
    }
    return list;
  };
  return { bench, ram: bench.ram, driver: driver!, queue, segments };
}

/** Offers the chain that begins at descriptor 0 of `descs`, and pops it. */
export function popRaw(descs: Desc[], options: Options = {}) {
  const all = pair(options);
  for (const [index, desc] of descs.entries()) all.driver.writeDesc(index, desc);
  all.driver.offer(0);
  return { ...all, slot: all.queue.pop() };
}

export function expectFault(descs: Desc[], why: RegExp, options: Options = {}): void {
  const { queue, slot, bench } = popRaw(descs, options);
  assert.is(slot, FAULT);
  assert.match(queue.fault, why);
  assert.is(queue.chains.count, 0);
  bench.close();
}
