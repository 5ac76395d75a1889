// A console that says everything back (virtio v1.2 §5.3): what the driver transmits it receives,
// in the order and at the pace at which it asks for it.
//
//   bulkhead run … --device ./echo.wasm,cols=132,rows=43
import {
  Chain,
  configSpace,
  Device,
  option,
  register,
  VIRTIO_CONSOLE_F_SIZE,
  VIRTIO_ID_CONSOLE,
} from "bulkhead/sdk";

/** Queues of port 0, the only one without VIRTIO_CONSOLE_F_MULTIPORT (§5.3.2). */
const RECEIVEQ: u32 = 0;
const TRANSMITQ: u32 = 1;

/** Bytes that were transmitted and not yet received: one page, a driver's usual buffer. */
const BUFFER_BYTES: u32 = 4096;

/** `struct virtio_console_config` as far as VIRTIO_CONSOLE_F_SIZE makes it valid (§5.3.4). */
@unmanaged
class ConsoleConfig {
  cols: u16 = 0;
  rows: u16 = 0;
}
const config = configSpace<ConsoleConfig>();

const cols = option.number("cols", 80);
const rows = option.number("rows", 25);

class Echo extends Device {
  /** A ring: `count` bytes from `first` on, and behind the last index comes the first. */
  private readonly buffer: StaticArray<u8> = new StaticArray<u8>(BUFFER_BYTES);
  private first: u32 = 0;
  private count: u32 = 0;

  /** Bytes of the oldest transmit request that are in the buffer already. */
  private taken: u32 = 0;

  constructor() {
    super(VIRTIO_ID_CONSOLE, [64, 64], 1 << VIRTIO_CONSOLE_F_SIZE);
  }

  start(): void {
    config.cols = <u16>min<u64>(cols.value, u16.MAX_VALUE);
    config.rows = <u16>min<u64>(rows.value, u16.MAX_VALUE);
  }

  /** Another driver must not read what the last one wrote. */
  reset(): void {
    this.count = 0;
    this.taken = 0;
  }

  serve(queue: u32, chain: Chain): void {
    if (queue == TRANSMITQ) this.transmit(chain);
    else this.receive(chain);
  }

  /**
   * Takes what there is room for. If that is not all, the request waits: it comes again, whole,
   * when the driver has received something. A driver that only transmits stops itself, and what it
   * makes this device keep never grows.
   */
  private transmit(chain: Chain): void {
    chain.skip(this.taken);
    while (chain.readable > 0 && this.count < BUFFER_BYTES) {
      const end = (this.first + this.count) % BUFFER_BYTES;
      const room = min(BUFFER_BYTES - this.count, BUFFER_BYTES - end);
      const bytes = min(chain.readable, room);
      chain.readTo(this.buffer, end, bytes);
      this.count += bytes;
      this.taken += bytes;
    }
    if (chain.readable > 0) chain.wait();
    else this.taken = 0;
  }

  /** A buffer to receive into waits until there is something to put into it. */
  private receive(chain: Chain): void {
    if (this.count == 0) return chain.wait();
    while (chain.writable > 0 && this.count > 0) {
      const bytes = min(min(chain.writable, this.count), BUFFER_BYTES - this.first);
      chain.writeOf(this.buffer, this.first, bytes);
      this.first = (this.first + bytes) % BUFFER_BYTES;
      this.count -= bytes;
    }
  }
}

register(new Echo());
