// virtio-blk: a disk in a file or a block device of the host (virtio v1.2 §5.2).
//
// What is in an image is as hostile as the guest that wrote it: its format is what the user says,
// and never what it looks like. A guest that writes the header of another format into its first
// sector would otherwise choose what its disk is when it starts the next time.
import {
  CHAIN_BYTES_MAX,
  Chain,
  configSpace,
  demand,
  Device,
  logLine,
  option,
  register,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
  VIRTIO_ID_BLOCK,
} from "bulkhead/sdk";
import { Image, SECTOR_BYTES, Target } from "./blk/image";
import { image, openDisk } from "./blk/open";

/** In front of each request: type │ reserved │ sector (§5.2.6). */
const HEADER_BYTES: u32 = 16;
/** `struct virtio_blk_discard_write_zeroes`: sector │ sectors │ flags. */
const SEGMENT_BYTES: u32 = 16;

/**
 * The status is the last byte of a request that may be as long as a driver likes, but ends for a
 * device at CHAIN_BYTES_MAX: so what the driver may ask for is 126 × 8 KiB, a little less.
 */
const SIZE_MAX: u32 = 8 * 1024;
const SEG_MAX: u32 = CHAIN_BYTES_MAX / SIZE_MAX - 2;

/** Requests of the largest size that are underway are bounded elsewhere; this is Linux' default. */
const QUEUE_SIZE: u32 = 256;
/** As many as a guest has processors; the device itself does one thing at a time. */
const QUEUES_MAX: u64 = 8;

/** One request to make zero or discard: what takes a moment, but not seconds, on a slow disk. */
const ZERO_BYTES_MAX: u32 = 16 * 1024 * 1024;
const DISCARD_SEG_MAX: u32 = 16;

const serial = option.text("serial");
const queues = option.number("queues", 1);
/** The block size that the driver sees (blk_size), and the one that the disk is good at. */
const block = option.number("block", 512);
const physical = option.number("physical", 4096);

/** `struct virtio_blk_config` (§5.2.4). */
@unmanaged
class BlkConfig {
  capacity: u64 = 0;
  size_max: u32 = SIZE_MAX;
  seg_max: u32 = SEG_MAX;
  geometry: u32 = 0;
  blk_size: u32 = 512;
  physical_block_exp: u8 = 0;
  alignment_offset: u8 = 0;
  min_io_size: u16 = 0;
  opt_io_size: u32 = 0;
  writeback: u8 = 1;
  unused0: u8 = 0;
  num_queues: u16 = 1;
  max_discard_sectors: u32 = ZERO_BYTES_MAX / SECTOR_BYTES;
  max_discard_seg: u32 = DISCARD_SEG_MAX;
  discard_sector_alignment: u32 = 0;
  max_write_zeroes_sectors: u32 = ZERO_BYTES_MAX / SECTOR_BYTES;
  max_write_zeroes_seg: u32 = 1;
  write_zeroes_may_unmap: u8 = 1;
}
const CONFIG_BYTES: u32 = 60; // unused1[3] is at its end
const WRITEBACK: u32 = 32;
const config = configSpace<BlkConfig>(CONFIG_BYTES);

const WHEN_WRITABLE: u64 = (1 << VIRTIO_BLK_F_DISCARD) | (1 << VIRTIO_BLK_F_WRITE_ZEROES);
const FEATURES: u64 =
  WHEN_WRITABLE |
  (1 << VIRTIO_BLK_F_SIZE_MAX) |
  (1 << VIRTIO_BLK_F_SEG_MAX) |
  (1 << VIRTIO_BLK_F_RO) |
  (1 << VIRTIO_BLK_F_BLK_SIZE) |
  (1 << VIRTIO_BLK_F_FLUSH) |
  (1 << VIRTIO_BLK_F_TOPOLOGY) |
  (1 << VIRTIO_BLK_F_CONFIG_WCE) |
  (1 << VIRTIO_BLK_F_MQ);

function isBlockSize(bytes: u64): bool {
  return bytes >= SECTOR_BYTES && bytes <= 4096 && popcnt(bytes) == 1;
}

/** Whether a text is in the serial number of a disk, where udev and others will find it. */
function isPrintable(text: StaticArray<u8>, length: u32): bool {
  for (let i: u32 = 0; i < length; i++) {
    if (text[i] <= 0x20 || text[i] > 0x7e) return false;
  }
  return true;
}

