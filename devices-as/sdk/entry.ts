// The entry points of a device module: what the runtime calls.

import { Chain } from "./chain";
import { describe as descriptionOf } from "./describe";
import { device } from "./device";

const chain = new Chain();

/** Sets aside `bytes` bytes that no allocation of the device ever touches; traps without room. */
export function reserve(bytes: u32): usize {
  return heap.alloc(bytes);
}

export function activate(features: u64): void {
  device().activate(features);
}

export function reset(): void {
  device().reset();
}

/** Answers one request; returns how many bytes of the writable window hold the reply. */
export function serve(
  queue: u32,
  readable: usize,
  readableBytes: u32,
  writable: usize,
  writableBytes: u32,
): u32 {
  chain.open(readable, readableBytes, writable, writableBytes);
  device().serve(queue, chain);
  return writableBytes - chain.writable;
}

export function describe(): usize {
  return descriptionOf(device());
}
