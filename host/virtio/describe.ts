// What a device's registers and queues are in the middle of, as text for a person.

import {
  ACKNOWLEDGE,
  DEVICE_NEEDS_RESET,
  DRIVER,
  DRIVER_OK,
  FAILED,
  FEATURES_OK,
  type RegisterFile,
} from "./registers.js";
import type { Queue } from "./virtqueue.js";

/** Bits of the device status in the order in which a driver sets them (virtio v1.2 §2.1). */
const STATUS_BITS: readonly (readonly [string, number])[] = [
  ["ACKNOWLEDGE", ACKNOWLEDGE],
  ["DRIVER", DRIVER],
  ["FEATURES_OK", FEATURES_OK],
  ["DRIVER_OK", DRIVER_OK],
  ["DEVICE_NEEDS_RESET", DEVICE_NEEDS_RESET],
  ["FAILED", FAILED],
];

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

function queueLine(queue: Queue): string {
  const { index, ready, size, sizeMax, chains, positions } = queue;
  if (!ready) return `queue ${index}: not set up, at most ${sizeMax}`;
  const { taken, used } = positions;
  const rings = `rings at ${hex(queue.desc)}, ${hex(queue.driver)}, ${hex(queue.device)}`;
  const counts = `taken ${taken}, used ${used}, ${chains.count} held`;
  return `queue ${index}: size ${size}, ${rings}; ${counts}`;
}

/** Lines about a device's registers and each of its queues. */
export function describeRegisters(registers: RegisterFile): string[] {
  const { status, accepted, interruptStatus } = registers;
  const set = STATUS_BITS.filter(([, bit]) => (status & bit) !== 0).map(([name]) => name);
  const names = set.length === 0 ? "no driver" : set.join(" ");
  return [
    `status ${hex(status)} (${names})`,
    `accepted features ${hex(accepted)}, interrupt status ${interruptStatus}`,
    ...registers.queues.map(queueLine),
  ];
}