class Blk extends Device {
  private disk: Image | null = null;
  private readonly target: Target = new Target();
  private isReadOnly: bool = false;
  private accepted: u64 = 0;

  constructor() {
    const sizes: StaticArray<u32> = new StaticArray<u32>(<i32>QUEUES_MAX);
    super(VIRTIO_ID_BLOCK, sizes.fill(QUEUE_SIZE), FEATURES);
  }

  start(): void {
    demand(serial.length <= VIRTIO_BLK_ID_BYTES, "serial: at most 20 characters");
    demand(isPrintable(serial.bytes, serial.length), "serial: ASCII without spaces only");
    demand(queues.value >= 1 && queues.value <= QUEUES_MAX, "queues: 1 to 8");
    demand(isBlockSize(block.value), "block: 512, 1024, 2048 or 4096");
    demand(isBlockSize(physical.value), "physical: 512, 1024, 2048 or 4096");
    demand(physical.value >= block.value, "physical: not smaller than block");
    this.isReadOnly = !image.writable;
    const disk = openDisk(this.isReadOnly);
    this.disk = disk;
    demand(disk.size > 0, "image: it is empty, or no disk");
    if (disk.size % block.value != 0) {
      logLine("image: ")
        .number(disk.size)
        .text(" bytes are not in blocks of ")
        .number(block.value)
        .text(", truncate -s %")
        .number(block.value)
        .text(" IMAGE makes a raw one larger")
        .refuse();
    }
    this.describe(disk);
  }

  /** Fills in the config space, and withholds what does not make sense. */
  private describe(disk: Image): void {
    const size = <u32>block.value;
    config.capacity = disk.size / SECTOR_BYTES;
    config.blk_size = size;
    config.physical_block_exp = <u8>ctz(physical.value / block.value);
    config.min_io_size = <u16>(physical.value / block.value);
    config.opt_io_size = max(disk.clusterBytes, size) / size;
    config.num_queues = <u16>queues.value;
    config.discard_sector_alignment = max(disk.clusterBytes, size) / SECTOR_BYTES;
    this.withhold(this.isReadOnly ? WHEN_WRITABLE : 1 << VIRTIO_BLK_F_RO);
    if (queues.value == 1) this.withhold(1 << VIRTIO_BLK_F_MQ);
  }

  activate(features: u64): void {
    this.accepted = features;
  }

  reset(): void {
    this.accepted = 0;
    this.disk!.rest();
  }

  /** The driver may turn the write-back cache off and on again (§5.2.5), and nothing else. */
  configure(offset: u32, bytes: u32): bool {
    if (offset != WRITEBACK || bytes != 1 || config.writeback > 1) return false;
    if (!this.has(VIRTIO_BLK_F_CONFIG_WCE)) return false;
    return config.writeback == 1 || this.flush();
  }

  serve(requestq: u32, chain: Chain): void {
    if (chain.writable == 0) return; // there is no room to tell it anything
    const status = this.answer(chain);
    // The status is the last byte (§5.2.6), however much of the data before it there is.
    chain.fill(0, chain.writable - 1);
    chain.write<u8>(status);
  }

  /** Does what the driver asks, and returns the status of that. */
  private answer(chain: Chain): u8 {
    if (chain.readable < HEADER_BYTES) return VIRTIO_BLK_S_IOERR;
    const type = chain.read<u32>();
    chain.skip(4);
    const sector = chain.read<u64>();
    switch (type) {
      case VIRTIO_BLK_T_IN:
        return statusOf(this.read(chain, sector));
      case VIRTIO_BLK_T_OUT:
        return statusOf(this.write(chain, sector));
      case VIRTIO_BLK_T_FLUSH:
        if (!this.has(VIRTIO_BLK_F_FLUSH)) return VIRTIO_BLK_S_UNSUPP;
        return statusOf(this.flush());
      case VIRTIO_BLK_T_GET_ID:
        return statusOf(identify(chain));
      case VIRTIO_BLK_T_DISCARD:
        if (!this.has(VIRTIO_BLK_F_DISCARD)) return VIRTIO_BLK_S_UNSUPP;
        return this.discard(chain);
      case VIRTIO_BLK_T_WRITE_ZEROES:
        if (!this.has(VIRTIO_BLK_F_WRITE_ZEROES)) return VIRTIO_BLK_S_UNSUPP;
        return this.writeZeroes(chain);
      default:
        return VIRTIO_BLK_S_UNSUPP;
    }
  }

