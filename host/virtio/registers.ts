// The register file of a modern virtio device and its status state machine (virtio v1.2 §2.1,
// §3.1), as fields: which offset a field has is the transport's affair. All of it belongs to one
// thread, except InterruptStatus, which vCPU threads read and acknowledge by themselves.
//
// A driver that breaks a rule gets DEVICE_NEEDS_RESET and a line "driver bug: …" in the log.

import { VmmError } from "../errors.js";
import { LineLog } from "../wire/line-log.js";
import type { Backend, RegisterFileOptions } from "./backend.js";
import { ConfigSpace } from "./config-space.js";
import type { ConfigWrite } from "./config-writes.js";
import type { GuestMemory } from "./memory.js";
import { NO_METER } from "./meter.js";
import { type Half, QueueAddresses, type QueuePart, ringsFault } from "./rings.js";
import { isQueueSize, Queue } from "./virtqueue.js";

/** Bits of the device status (virtio v1.2 §2.1). */
export const ACKNOWLEDGE = 1;
export const DRIVER = 2;
export const DRIVER_OK = 4;
export const FEATURES_OK = 8;
export const DEVICE_NEEDS_RESET = 64;
export const FAILED = 128;

/** Feature bits of the transport (virtio v1.2 §6). */
export const VIRTIO_RING_F_INDIRECT_DESC = 28n;
export const VIRTIO_RING_F_EVENT_IDX = 29n;
export const VIRTIO_F_VERSION_1 = 32n;

/** In place of a queue: the interrupt is about the device's configuration. */
export const CONFIG_CHANGE = -1;

/** Bits of InterruptStatus (virtio v1.2 §4.2.2), which are those of ISR status (§4.1.4.5). */
export const INT_VRING = 1;
export const INT_CONFIG = 2;

const bit = (number: bigint): bigint => 1n << number;
const TRANSPORT_FEATURES =
  bit(VIRTIO_RING_F_INDIRECT_DESC) | bit(VIRTIO_RING_F_EVENT_IDX) | bit(VIRTIO_F_VERSION_1);
/** Bits 0 to 23 and 50 to 63 are the device's, those between of queues and transport (§2.2). */
const DEVICE_FEATURES = 0xff_ffffn | (0x3fffn << 50n);

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

export class RegisterFile {
  readonly id: string;
  readonly virtioId: number;
  readonly queues: readonly Queue[];
  readonly config: ConfigSpace;
  backend: Backend | undefined;

  /** Which 32 bits DeviceFeatures and DriverFeatures are about; from 2 on there are none. */
  deviceFeaturesSelect = 0;
  driverFeaturesSelect = 0;
  /** Which queue the queue fields are about; any number is legal, to find out which exist. */
  queueSelect = 0;

  readonly #memory: GuestMemory;
  /** What the manifest allows, and what of it the device that is there offers. */
  readonly #possible: bigint;
  #offered: bigint;
  readonly #interruptStatus: Int32Array;
  readonly #interruptIndex: number;
  readonly #interrupt: (queue: number) => void;
  readonly #log: LineLog;
  #addresses: QueueAddresses[] = [];
  #status = 0;
  #accepted = 0n;
  #acceptedBeyond = false;
  /** Why no driver will ever get an answer again, or "". */
  #abandoned = "";

  constructor(memory: GuestMemory, options: RegisterFileOptions) {
    const { id, virtioId, queueSizesMax, features, configBytes } = options;
    if ((features & ~DEVICE_FEATURES) !== 0n) {
      const foreign = `${hex(features & ~DEVICE_FEATURES)} are not the device's own`;
      throw new VmmError("ERR_MODULE", `Cannot offer the features of ${id}: ${foreign}`);
    }
    this.id = id;
    this.virtioId = virtioId;
    this.config = new ConfigSpace(configBytes);
    this.#memory = memory;
    this.#possible = features | TRANSPORT_FEATURES;
    this.#offered = this.#possible;
    this.#interruptStatus = options.interruptStatus;
    this.#interruptIndex = options.interruptIndex;
    this.#interrupt = (queue) => options.interrupt(queue);
    this.#log = new LineLog((line) => options.log(line));
    const { meter = NO_METER } = options;
    this.queues = queueSizesMax.map(
      (sizeMax, index) => new Queue(memory, { index, sizeMax, meter }),
    );
    this.#addresses = this.queues.map(() => new QueueAddresses());
  }

