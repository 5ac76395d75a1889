// The entry points of a device module: what the runtime calls.

import { attention as awaited } from "./attention";
import { Chain } from "./chain";
import { configSize, keepConfig, publishConfig, refuseConfig } from "./config";
import { resetConfig, writeConfig } from "./config";
import { describe as descriptionOf } from "./describe";
import { device } from "./device";
import { setOption } from "./option";

const chain = new Chain();

/** Sets aside `bytes` bytes that no allocation of the device ever touches; traps without room. */
export function reserve(bytes: u32): usize {
  return heap.alloc(bytes);
}

/** The user set the `index`-th option. */
export function set(index: u32, number: u64, text: usize, textBytes: u32): void {
  setOption(index, number, text, textBytes);
}

export function start(): void {
  device().start();
  publishConfig();
}

export function activate(features: u64): void {
  device().activate(features);
  publishConfig();
}

export function reset(): void {
  resetConfig();
  device().reset();
  publishConfig();
}

/** The driver wrote `value`, of `bytes` bytes, to the config space at `offset`. */
export function configure(offset: u32, bytes: u32, value: u32): void {
  if (configSize == 0) return;
  const before = writeConfig(offset, bytes, value);
  if (device().configure(offset, bytes)) keepConfig(offset, bytes, before);
  else refuseConfig(offset, bytes, before);
  publishConfig();
}

/** What the device waited for has come, or the time that it asked for. */
export function wake(): void {
  device().wake();
  publishConfig();
}

/** Where the runtime looks what the device waits for (wit/events.wit has the layout). */
export function attention(): usize {
  return changetype<usize>(awaited);
}

/** Result of serve(): the request waits. */
const WAITS: u32 = 0xffffffff;

/**
 * Answers one request; returns how many bytes of the writable window hold the reply, or WAITS.
 */
export function serve(
  queue: u32,
  readable: usize,
  readableBytes: u32,
  writable: usize,
  writableBytes: u32,
): u32 {
  chain.open(readable, readableBytes, writable, writableBytes);
  device().serve(queue, chain);
  publishConfig();
  return chain.waits ? WAITS : writableBytes - chain.writable;
}

export function describe(): usize {
  return descriptionOf(device());
}
