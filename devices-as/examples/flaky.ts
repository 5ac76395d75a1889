// A disk that fails on purpose (virtio v1.2 §5.2), to see what a guest makes of it: some of its
// requests end with VIRTIO_BLK_S_IOERR, and all of them take their time.
//
//   bulkhead run … --device ./flaky.wasm,rate=50,errors=read+flush,latency=20,seed=7
//                  --grant flaky0.image=file:disk.img:rw --grant flaky0.time=clock:monotonic
//
// `rate` of 1000 requests fail, of the types in `errors`: each request draws a number that follows
// from `seed` alone, so a driver that does the same again meets the same failures. `latency` is in
// milliseconds, and the one thing that the clock is needed for.
import {
  capability,
  CHAIN_BYTES_MAX,
  Chain,
  configSpace,
  demand,
  Device,
  Need,
  option,
  register,
  Rights,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_ID_BLOCK,
} from "bulkhead/sdk";

const SECTOR_BYTES: u32 = 512; // whatever the block size (§5.2.4)
const HEADER_BYTES: u32 = 16; // type │ reserved │ sector (§5.2.6)

/** A chain ends for a device at CHAIN_BYTES_MAX, header and status included: see ramdisk.ts. */
const SEGMENT_BYTES_MAX: u32 = 16 * 1024;
const SEGMENTS_MAX: u32 = CHAIN_BYTES_MAX / SEGMENT_BYTES_MAX - 2;

/** An hour: what is meant as a nuisance should not be a hang. */
const LATENCY_MS_MAX: u64 = 60 * 60 * 1000;
const NANOSECONDS_PER_MS: u64 = 1_000_000;

const image = capability.file("image", Rights.Read | Rights.Write);
const time = capability.clock("time", Need.Optional);

const rate = option.number("rate", 10);
const errors = option.text("errors");
const latency = option.number("latency");
const seed = option.number("seed", 1);

@unmanaged
class BlkConfig {
  capacity: u64 = 0;
  size_max: u32 = SEGMENT_BYTES_MAX;
  seg_max: u32 = SEGMENTS_MAX;
}
const config = configSpace<BlkConfig>();

class Flaky extends Device {
  /** Bit n: requests of type n fail now and then. */
  private failing: u32 = 0;
  private random: u64 = 0;
  /** When the oldest request is to be answered; 0 while there is none. */
  private due: u64 = 0;

  constructor() {
    const features: u64 =
      (1 << VIRTIO_BLK_F_SIZE_MAX) | (1 << VIRTIO_BLK_F_SEG_MAX) | (1 << VIRTIO_BLK_F_FLUSH);
    super(VIRTIO_ID_BLOCK, [64], features); // requestq1 (§5.2.2)
  }

  start(): void {
    config.capacity = image.size / SECTOR_BYTES;
    this.failing = failingTypes();
    demand(rate.value <= 1000, "rate: of 1000 requests, so at most 1000");
    demand(latency.value <= LATENCY_MS_MAX, "latency: in milliseconds, at most an hour");
    demand(latency.value == 0 || time.granted, "latency: needs a clock, --grant ID.time=clock:…");
    this.reset();
  }

  /** The next driver meets the same failures, from the first on. */
  reset(): void {
    this.random = seed.value ^ 0x9e37_79b9_7f4a_7c15; // of all seeds one, and nobody's, makes it 0
    this.due = 0;
  }

  serve(requestq: u32, chain: Chain): void {
    if (chain.readable < HEADER_BYTES || chain.writable == 0) return; // it can be told nothing
    if (this.isEarly()) return chain.wait();
    const type = chain.read<u32>();
    chain.skip(4);
    const sector = chain.read<u64>();
    const status = this.fails(type) ? VIRTIO_BLK_S_IOERR : this.answer(chain, type, sector);
    chain.fill(0, chain.writable - 1); // what a request that failed did not get
    chain.write<u8>(status); // the last byte (§5.2.6)
  }

  /**
   * Whether it is too early to answer; then the device is woken when it is time. A request that
   * waits is offered again whenever anything happens, so what counts is when it came first. Those
   * behind it come after it: like a disk with one head, this one does one thing at a time.
   */
  private isEarly(): bool {
    if (latency.value == 0) return false;
    const now = time.now();
    if (this.due == 0) this.due = now + latency.value * NANOSECONDS_PER_MS;
    if (now < this.due) {
      time.wakeAt(this.due);
      return true;
    }
    this.due = 0;
    return false;
  }

  /** Draws whether a request of this type is one of those that fail. */
  private fails(type: u32): bool {
    if (type > 31 || (this.failing & (1 << type)) == 0) return false;
    // xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators".
    this.random ^= this.random >> 12;
    this.random ^= this.random << 25;
    this.random ^= this.random >> 27;
    const number = (this.random * 0x2545_f491_4f6c_dd1d) >> 32; // the better half
    return number % 1000 < rate.value;
  }

  private answer(chain: Chain, type: u32, sector: u64): u8 {
    const room = chain.writable - 1;
    const offset = sector * SECTOR_BYTES;
    switch (type) {
      case VIRTIO_BLK_T_IN:
        return this.holds(sector, room) && chain.writeFromAt(image, offset, room) == room
          ? VIRTIO_BLK_S_OK
          : VIRTIO_BLK_S_IOERR;
      case VIRTIO_BLK_T_OUT: {
        const bytes = chain.readable;
        return this.holds(sector, bytes) && chain.readIntoAt(image, offset, bytes) == bytes
          ? VIRTIO_BLK_S_OK
          : VIRTIO_BLK_S_IOERR;
      }
      case VIRTIO_BLK_T_FLUSH:
        return image.datasync() ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
      case VIRTIO_BLK_T_GET_ID:
        if (room < VIRTIO_BLK_ID_BYTES) return VIRTIO_BLK_S_IOERR;
        chain.writeText("flaky", VIRTIO_BLK_ID_BYTES);
        return VIRTIO_BLK_S_OK;
      default:
        return VIRTIO_BLK_S_UNSUPP;
    }
  }

  /** Whether these are whole sectors of the disk: without it, a write makes the image larger. */
  private holds(sector: u64, bytes: u32): bool {
    if (bytes % SECTOR_BYTES != 0 || sector > config.capacity) return false;
    return bytes / SECTOR_BYTES <= config.capacity - sector;
  }
}

/** The types of requests that `errors` names, one bit each; without it, all that can fail. */
function failingTypes(): u32 {
  if (errors.length == 0) return bitOf("read") | bitOf("write") | bitOf("flush");
  const words = errors.toString().split("+");
  let types: u32 = 0;
  for (let i = 0; i < words.length; i++) types |= bitOf(words[i]);
  return types;
}

function bitOf(word: string): u32 {
  if (word == "read") return 1 << VIRTIO_BLK_T_IN;
  if (word == "write") return 1 << VIRTIO_BLK_T_OUT;
  demand(word == "flush", "errors: read, write, flush, or some of them with + in between");
  return 1 << VIRTIO_BLK_T_FLUSH;
}

register(new Flaky());
