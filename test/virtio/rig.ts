// Everything between a driver and a device on a bench: RAM, registers, link, socket, both ends
// played by the test.

import { strict as assert } from "node:assert";
import { close } from "../../host/ffi/libc.js";
import { MockDriver, type NegotiateOptions } from "../../host/testing/mock-driver.js";
import { MockRam } from "../../host/testing/mock-ram.js";
import type { Backend } from "../../host/virtio/backend.js";
import type { ConfigWrite } from "../../host/virtio/config-writes.js";
import { DeviceLink } from "../../host/virtio/link.js";
import type { Meter } from "../../host/virtio/meter.js";
import { MmioTransport } from "../../host/virtio/mmio.js";
import { RegisterFile } from "../../host/virtio/registers.js";
import { SocketChannel } from "../../host/wire/channel.js";
import { ACTIVATE } from "../../host/wire/format.js";
import { seqpacketPair, TestDevice } from "./test-device.js";

export interface BenchOptions {
  queueSizesMax?: readonly number[];
  features?: bigint;
  configBytes?: number;
  ram?: MockRam;
  /** See DeviceLinkOptions. */
  generation?: number;
  now?: () => number;
  meter?: Meter;
}

/** A device's registers with a driver in front of them, and nothing behind. */
export class Bench {
  readonly ram: MockRam;
  readonly registers: RegisterFile;
  readonly driver: MockDriver;
  readonly log: string[] = [];
  readonly interruptStatus = new Int32Array(new SharedArrayBuffer(8));
  /** Times that the interrupt line was raised. */
  interrupts = 0;

  constructor(options: BenchOptions = {}) {
    const { queueSizesMax = [64], features = 0n, configBytes = 0 } = options;
    const { ram = new MockRam() } = options;
    this.ram = ram;
    this.registers = new RegisterFile(ram.memory, {
      id: "test0",
      virtioId: 4,
      queueSizesMax,
      features,
      configBytes,
      interruptStatus: this.interruptStatus,
      interruptIndex: 1,
      interrupt: () => {
        this.interrupts += 1;
      },
      log: (line) => this.log.push(line),
      ...(options.meter === undefined ? {} : { meter: options.meter }),
    });
    this.driver = new MockDriver(ram, new MmioTransport(this.registers));
  }

  /** Fails unless the driver was told to reset the device, and the log says why. */
  expectFault(why: RegExp): void {
    assert.ok(this.driver.needsReset, `no DEVICE_NEEDS_RESET; log: ${this.log.join(" | ")}`);
    assert.match(this.log.at(-1) ?? "", why);
  }

  close(): void {
    this.ram.close();
  }
}

/** What a register file told its backend. */
export class RecordingBackend implements Backend {
  readonly calls: string[] = [];

  activate(features: bigint): void {
    this.calls.push(`activate 0x${features.toString(16)}`);
  }

  reset(): void {
    this.calls.push("reset");
  }

  kick(queue: { index: number }): void {
    this.calls.push(`kick ${queue.index}`);
  }

  configSettled = true;

  configure({ offset, bytes, value }: ConfigWrite): void {
    this.calls.push(`configure ${offset} ${bytes} 0x${value.toString(16)}`);
  }
}

/** A bench with a link and a device process at the other end of a socket. */
export class Rig extends Bench {
  readonly link: DeviceLink;
  readonly reports: object[] = [];
  readonly broken: string[] = [];
  closed = 0;
  /** Whether a report is found good as soon as it comes. */
  approves = true;
  device!: TestDevice;
  #channel: SocketChannel | undefined;

  constructor(options: BenchOptions = {}) {
    super(options);
    this.link = new DeviceLink(this.registers, {
      log: (line) => this.log.push(line),
      ready: (report) => {
        this.reports.push(report);
        if (this.approves) this.link.approve();
      },
      closed: () => {
        this.closed += 1;
      },
      broken: (reason) => this.broken.push(reason),
      generation: options.generation ?? 0,
      now: options.now ?? (() => performance.now()),
    });
    this.plug();
  }

  /** Attaches a fresh device process, which has said nothing yet. */
  plug(): void {
    this.unplug();
    const [ours, theirs] = seqpacketPair();
    this.#channel = new SocketChannel(ours);
    this.device = new TestDevice(theirs);
    this.link.attach(this.#channel);
  }

  /** Ends our end of the socket. */
  unplug(): void {
    if (this.#channel === undefined) return;
    this.link.detach();
    close(this.#channel.fd);
    this.#channel.close();
    this.#channel = undefined;
  }

  /** Lets the link take everything that the device sent. */
  settle(): void {
    while (this.link.onReadable()) {}
  }

  /** The device says that it is ready, and before, if it has a config space, that all is zero. */
  greet(): void {
    const { bytes } = this.registers.config;
    if (bytes > 0) this.device.config(new Uint8Array(bytes));
    this.device.ready();
    this.settle();
  }

  /** A device that is ready, and a driver that has started it. */
  start(options: NegotiateOptions = {}): this {
    this.greet();
    this.driver.start(options);
    this.device.expect(ACTIVATE);
    return this;
  }

  /** Fails unless the device was found out, and the driver told. */
  expectBroken(why: RegExp): void {
    this.settle();
    assert.match(this.broken.join(), why);
    this.expectFault(why);
    assert.equal(this.broken.length, 1);
  }

  override close(): void {
    this.unplug();
    this.device.close();
    super.close();
  }
}

/** Bytes that differ from their neighbours, and from those of another seed. */
export function bytes(count: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length: count }, (_, i) => (i * 7 + seed) % 256);
}

/** A rig with a queue that is served. */
export function running(options: BenchOptions = {}) {
  const rig = new Rig(options).start();
  return { rig, driver: rig.driver, device: rig.device, queue: rig.driver.queues[0]! };
}
