// @NAME@: an entropy device (virtio v1.2 §5.4) that would rather die than hand out what a broken
// source says. A guest sees what Linux' driver virtio-rng knows; behind it is the file that the
// command line grants as "source".
import { capability, Chain, Device, register, Rights, VIRTIO_ID_RNG } from "bulkhead/sdk";

/** Bytes served per request: a driver may offer far more than it needs. */
const REQUEST_BYTES_MAX: u32 = 4096;

/**
 * The same byte that often in a row means that the source is stuck: with 1 bit of entropy a byte,
 * it happens by accident in one of 2^20 cases (repetition count test, NIST SP 800-90B §4.4.1).
 */
const REPETITIONS_MAX: u32 = 21;

const source = capability.file("source", Rights.Read); // asked for here, granted by the user

class Entropy extends Device {
  private readonly buffer: StaticArray<u8> = new StaticArray<u8>(REQUEST_BYTES_MAX);
  private last: u8 = 0;
  private repetitions: u32 = 0;

  constructor() {
    super(VIRTIO_ID_RNG, [64]); // requestq (§5.4.2)
  }

  /** One request: what is written to `chain` is the answer. A failed assert ends the device. */
  serve(requestq: u32, chain: Chain): void {
    const wanted = min(chain.writable, REQUEST_BYTES_MAX);
    const count = source.readBytes(this.buffer, 0, wanted); // a short answer is legal (§5.4.6.2) …
    assert(count > 0 || wanted == 0, "the source ran dry"); // … an empty one is not
    for (let i: u32 = 0; i < count; i++) this.check(this.buffer[i]);
    chain.writeOf(this.buffer, 0, count);
  }

  private check(byte: u8): void {
    this.repetitions = byte == this.last ? this.repetitions + 1 : 1;
    this.last = byte;
    assert(this.repetitions < REPETITIONS_MAX, "the source is stuck");
  }
}

register(new Entropy());
