// What a device is: an id, queues, features, and a method that answers one request.

import { attention } from "./attention";
import { Chain } from "./chain";

/** Base class of every device. One module is one device: `register(new Mine())`. */
export abstract class Device {
  /**
   * @param virtioId device type (virtio v1.2 §5)
   * @param queueSizes the largest size of each queue, a power of two up to 256
   * @param features the device's own feature bits; the transport adds its own
   */
  constructor(
    public readonly virtioId: u32,
    public readonly queueSizes: StaticArray<u32>,
    public readonly features: u64 = 0,
  ) {}

  /** Options are known, and no driver has seen the device: make the config space of them. */
  start(): void {}

  /**
   * The driver is not offered these of the device's features, because of what the user granted or
   * set; for start(). Those above 31 cannot be withheld.
   */
  protected withhold(features: u64): void {
    assert((features & ~this.features) == 0 && features >> 32 == 0, "not a feature to withhold");
    attention.withheld |= <u32>features;
  }

  /** The driver accepted `features` and is ready (DRIVER_OK, virtio v1.2 §3.1.1). */
  activate(features: u64): void {}

  /** The driver reset the device: forget everything about it. */
  reset(): void {}

  /**
   * The driver wrote the `bytes` bytes at `offset` of the config space, and they are there. Returns
   * whether they stay: a device says what a driver may write, and others let it read only.
   */
  configure(offset: u32, bytes: u32): bool {
    return false;
  }

  /**
   * A deadline has passed (Clock.wakeAt), or a capability that the device awaits is ready. It is
   * told once: what the device still waits for it must say again. Afterwards the requests that wait
   * are served again.
   */
  wake(): void {}

  /** Answers one request of `queue`: what it writes to the chain is the reply. */
  abstract serve(queue: u32, chain: Chain): void;
}

let registered: Device | null = null;

/** Makes `device` the one that this module is. */
export function register(device: Device): void {
  assert(registered == null, "a module is one device");
  registered = device;
}

/** The device that this module is. */
export function device(): Device {
  return registered!;
}
