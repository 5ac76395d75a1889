// The other end of the guest in test/guest/console.c.

import { fileURLToPath } from "node:url";

/** The module of virtio-console. */
export const CONSOLE = fileURLToPath(new URL("../../devices/console.wasm", import.meta.url));

/** `bytes` bytes as the guest sends and expects them: pattern() of test/guest/console.c. */
export function guestPattern(bytes: number): Uint8Array {
  const all = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i++) all[i] = i * 131 + (i >> 8) * 7 + (i >> 16);
  return all;
}
