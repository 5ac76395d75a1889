// An entropy device (virtio v1.2 §5.4) for who trusts no single source: each byte of an answer is
// one byte of the one and one byte of the other source, combined by exclusive or.
//
//   bulkhead run … --device ./mixer.wasm --grant mixer0.one=file:/dev/urandom:ro
//                                        --grant mixer0.other=file:/dev/hwrng:ro
//
// As long as the sources are independent, an answer is as hard to guess as the better of them is,
// whatever the worse one says: it may be stuck, biased, or known to an attacker in advance. What
// does not hold is that for a source that knows what the other says: it could choose the answer.
// Two regular files, or one disk under two names, are not independent.
import { capability, Chain, Device, register, Rights, VIRTIO_ID_RNG } from "bulkhead/sdk";

/** Bytes served per request: a driver may offer far more than it needs. */
const REQUEST_BYTES_MAX: u32 = 4096;

/**
 * So many zeros in a row, which happens by accident to nobody (once in 2^128 bytes), mean that both
 * sources say the same: the user granted one thing twice.
 */
const ZEROS_MAX: u32 = 16;

const one = capability.file("one", Rights.Read);
const other = capability.file("other", Rights.Read);

class Mixer extends Device {
  private readonly mixed: StaticArray<u8> = new StaticArray<u8>(REQUEST_BYTES_MAX);
  private readonly more: StaticArray<u8> = new StaticArray<u8>(REQUEST_BYTES_MAX);
  private zeros: u32 = 0;

  constructor() {
    super(VIRTIO_ID_RNG, [64]); // requestq (§5.4.2)
  }

  serve(requestq: u32, chain: Chain): void {
    const wanted = min(chain.writable, REQUEST_BYTES_MAX);
    if (wanted == 0) return;
    // Either read may be short. A byte for which the other source has none is dropped: what leaves
    // here is mixed, and an answer may be short as well (§5.4.6.2).
    const ones = one.readBytes(this.mixed, 0, wanted);
    const both = other.readBytes(this.more, 0, ones);
    assert(both > 0, "a source ran dry"); // an answer may not be empty
    for (let i: u32 = 0; i < both; i++) this.mix(i);
    chain.writeOf(this.mixed, 0, both);
  }

  private mix(i: u32): void {
    const byte = this.mixed[i] ^ this.more[i];
    this.zeros = byte == 0 ? this.zeros + 1 : 0;
    assert(this.zeros < ZEROS_MAX, "both sources say the same");
    this.mixed[i] = byte;
  }
}

register(new Mixer());
