import { test } from "uvu";
import * as assert from "uvu/assert";
import { Chains, NONE, SEGMENTS_IN_FLIGHT_MAX } from "../../host/virtio/chains.js";

/** Chains with one writable segment each, committed in this order. */
function committed(count: number) {
  const chains = new Chains(8);
  const slots = Array.from({ length: count }, (_, head) => {
    const slot = chains.open(head);
    chains.addWritable(slot, chains.segment(0x1000 * head, 16));
    chains.commit(slot);
    return slot;
  });
  return { chains, slots };
}

function unsentOf(chains: Chains): number[] {
  const list: number[] = [];
  for (let slot = chains.unsent; slot !== NONE; slot = chains.newerThan(slot)) list.push(slot);
  return list;
}

test("Chains.rewind() makes everything unsent again, oldest first, and nothing answerable", () => {
  const { chains, slots } = committed(4);
  for (let i = 0; i < 4; i += 1) chains.markSent();
  chains.receivedBytes[slots[3]!] = 5;
  chains.close(slots[1]!);
  assert.equal(unsentOf(chains), []);
  assert.ok(chains.answerable(slots[3]!));
  chains.rewind();
  assert.equal(unsentOf(chains), [slots[0], slots[2], slots[3]]);
  assert.is(chains.receivedBytes[slots[3]!], 0);
  for (const slot of slots) assert.not(chains.answerable(slot));
});

test("Chains.answerable() is false for what was not sent, closed, or never was a slot", () => {
  const { chains, slots } = committed(2);
  assert.not(chains.answerable(slots[0]!));
  chains.markSent();
  assert.ok(chains.answerable(slots[0]!));
  assert.not(chains.answerable(slots[1]!));
  chains.close(slots[0]!);
  assert.not(chains.answerable(slots[0]!));
  for (const id of [8, 1000, 0xffff_ffff]) assert.not(chains.answerable(id));
});

test("Chains.close() asserts that the chain was sent", () => {
  const { chains, slots } = committed(1);
  assert.throws(() => chains.close(slots[0]!), /before it was sent/);
});

test("Chains gives every segment back, whether a chain is closed or discarded", () => {
  const chains = new Chains(2);
  for (let round = 0; round < 10; round += 1) {
    const slot = chains.open(0);
    for (let i = 0; i < SEGMENTS_IN_FLIGHT_MAX; i += 1) {
      chains.addReadable(slot, chains.segment(i, 1));
    }
    assert.is(chains.segment(0, 1), NONE);
    if (round % 2 === 0) {
      chains.discard(slot);
      continue;
    }
    chains.commit(slot);
    chains.markSent();
    chains.close(slot);
  }
});

test("Chains.next() goes over segments from any offset, and no further than the limit", () => {
  const chains = new Chains(1);
  const slot = chains.open(0);
  chains.addReadable(slot, chains.segment(100, 10));
  chains.addReadable(slot, chains.segment(200, 20));
  chains.addWritable(slot, chains.segment(300, 30));
  const pieces = (offset: number, limit: number) => {
    const list: [number, number][] = [];
    chains.seekReadable(slot, offset);
    for (let left = limit; left > 0; ) {
      const bytes = chains.next(left);
      list.push([chains.pieceHva, bytes]);
      left -= bytes;
    }
    return list;
  };
  assert.equal(pieces(0, 10), [[100, 10]]);
  assert.equal(pieces(9, 3), [
    [109, 1],
    [200, 2],
  ]);
  assert.equal(pieces(10, 20), [[200, 20]]);
  chains.seekWritable(slot, 29);
  assert.is(chains.next(5), 1);
  assert.is(chains.pieceHva, 329);
});

test.run();
