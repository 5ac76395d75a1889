// Entropy from one confined device, without a guest: see host-driver.ts.

import { fileURLToPath } from "node:url";
import { hostDriver } from "./host-driver.js";
import { median } from "./processes.js";
import { progress, ROUNDS } from "./rounds.js";
import type { Row } from "./rows.js";

const RNG = fileURLToPath(new URL("../../devices/rng.wasm", import.meta.url));
const SECONDS = 1;

export function benchRng(): Row[] {
  progress("32 chains of 4 KiB from a confined process to a driver on the host");
  const { bytesPerSecond, startMs, proof } = hostDriver(RNG, ROUNDS, SECONDS);
  const { privateBytes, privateFileBytes } = proof;
  return [
    {
      name: "4 KiB × 32 in flight",
      unit: "MB/s",
      ours: median(bytesPerSecond) / 1e6,
    },
    { name: "device process, spawn → confined", unit: "ms", ours: startMs },
    { name: "device process, private memory", unit: "MB", ours: privateBytes / 1e6 },
    {
      name: "and pages of node's text, where nobody shares them",
      unit: "MB",
      ours: privateFileBytes / 1e6,
    },
  ];
}
