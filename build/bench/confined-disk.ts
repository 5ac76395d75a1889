// A disk of Bulkhead without a guest: the confined process, its socket, the queue and the
// registers are those of a VM, and so is the I/O worker's part, which runs on the driver's thread.

import { strict as assert } from "node:assert";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createCounters } from "../../host/machine/counters.js";
import { Epoll } from "../../host/machine/epoll.js";
import { EventFd } from "../../host/machine/eventfd.js";
import { IoDevice, type IoHost } from "../../host/machine/io-device.js";
import type { IoReport } from "../../host/machine/io-worker.js";
import { Lookout } from "../../host/machine/lookout.js";
import { MEMORY } from "../../host/machine/mailbox.js";
import { Shared } from "../../host/machine/shared.js";
import { resolveGrants } from "../../host/sandbox/grants.js";
import { inspectModule, type Manifest } from "../../host/sandbox/manifest.js";
import { type DeviceProcess, spawnDevice } from "../../host/sandbox/spawn.js";
import { GuestMemory } from "../../host/virtio/memory.js";
import * as mmio from "../../host/virtio/mmio.js";
import * as reg from "../../host/virtio/registers.js";
import {
  type BenchRam,
  type DiskPath,
  QUEUE_SIZE,
  RAM_BYTES,
  RAM_GPA,
  RINGS,
} from "./disk-driver.js";

const RUNTIME = fileURLToPath(new URL("../../bundle/runtime/main.js", import.meta.url));
const BLK = fileURLToPath(new URL("../../devices/blk.wasm", import.meta.url));

export interface ConfinedDiskOptions {
  ram: BenchRam;
  /** Path of a raw image. */
  image: string;
  /** Whether the I/O worker may look before it sleeps. */
  looks: boolean;
  features: bigint;
}

/** A disk in a confined process. */
export class ConfinedDisk implements DiskPath {
  readonly pid: number;
  readonly #process: DeviceProcess;
  readonly #epoll = new Epoll();
  readonly #lookout: Lookout;
  readonly #doorbells: EventFd[];
  readonly #interrupt = EventFd.create();
  readonly #device: IoDevice;
  #isReady = false;

  constructor({ ram, image, features, looks }: ConfinedDiskOptions) {
    this.#lookout = new Lookout(this.#epoll, { looks });
    const { manifest } = inspectModule(readFileSync(BLK));
    const source = { kind: "file", what: image, rights: ["read", "write"] } as const;
    const grants = resolveGrants(manifest, { image: { ...source, rights: ["read", "write"] } });
    const plan = { id: "blk0", module: BLK, grants, seccomp: "enforce", entry: RUNTIME } as const;
    this.#process = spawnDevice(plan);
    this.pid = this.#process.pid;
    this.#doorbells = manifest.queues.map(() => EventFd.create());
    this.#device = this.#deviceOn(ram, manifest);
    const socketFd = this.#process.takeSocket();
    this.#device.attachSocket({
      ...{ type: "attach-process", device: 0, socketFd, pid: this.pid },
      seccomp: "enforce",
    });
    while (!this.#isReady) this.#lookout.wait();
    this.#device.obey("approve");
    this.#negotiate(features);
  }

  #deviceOn(ram: BenchRam, manifest: Manifest): IoDevice {
    const { address: hva, view } = ram.mapping;
    const host: IoHost = {
      epoll: this.#epoll,
      lookout: this.#lookout,
      memory: new GuestMemory([{ gpa: RAM_GPA, hva, bytes: RAM_BYTES, buffer: view.buffer }]),
      shared: Shared.create(1),
      counters: createCounters(1),
      pci: undefined,
      post: (report) => this.#told(report),
    };
    const notifyFds = this.#doorbells.map(({ fd }) => fd);
    return new IoDevice(
      0,
      { id: "blk0", manifest, notifyFds, wakeFds: [], interruptFd: this.#interrupt.fd },
      host,
    );
  }

  #told(report: IoReport): void {
    if (report.type !== "ready") throw new Error(`the device failed: ${JSON.stringify(report)}`);
    this.#isReady = true;
  }

  #write(offset: number, value: number): void {
    const access = { space: MEMORY, address: 0, bytes: 4, isWrite: true, value } as const;
    this.#device.access(this.#device.mmio!, offset, access);
  }

  #negotiate(features: bigint): void {
    const status = (bits: number) => this.#write(mmio.VIRTIO_MMIO_STATUS, bits);
    status(reg.ACKNOWLEDGE | reg.DRIVER);
    this.#write(mmio.VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    this.#write(mmio.VIRTIO_MMIO_DRIVER_FEATURES, Number(features & 0xffff_ffffn));
    this.#write(mmio.VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    this.#write(mmio.VIRTIO_MMIO_DRIVER_FEATURES, Number(features >> 32n));
    status(reg.ACKNOWLEDGE | reg.DRIVER | reg.FEATURES_OK);
    this.#write(mmio.VIRTIO_MMIO_QUEUE_SEL, 0);
    this.#write(mmio.VIRTIO_MMIO_QUEUE_NUM, QUEUE_SIZE);
    this.#write(mmio.VIRTIO_MMIO_QUEUE_DESC_LOW, RINGS.desc);
    this.#write(mmio.VIRTIO_MMIO_QUEUE_AVAIL_LOW, RINGS.driver);
    this.#write(mmio.VIRTIO_MMIO_QUEUE_USED_LOW, RINGS.device);
    this.#write(mmio.VIRTIO_MMIO_QUEUE_READY, 1);
    status(reg.ACKNOWLEDGE | reg.DRIVER | reg.FEATURES_OK | reg.DRIVER_OK);
    assert(this.#device.registers.running, "the device refused the driver");
  }

  kick(): void {
    this.#doorbells[0]!.signal();
  }

  wait(): void {
    this.#lookout.wait();
  }

  close(): void {
    this.#process.close();
    this.#device.close();
    this.#epoll.close();
    this.#interrupt.close();
    for (const doorbell of this.#doorbells) doorbell.close();
  }
}
