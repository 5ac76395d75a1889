// A virtio driver for tests and fuzzing: it negotiates through a transport's registers, as a guest
// does, and can be as hostile as a test likes, because registers are there to be written raw.

import { strict as assert } from "node:assert";
import * as mmio from "../virtio/mmio.js";
import * as reg from "../virtio/registers.js";
import { MockQueue, type QueueOptions } from "./mock-queue.js";
import type { MockRam } from "./mock-ram.js";

export type { MockQueue } from "./mock-queue.js";

/** Registers of a device, as the guest reaches them. */
export interface Transport {
  read(offset: number, bytes: number): number;
  write(offset: number, bytes: number, value: number): void;
}

export interface NegotiateOptions {
  /** Features to accept; by default everything that is offered. */
  features?: bigint;
  queues?: readonly QueueOptions[];
}

/** A driver of one virtio-mmio device. */
export class MockDriver {
  readonly ram: MockRam;
  readonly transport: Transport;
  queues: MockQueue[] = [];

  constructor(ram: MockRam, transport: Transport) {
    this.ram = ram;
    this.transport = transport;
  }

  read(offset: number): number {
    return this.transport.read(offset, 4);
  }

  write(offset: number, value: number): void {
    this.transport.write(offset, 4, value >>> 0);
  }

  get status(): number {
    return this.read(mmio.VIRTIO_MMIO_STATUS);
  }

  get needsReset(): boolean {
    return (this.status & reg.DEVICE_NEEDS_RESET) !== 0;
  }

  /** Sets status bits, as a driver does: on top of those that are set. */
  progress(bits: number): void {
    this.write(mmio.VIRTIO_MMIO_STATUS, this.status | bits);
  }

  readFeatures(): bigint {
    this.write(mmio.VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    const low = BigInt(this.read(mmio.VIRTIO_MMIO_DEVICE_FEATURES));
    this.write(mmio.VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    return low | (BigInt(this.read(mmio.VIRTIO_MMIO_DEVICE_FEATURES)) << 32n);
  }

  writeFeatures(features: bigint): void {
    this.write(mmio.VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    this.write(mmio.VIRTIO_MMIO_DRIVER_FEATURES, Number(features & 0xffff_ffffn));
    this.write(mmio.VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    this.write(mmio.VIRTIO_MMIO_DRIVER_FEATURES, Number(features >> 32n));
  }

  reset(): void {
    this.write(mmio.VIRTIO_MMIO_STATUS, 0);
    for (const queue of this.queues) queue.close();
    this.queues = [];
  }

  /** Up to and including FEATURES_OK (virtio v1.2 §3.1.1); false when the device refused. */
  negotiate(features = this.readFeatures()): boolean {
    this.progress(reg.ACKNOWLEDGE);
    this.progress(reg.DRIVER);
    this.writeFeatures(features);
    this.progress(reg.FEATURES_OK);
    return (this.status & reg.FEATURES_OK) !== 0;
  }

  writeAddress(low: number, address: number): void {
    this.write(low, address % 2 ** 32);
    this.write(low + 4, Math.floor(address / 2 ** 32));
  }

  /** Writes where the parts of `queue` are, without enabling it. */
  describeQueue(queue: MockQueue): void {
    this.write(mmio.VIRTIO_MMIO_QUEUE_SEL, queue.index);
    this.write(mmio.VIRTIO_MMIO_QUEUE_NUM, queue.size);
    this.writeAddress(mmio.VIRTIO_MMIO_QUEUE_DESC_LOW, queue.desc.gpa);
    this.writeAddress(mmio.VIRTIO_MMIO_QUEUE_AVAIL_LOW, queue.driver.gpa);
    this.writeAddress(mmio.VIRTIO_MMIO_QUEUE_USED_LOW, queue.device.gpa);
  }

  /** A new queue, described and enabled. */
  setupQueue(index: number, options: QueueOptions = {}): MockQueue {
    this.write(mmio.VIRTIO_MMIO_QUEUE_SEL, index);
    const sizeMax = this.read(mmio.VIRTIO_MMIO_QUEUE_NUM_MAX);
    const size = options.size ?? sizeMax;
    const queue = new MockQueue(this.ram, { ...options, index, size });
    this.describeQueue(queue);
    this.write(mmio.VIRTIO_MMIO_QUEUE_READY, 1);
    this.queues[index] = queue;
    return queue;
  }

  /** The whole way of §3.1.1 with one queue after the other; the device runs afterwards. */
  start({ features = this.readFeatures(), queues = [{}] }: NegotiateOptions = {}): MockQueue[] {
    this.reset();
    assert.ok(this.negotiate(features), "the device refused the features");
    const eventIdx = (features & (1n << reg.VIRTIO_RING_F_EVENT_IDX)) !== 0n;
    for (const [index, options] of queues.entries()) {
      this.setupQueue(index, { eventIdx, ...options });
    }
    this.progress(reg.DRIVER_OK);
    return this.queues;
  }

  /** Notifies the device of `queue`, when it wants that; true if so. */
  kick(queue: MockQueue): boolean {
    const wanted = queue.wantsKick();
    if (wanted) this.notify(queue.index);
    return wanted;
  }

  /** Notifies without asking. */
  notify(index: number): void {
    this.write(mmio.VIRTIO_MMIO_QUEUE_NOTIFY, index);
  }

  /** Reads and acknowledges what the interrupt was about (virtio v1.2 §4.2.3.4.1). */
  takeInterrupt(): number {
    const status = this.read(mmio.VIRTIO_MMIO_INTERRUPT_STATUS);
    this.write(mmio.VIRTIO_MMIO_INTERRUPT_ACK, status);
    return status;
  }
}