  private has(feature: u64): bool {
    return (this.accepted & (1 << feature)) != 0;
  }

  /** Whether a write is answered before it is on the disk (§5.2.6.2). */
  private get writesBack(): bool {
    if (this.has(VIRTIO_BLK_F_CONFIG_WCE)) return config.writeback == 1;
    return this.has(VIRTIO_BLK_F_FLUSH);
  }

  /**
   * Whether `sectors` sectors from `sector` on are whole blocks of this disk. Both may be any
   * number: added, or multiplied, they could come out as something that is on it.
   */
  private holds(sector: u64, sectors: u64): bool {
    const each = config.blk_size / SECTOR_BYTES;
    if (sector % each != 0 || sectors % each != 0) return false;
    return sector <= config.capacity && sectors <= config.capacity - sector;
  }

  private read(chain: Chain, sector: u64): bool {
    const room = chain.writable - 1;
    if (chain.readable > 0 || room % SECTOR_BYTES != 0) return false;
    if (!this.holds(sector, room / SECTOR_BYTES)) return false;
    return this.disk!.read(sector * SECTOR_BYTES, room, this.target.toChain(chain));
  }

  private write(chain: Chain, sector: u64): bool {
    const bytes = chain.readable;
    if (this.isReadOnly || chain.writable > 1 || bytes % SECTOR_BYTES != 0) return false;
    if (!this.holds(sector, bytes / SECTOR_BYTES)) return false;
    return this.settle(this.disk!.write(sector * SECTOR_BYTES, bytes, chain));
  }

  /** What was done is on the disk before it is answered, where the driver was promised that. */
  private settle(isDone: bool): bool {
    return isDone && (this.writesBack || this.flush());
  }

  private flush(): bool {
    return this.isReadOnly || this.disk!.flush();
  }

  /**
   * Looks at what the driver does not need any more, and leaves it as it is: WASI has no way to
   * punch a hole into a file, and zeros in its place would make a sparse file larger, not smaller.
   */
  private discard(chain: Chain): u8 {
    const count = chain.readable / SEGMENT_BYTES;
    if (!this.isListOf(chain, DISCARD_SEG_MAX)) return VIRTIO_BLK_S_IOERR;
    for (let i: u32 = 0; i < count; i++) {
      const sector = chain.read<u64>();
      const sectors = chain.read<u32>();
      // "MUST set the status byte to VIRTIO_BLK_S_UNSUPP for discard […] if the unmap flag is set"
      if (chain.read<u32>() != 0) return VIRTIO_BLK_S_UNSUPP;
      if (!this.isRange(sector, sectors)) return VIRTIO_BLK_S_IOERR;
    }
    return VIRTIO_BLK_S_OK;
  }

  private writeZeroes(chain: Chain): u8 {
    if (!this.isListOf(chain, 1)) return VIRTIO_BLK_S_IOERR;
    const sector = chain.read<u64>();
    const sectors = chain.read<u32>();
    const flags = chain.read<u32>();
    if ((flags & ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) != 0) return VIRTIO_BLK_S_UNSUPP;
    if (!this.isRange(sector, sectors)) return VIRTIO_BLK_S_IOERR;
    const bytes = <u64>sectors * SECTOR_BYTES;
    return statusOf(this.settle(this.disk!.zero(sector * SECTOR_BYTES, bytes)));
  }

  /** Whether the rest of a request are one to `countMax` segments, and nothing is to be read. */
  private isListOf(chain: Chain, countMax: u32): bool {
    if (this.isReadOnly || chain.writable > 1) return false;
    const bytes = chain.readable;
    return bytes > 0 && bytes % SEGMENT_BYTES == 0 && bytes / SEGMENT_BYTES <= countMax;
  }

  private isRange(sector: u64, sectors: u32): bool {
    return sectors <= ZERO_BYTES_MAX / SECTOR_BYTES && this.holds(sector, sectors);
  }
}

function statusOf(isDone: bool): u8 {
  return isDone ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
}

/** The serial number: 20 bytes without an end, or zeros behind it (§5.2.6). */
function identify(chain: Chain): bool {
  if (chain.writable - 1 < VIRTIO_BLK_ID_BYTES) return false;
  chain.writeOf(serial.bytes, 0, serial.length);
  chain.fill(0, VIRTIO_BLK_ID_BYTES - serial.length);
  return true;
}


register(new Blk());
