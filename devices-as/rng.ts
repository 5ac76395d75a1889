// virtio-rng: the entropy device (virtio v1.2 §5.4).
import { capability, Chain, Device, register, Rights, VIRTIO_ID_RNG } from "bulkhead/sdk";

/** Bytes served per request: a guest may offer far more than it needs. */
const REQUEST_BYTES_MAX: u32 = 64 * 1024;

const source = capability.file("source", Rights.Read); // asked for here, granted by the user

class Rng extends Device {
  constructor() {
    super(VIRTIO_ID_RNG, [64]); // requestq (§5.4.2)
  }

  serve(requestq: u32, chain: Chain): void {
    const wanted = min(chain.writable, REQUEST_BYTES_MAX);
    const written = chain.writeFrom(source, wanted); // short replies are legal (§5.4.6.2) …
    assert(written > 0 || wanted == 0, "the entropy source ran dry"); // … empty ones are not
  }
}

register(new Rng());
