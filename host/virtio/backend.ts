// What a register file is made of, and what it tells of itself.

import type { ConfigWrite } from "./config-writes.js";
import type { Meter } from "./meter.js";
import type { Queue } from "./virtqueue.js";

/** What is behind the registers: a DeviceLink. */
export interface Backend {
  /** DRIVER_OK: the driver accepted `features` of those that the device itself offers. */
  activate(features: bigint): void;
  /** The driver reset the device: queues are cleared already. */
  reset(): void;
  /** There may be new chains in `queue`, which is ready. */
  kick(queue: Queue): void;
  /** The driver wrote to the config space. */
  configure(write: ConfigWrite): void;
  /** Whether the config space is what the device made of everything that the driver wrote. */
  readonly configSettled: boolean;
}

export interface RegisterFileOptions {
  /** Name in the log: `rng0`. */
  id: string;
  virtioId: number;
  /** Largest size of each queue, powers of two. */
  queueSizesMax: readonly number[];
  /** What the device itself offers; the transport adds its own. */
  features: bigint;
  /** Size of its config space. */
  configBytes: number;
  /** Shared with the vCPU threads: they load word `interruptIndex`, and clear bits in it. */
  interruptStatus: Int32Array;
  interruptIndex: number;
  /** Interrupts for a queue, or for CONFIG_CHANGE; InterruptStatus is set before. */
  interrupt(queue: number): void;
  log(line: string): void;
  /** Counts what is answered; nothing does when it is left out. */
  meter?: Meter;
}
