// A register file with a driver in front of it, and a backend that notes what it is told.

import * as assert from "uvu/assert";
import { MockQueue } from "../../host/testing/mock-queue.js";
import * as mmio from "../../host/virtio/mmio.js";
import { Bench, RecordingBackend } from "./rig.js";

export function bench(options = {}) {
  const made = new Bench(options);
  const backend = new RecordingBackend();
  made.registers.backend = backend;
  return Object.assign(made, { backend });
}

/** A bench whose driver has come as far as FEATURES_OK. */
export function negotiated(options = {}) {
  const made = bench(options);
  assert.ok(made.driver.negotiate());
  return made;
}

/** A queue of ours that the driver has described, but not enabled. */
export function described(made: Bench, options: { index?: number; size?: number } = {}) {
  const { index = 0, size = 64 } = options;
  const queue = new MockQueue(made.ram, { index, size });
  made.driver.describeQueue(queue);
  return queue;
}

export function enable(made: Bench): void {
  made.driver.write(mmio.VIRTIO_MMIO_QUEUE_READY, 1);
}

export function isReady(made: Bench): boolean {
  return made.driver.read(mmio.VIRTIO_MMIO_QUEUE_READY) === 1;
}