  // Features (virtio v1.2 §2.2)

  /**
   * The device does not offer these of its own features. Returns "", or what is wrong with that: a
   * device that is started again must go on with what a driver accepted of the one before.
   */
  withhold(features: bigint): string {
    const lost = this.#accepted & features & DEVICE_FEATURES;
    if ((this.#status & FEATURES_OK) !== 0 && lost !== 0n) {
      return `READY that withholds features ${hex(lost)}, which the driver accepted`;
    }
    this.#offered = this.#possible & ~(features & DEVICE_FEATURES);
    return "";
  }

  get deviceFeatures(): number {
    if (this.deviceFeaturesSelect > 1) return 0;
    return Number((this.#offered >> BigInt(32 * this.deviceFeaturesSelect)) & 0xffff_ffffn);
  }

  get driverFeatures(): number {
    if (this.driverFeaturesSelect > 1) return 0;
    return Number((this.#accepted >> BigInt(32 * this.driverFeaturesSelect)) & 0xffff_ffffn);
  }

  set driverFeatures(value: number) {
    if ((this.#status & FEATURES_OK) !== 0) {
      this.driverBug("features written after FEATURES_OK (virtio v1.2 §3.1.1)");
    } else if (this.driverFeaturesSelect > 1) this.#acceptedBeyond ||= value !== 0;
    else {
      const shift = BigInt(32 * this.driverFeaturesSelect);
      const kept = this.#accepted & ~(0xffff_ffffn << shift);
      this.#accepted = kept | (BigInt(value) << shift);
    }
  }

  /** Why the driver may not set FEATURES_OK, or "". */
  #featuresFault(): string {
    const unoffered = this.#accepted & ~this.#offered;
    if ((this.#status & (ACKNOWLEDGE | DRIVER)) !== (ACKNOWLEDGE | DRIVER)) {
      return "FEATURES_OK before ACKNOWLEDGE and DRIVER";
    }
    if (unoffered !== 0n) return `accepted features ${hex(unoffered)}, which were not offered`;
    if (this.#acceptedBeyond) return "accepted features above bit 63, which were not offered";
    if ((this.#accepted & bit(VIRTIO_F_VERSION_1)) === 0n) return "VIRTIO_F_VERSION_1 not accepted";
    return "";
  }

  /** What the driver accepted so far. */
  get accepted(): bigint {
    return this.#accepted;
  }

  #has(feature: bigint): boolean {
    return (this.#accepted & bit(feature)) !== 0n;
  }

  // Status (virtio v1.2 §2.1)

  get status(): number {
    return this.#status;
  }

  set status(value: number) {
    if (value === 0) this.#reset();
    else this.#progress(value);
  }

  #progress(value: number): void {
    const settable = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;
    const cleared = this.#status & settable & ~value;
    if (cleared !== 0) this.driverBug(`status bits ${hex(cleared)} cleared without reset`);
    const added = value & settable & ~this.#status;
    this.#status |= added & ~(FEATURES_OK | DRIVER_OK);
    if ((added & FEATURES_OK) !== 0) this.#setFeaturesOk();
    if ((added & DRIVER_OK) !== 0) this.#setDriverOk();
  }

  /** The driver reads the status back to see whether its features were taken. */
  #setFeaturesOk(): void {
    const fault = this.#featuresFault();
    if (fault === "") this.#status |= FEATURES_OK;
    else this.#log.line(`${this.id}: driver bug: ${fault} (virtio v1.2 §3.1.1)`);
  }

  #setDriverOk(): void {
    if ((this.#status & FEATURES_OK) === 0) {
      this.driverBug("DRIVER_OK without FEATURES_OK");
      return;
    }
    this.#status |= DRIVER_OK;
    if (this.#abandoned !== "") this.fail(this.#abandoned);
    if (this.running) this.backend?.activate(this.#accepted & this.#offered & DEVICE_FEATURES);
  }

  /** Whether requests are taken and answered. */
  get running(): boolean {
    return (this.#status & (DRIVER_OK | DEVICE_NEEDS_RESET | FAILED)) === DRIVER_OK;
  }

  /** Whether the driver must reset the device before anything goes on. */
  get needsReset(): boolean {
    return (this.#status & DEVICE_NEEDS_RESET) !== 0;
  }

  #reset(): void {
    for (const queue of this.queues) queue.reset();
    this.#addresses = this.queues.map(() => new QueueAddresses());
    this.deviceFeaturesSelect = 0;
    this.driverFeaturesSelect = 0;
    this.queueSelect = 0;
    this.#accepted = 0n;
    this.#acceptedBeyond = false;
    this.#status = 0;
    Atomics.store(this.#interruptStatus, this.#interruptIndex, 0);
    this.backend?.reset();
  }

  /** Stops the device until the driver resets it, and tells the driver and the log why. */
  fail(reason: string): void {
    this.#log.line(`${this.id}: ${reason}`);
    if (this.needsReset) return;
    this.#status |= DEVICE_NEEDS_RESET;
    // "If DRIVER_OK is set, after it sets DEVICE_NEEDS_RESET, the device MUST send a device
    // configuration change notification to the driver" (virtio v1.2 §2.1.2).
    if ((this.#status & DRIVER_OK) !== 0) this.#raise(INT_CONFIG, CONFIG_CHANGE);
  }

  /**
   * Fails now, and again whenever a driver comes back: there is nobody behind the registers any
   * more.
   */
  abandon(reason: string): void {
    this.#abandoned = reason;
    this.fail(reason);
  }

  /** The driver broke a rule: nothing more happens until it resets the device. */
  driverBug(text: string): void {
    this.fail(`driver bug: ${text}`);
  }

  // Interrupts (virtio v1.2 §4.2.2)

  get interruptStatus(): number {
    return Atomics.load(this.#interruptStatus, this.#interruptIndex);
  }

  set interruptAck(value: number) {
    Atomics.and(this.#interruptStatus, this.#interruptIndex, ~value);
  }

  #raise(event: number, queue: number): void {
    Atomics.or(this.#interruptStatus, this.#interruptIndex, event);
    this.#interrupt(queue);
  }

  /** Used buffer notification: the driver wants to know what Queue.publish() showed. */
  notifyUsed({ index }: Queue): void {
    this.#raise(INT_VRING, index);
  }

  // Queues (virtio v1.2 §4.2.2, §4.1.4.3)

  get queueSizeMax(): number {
    return this.queues[this.queueSelect]?.sizeMax ?? 0;
  }

  get queueSize(): number {
    return this.queues[this.queueSelect]?.size ?? 0;
  }

  set queueSize(value: number) {
    const queue = this.#configurable("queue_size");
    if (queue === undefined) return;
    if (isQueueSize(value, queue.sizeMax)) queue.size = value;
    else
      this.driverBug(
        `queue ${queue.index}: size ${value}, not a power of two up to ${queue.sizeMax}`,
      );
  }

  get queueReady(): number {
    return this.queues[this.queueSelect]?.ready === true ? 1 : 0;
  }

  set queueReady(value: number) {
    const queue = this.queues[this.queueSelect];
    if (queue === undefined)
      this.driverBug(`queue_ready of queue ${this.queueSelect}, which is not there`);
    else if (value === 0) this.#stop(queue);
    else if (value !== 1) this.driverBug(`queue ${queue.index}: queue_ready ${value}`);
    else if (!queue.ready) this.#start(queue);
  }

  /** The queue selected, when the driver may change it. */
  #configurable(field: string): Queue | undefined {
    const queue = this.queues[this.queueSelect];
    if (queue === undefined)
      this.driverBug(`${field} of queue ${this.queueSelect}, which is not there`);
    else if (!queue.ready) return queue;
    else
      this.driverBug(
        `queue ${queue.index}: ${field} written while queue_ready (virtio v1.2 §4.2.2.2)`,
      );
    return undefined;
  }

  #start(queue: Queue): void {
    const addresses = this.#addresses[queue.index]!;
    queue.desc = addresses.desc.value;
    queue.driver = addresses.driver.value;
    queue.device = addresses.device.value;
    const fault = this.#startFault(queue);
    if (fault !== "") {
      this.driverBug(`queue ${queue.index}: ${fault}`);
      return;
    }
    queue.enable({
      indirect: this.#has(VIRTIO_RING_F_INDIRECT_DESC),
      eventIdx: this.#has(VIRTIO_RING_F_EVENT_IDX),
    });
    this.notify(queue.index);
  }

  #startFault(queue: Queue): string {
    if ((this.#status & FEATURES_OK) === 0)
      return "queue_ready before FEATURES_OK (virtio v1.2 §3.1.1)";
    const others = this.queues.filter((other) => other.ready);
    return ringsFault(queue, { memory: this.#memory, others });
  }

  /** A device cannot be told to drop the requests of one queue, so there must be none. */
  #stop(queue: Queue): void {
    const { count } = queue.chains;
    if (queue.ready && count > 0)
      this.driverBug(`queue ${queue.index}: stopped with ${count} in flight`);
    queue.disable();
  }

  /** Address of a part of the selected queue; it counts from the moment of queue_ready. */
  setQueueAddress(part: QueuePart, write: { half: Half; value: number }): void {
    const queue = this.#configurable(`address of ${part}`);
    if (queue !== undefined) this.#addresses[queue.index]![part][write.half] = write.value;
  }

  /** What the driver wrote there, to be read back. */
  queueAddress(part: QueuePart, half: Half): number {
    return this.#addresses[this.queueSelect]?.[part][half] ?? 0;
  }

  /**
   * Available buffer notification. Spurious ones are legal, and one may have been on its way when
   * the driver reset the device, so there is nothing to punish.
   */
  notify(index: number): void {
    const queue = this.queues[index];
    if (queue === undefined) {
      this.#log.once(
        "notify",
        `${this.id}: driver bug: notify of queue ${index}, which is not there`,
      );
    } else if (this.running && queue.ready) this.backend?.kick(queue);
  }

  // Device configuration space (virtio v1.2 §2.5)

  /** Replaces the configuration space, and tells a running driver so if anything changed. */
  updateConfig(space: Uint8Array): void {
    if (this.config.replace(space) && this.running) this.#raise(INT_CONFIG, CONFIG_CHANGE);
  }

  /**
   * Whether the driver may read the space now. Where nobody is left to answer what it wrote, it
   * must not wait for that.
   */
  get configSettled(): boolean {
    if (this.needsReset || this.#abandoned !== "") return true;
    return this.backend?.configSettled ?? true;
  }

  writeConfig(write: ConfigWrite): void {
    const { offset, bytes } = write;
    if (!this.config.isWritable(offset, bytes)) {
      const where = `${bytes} bytes at ${offset} of a config space of ${this.config.bytes}`;
      this.#log.once("config", `${this.id}: driver bug: wrote ${where}, ignored`);
    } else if (!this.needsReset) this.backend?.configure(write);
  }

  /** For the transport: an access that has no effect, said once for each kind. */
  ignored(kind: string, detail: string): void {
    this.#log.once(kind, `${this.id}: driver bug: ${kind} ${detail}, ignored`);
  }
}
