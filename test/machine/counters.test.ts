// What the counters of a device say, and that they say it from another thread's memory.

import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  CounterWriter,
  createCounters,
  LATENCY_BUCKETS,
  readCounters,
} from "../../host/machine/counters.js";
import { bucketEndUs, histogramSince, percentileUs } from "../../host/machine/latency.js";
import { whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";
import { config, Run, rng } from "../support/vm.js";
import { pair } from "../virtio/queue-bench.js";

/** A clock that the test sets, and how often it was read. */
class Clock {
  ms = 1;
  reads = 0;
  readonly now = () => {
    this.reads += 1;
    return this.ms;
  };
}

/** Indices and counts of the buckets that are not empty. */
function filled(latency: readonly number[]): [number, number][] {
  return [...latency.entries()].filter(([, count]) => count > 0);
}

test("a batch of chains costs two readings of the clock, and each is counted", () => {
  const clock = new Clock();
  const buffer = createCounters(2);
  const meter = new CounterWriter(buffer, 1, clock.now);
  const { queue, driver, bench } = pair({ meter });
  for (let i = 0; i < 3; i += 1) driver.add({ readable: [new Uint8Array(100)], writable: [512] });
  const slots = [queue.pop(), queue.pop(), queue.pop()];
  queue.pop();
  clock.ms += 0.1;
  for (const slot of slots) {
    queue.chains.markSent();
    queue.push(slot, 7);
  }
  queue.publish();
  assert.is(clock.reads, 2);
  const { requests, bytesToDevice, bytesFromDevice, latency } = readCounters(buffer, 1);
  assert.equal([requests, bytesToDevice, bytesFromDevice], [3, 300, 21]);
  assert.equal(filled(latency), [[7, 3]], "100 µs are from 64 to 128");
  assert.is(readCounters(buffer, 0).requests, 0);
  bench.close();
});

test("the latency of a chain counts from when it was found, not from the next batch", () => {
  const clock = new Clock();
  const buffer = createCounters(1);
  const { queue, driver, bench } = pair({ meter: new CounterWriter(buffer, 0, clock.now) });
  driver.add({ writable: [8] });
  const first = queue.pop();
  clock.ms += 1000;
  driver.add({ writable: [8] });
  const second = queue.pop();
  queue.chains.markSent();
  queue.chains.markSent();
  clock.ms += 0.003;
  queue.push(first, 8);
  queue.push(second, 8);
  queue.publish();
  assert.equal(filled(readCounters(buffer, 0).latency), [
    [2, 1],
    [20, 1],
  ]);
  bench.close();
});

test("a latency beyond the last bucket is in it, and one of nothing in the first", () => {
  const buffer = createCounters(1);
  const writer = new CounterWriter(buffer, 0);
  writer.answered(0, 0, 0);
  writer.answered(0, 0, 1e15);
  assert.equal(filled(readCounters(buffer, 0).latency), [
    [0, 1],
    [LATENCY_BUCKETS - 1, 1],
  ]);
});

test("messages of a device are counted across its restarts", () => {
  const buffer = createCounters(1);
  const writer = new CounterWriter(buffer, 0);
  writer.started();
  writer.messages(5, 3);
  writer.started();
  writer.messages(0, 0);
  writer.messages(2, 1);
  const { restarts, messagesToDevice, messagesFromDevice } = readCounters(buffer, 0);
  assert.equal([restarts, messagesToDevice, messagesFromDevice], [1, 7, 4]);
});

test("percentileUs() is within the bucket that the request is in", () => {
  const buckets = new Array(LATENCY_BUCKETS).fill(0);
  assert.is(percentileUs(buckets, 0.5), undefined);
  buckets[5] = 99;
  buckets[10] = 1;
  const p50 = percentileUs(buckets, 0.5)!;
  assert.ok(p50 >= 16 && p50 < 32, `${p50}`);
  assert.is(percentileUs(buckets, 0.99), bucketEndUs(5));
  const p999 = percentileUs(buckets, 0.999)!;
  assert.ok(p999 > 512 && p999 <= 1024, `${p999}`);
  const since = histogramSince(buckets, new Array(LATENCY_BUCKETS).fill(0).fill(90, 5, 6));
  assert.equal(filled(since), [
    [5, 9],
    [10, 1],
  ]);
});

test("the counters of a VM say what its guest did", async () => {
  const reason = whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const devices = [rng("rng0"), rng("rng1")];
  const run = await Run.create(config("bytes=65536 request=4096", { devices }));
  await run.vm.run();
  for (const counters of run.vm.counters()) {
    const { requests, bytesFromDevice, kicks, restarts, latency } = counters;
    assert.ok(requests >= 16, `${requests} requests`);
    assert.ok(bytesFromDevice >= 65536, `${bytesFromDevice} bytes`);
    assert.ok(kicks > 0 && counters.messagesToDevice >= kicks / 2, JSON.stringify(counters));
    assert.is(restarts, 0);
    assert.is(
      latency.reduce((sum, each) => sum + each),
      requests,
    );
    assert.ok(counters.latencySumUs > 0);
  }
});

test.run();
