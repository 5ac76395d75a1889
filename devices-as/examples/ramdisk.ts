// A disk in the device's own memory (virtio v1.2 §5.2): it asks for nothing, so its process may do
// nothing but answer. What is on it goes with that process: a guest must not want it back.
//
//   bulkhead run … --device ./ramdisk.wasm,size=4M
import {
  CHAIN_BYTES_MAX,
  Chain,
  configSpace,
  demand,
  Device,
  option,
  register,
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

/** Whatever the block size, sectors are counted in these (§5.2.4). */
const SECTOR_BYTES: u32 = 512;

/** A module has 16 MiB; the windows of requests and replies need 2.4 of them. */
const SIZE_MAX: u64 = 12 * 1024 * 1024;

/** In front of each request: type │ reserved │ sector (§5.2.6). */
const HEADER_BYTES: u32 = 16;

/**
 * The status is the last byte of a request that may be as long as a driver likes, but ends for a
 * device at CHAIN_BYTES_MAX: so what the driver may ask for is 62 × 16 KiB, a little less.
 */
const SEGMENT_BYTES_MAX: u32 = 16 * 1024;
const SEGMENTS_MAX: u32 = CHAIN_BYTES_MAX / SEGMENT_BYTES_MAX - 2;

/** `struct virtio_blk_config` as far as the features below make it valid (§5.2.4). */
@unmanaged
class BlkConfig {
  capacity: u64 = 0;
  size_max: u32 = SEGMENT_BYTES_MAX;
  seg_max: u32 = SEGMENTS_MAX;
}
const config = configSpace<BlkConfig>();

const size = option.number("size", 1024 * 1024);

class RamDisk extends Device {
  private disk: StaticArray<u8> = [];

  constructor() {
    const features: u64 =
      (1 << VIRTIO_BLK_F_SIZE_MAX) | (1 << VIRTIO_BLK_F_SEG_MAX) | (1 << VIRTIO_BLK_F_FLUSH);
    super(VIRTIO_ID_BLOCK, [64], features); // requestq1 (§5.2.2)
  }

  /** The user's size is known: the only allocation that there ever is. */
  start(): void {
    demand(size.value <= SIZE_MAX, "size: at most 12M");
    demand(size.value % SECTOR_BYTES == 0, "size: not in sectors of 512 bytes");
    this.disk = new StaticArray<u8>(<i32>size.value);
    config.capacity = size.value / SECTOR_BYTES;
  }

  serve(requestq: u32, chain: Chain): void {
    if (chain.readable < HEADER_BYTES || chain.writable == 0) return; // it can be told nothing
    const type = chain.read<u32>();
    chain.skip(4);
    const sector = chain.read<u64>();
    const status = this.answer(chain, type, sector);
    // The status is the last byte (§5.2.6), however much of the data before it there is.
    chain.fill(0, chain.writable - 1);
    chain.write<u8>(status);
  }

  /** Does what the driver asks, and returns the status of that. */
  private answer(chain: Chain, type: u32, sector: u64): u8 {
    const room = chain.writable - 1;
    switch (type) {
      case VIRTIO_BLK_T_IN:
        if (!this.holds(sector, room)) return VIRTIO_BLK_S_IOERR;
        chain.writeOf(this.disk, <u32>sector * SECTOR_BYTES, room);
        return VIRTIO_BLK_S_OK;
      case VIRTIO_BLK_T_OUT:
        if (!this.holds(sector, chain.readable)) return VIRTIO_BLK_S_IOERR;
        chain.readTo(this.disk, <u32>sector * SECTOR_BYTES, chain.readable);
        return VIRTIO_BLK_S_OK;
      case VIRTIO_BLK_T_FLUSH:
        return VIRTIO_BLK_S_OK; // memory is as safe as it gets
      case VIRTIO_BLK_T_GET_ID:
        if (room < VIRTIO_BLK_ID_BYTES) return VIRTIO_BLK_S_IOERR;
        chain.writeText("ramdisk", VIRTIO_BLK_ID_BYTES);
        return VIRTIO_BLK_S_OK;
      default:
        return VIRTIO_BLK_S_UNSUPP;
    }
  }

  /**
   * Whether `bytes` bytes from `sector` on are whole sectors of this disk. `sector` may be any
   * number: added to, or multiplied, it could come out as one that is on the disk.
   */
  private holds(sector: u64, bytes: u32): bool {
    if (bytes % SECTOR_BYTES != 0 || sector > config.capacity) return false;
    return bytes / SECTOR_BYTES <= config.capacity - sector;
  }
}

register(new RamDisk());
