// The header of a qcow2 image, as QEMU's docs/interop/qcow2.txt has it; all numbers are big-endian.
// Whoever made the image may want anything: what is not understood, or does not fit into the file,
// is refused before the guest runs, and says which image it is and what to do.

import { File, getBE, logLine } from "bulkhead/sdk";

export const QCOW_MAGIC: u32 = 0x5146_49fb;

/** Where fields are, by their names in the specification. */
const VERSION: u32 = 4;
const BACKING_FILE_OFFSET: u32 = 8;
const BACKING_FILE_SIZE: u32 = 16;
const CLUSTER_BITS: u32 = 20;
const SIZE: u32 = 24;
const CRYPT_METHOD: u32 = 32;
const L1_SIZE: u32 = 36;
const L1_TABLE_OFFSET: u32 = 40;
export const REFCOUNT_TABLE_OFFSET: u32 = 48;
const REFCOUNT_TABLE_CLUSTERS: u32 = 56;
const NB_SNAPSHOTS: u32 = 60;
const V2_BYTES: u32 = 72;
const INCOMPATIBLE_FEATURES: u32 = 72;
export const AUTOCLEAR_FEATURES: u32 = 88;
const REFCOUNT_ORDER: u32 = 96;
const HEADER_LENGTH: u32 = 100;
const V3_BYTES: u32 = 104;
const COMPRESSION_TYPE: u32 = 104;

/** Bits of the incompatible features. */
const DIRTY: u64 = 1;
const CORRUPT: u64 = 2;
const EXTERNAL_DATA: u64 = 4;
const COMPRESSION: u64 = 8;
const EXTENDED_L2: u64 = 16;

/** A header extension, and the number of the one that names the format of the backing file. */
const EXTENSION_BYTES: u32 = 8;
const END_OF_EXTENSIONS: u32 = 0;
const BACKING_FORMAT: u32 = 0xe279_2aca;

const CLUSTER_BITS_MIN: u32 = 9;
const CLUSTER_BITS_MAX: u32 = 21;
/** The largest L1 table, as in QEMU. */
const L1_BYTES_MAX: u64 = 32 * 1024 * 1024;
/** The largest refcount table, as in QEMU: enough for 128 TiB in clusters of 64 KiB. */
export const REFCOUNT_TABLE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/** The largest disk, 1 PiB: no sum of its offsets comes near what a number can hold. */
const DISK_BYTES_MAX: u64 = (<u64>1) << 50;
const BACKING_NAME_BYTES_MAX: u32 = 1023;

/** Header and extensions are in the first cluster; longer ones than this have more than we know. */
const AREA_BYTES: u32 = 64 * 1024;
const area = new StaticArray<u8>(<i32>AREA_BYTES);

/** What a header says of the format of the backing file. */
export enum Format {
  Unknown = 0,
  Raw = 1,
  Qcow2 = 2,
  Other = 3,
}

/** The format that a text names. */
export function formatOf(text: StaticArray<u8>, at: u32, length: u32): Format {
  if (length == 0) return Format.Unknown;
  if (length == 3 && text[at] == 0x72 && text[at + 1] == 0x61 && text[at + 2] == 0x77) {
    return Format.Raw;
  }
  if (length == 5 && getBE<u32>(text, at) == 0x7163_6f77 && text[at + 4] == 0x32) {
    return Format.Qcow2;
  }
  return Format.Other;
}

@final
export class Header {
  version: u32 = 0;
  clusterBits: u32 = 0;
  size: u64 = 0;
  l1Size: u32 = 0;
  l1Offset: u64 = 0;
  refcountTableOffset: u64 = 0;
  refcountTableClusters: u32 = 0;
  snapshotCount: u32 = 0;
  incompatible: u64 = 0;
  autoclear: u64 = 0;
  refcountOrder: u32 = 4;
  headerBytes: u32 = V2_BYTES;
  backingNameAt: u32 = 0;
  backingNameBytes: u32 = 0;
  backingFormat: Format = Format.Unknown;
  private areaBytes: u32 = 0;

  /** Reads and checks the header of the image `name`; the device ends if it cannot be used. */
  constructor(
    file: File,
    public readonly name: string,
  ) {
    area.fill(0);
    let bytes = file.readBytesAt(0, area, 0, AREA_BYTES);
    this.refuseIf(bytes < V2_BYTES || getBE<u32>(area, 0) != QCOW_MAGIC, "it is no qcow2 image");
    this.version = getBE<u32>(area, VERSION);
    this.refuseIf(this.version != 2 && this.version != 3, "a version of qcow2 that nobody knows");
    this.clusterBits = getBE<u32>(area, CLUSTER_BITS);
    const isSize = this.clusterBits >= CLUSTER_BITS_MIN && this.clusterBits <= CLUSTER_BITS_MAX;
    this.refuseIf(!isSize, "its clusters are not of 512 bytes to 2 MiB");
    bytes = min(bytes, this.clusterBytes);
    this.areaBytes = bytes;
    this.size = getBE<u64>(area, SIZE);
    this.refuseIf(getBE<u32>(area, CRYPT_METHOD) != 0, "it is encrypted, which is not supported");
    this.l1Size = getBE<u32>(area, L1_SIZE);
    this.l1Offset = getBE<u64>(area, L1_TABLE_OFFSET);
    this.refcountTableOffset = getBE<u64>(area, REFCOUNT_TABLE_OFFSET);
    this.refcountTableClusters = getBE<u32>(area, REFCOUNT_TABLE_CLUSTERS);
    this.snapshotCount = getBE<u32>(area, NB_SNAPSHOTS);
    if (this.version == 3) {
      this.incompatible = getBE<u64>(area, INCOMPATIBLE_FEATURES);
      this.autoclear = getBE<u64>(area, AUTOCLEAR_FEATURES);
      this.refcountOrder = getBE<u32>(area, REFCOUNT_ORDER);
      this.headerBytes = getBE<u32>(area, HEADER_LENGTH);
      const isLength = this.headerBytes >= V3_BYTES && this.headerBytes <= bytes;
      this.refuseIf(!isLength || this.headerBytes % 8 != 0, "its header has an impossible length");
    }
    this.backingNameAt = <u32>min(getBE<u64>(area, BACKING_FILE_OFFSET), <u64>AREA_BYTES);
    if (this.backingNameAt != 0) this.backingNameBytes = getBE<u32>(area, BACKING_FILE_SIZE);
    this.checkFeatures();
    this.checkPlaces(file.size);
    this.checkBacking();
  }

  get clusterBytes(): u32 {
    return <u32>1 << this.clusterBits;
  }

  /** Bits of the number of entries that an L2 table has. */
  get l2Bits(): u32 {
    return this.clusterBits - 3;
  }

  /** Says why the image cannot be used, if so, and ends the device. */
  refuseIf(isWrong: bool, why: string): void {
    if (isWrong) logLine(this.name).text(": ").text(why).refuse();
  }

  private checkFeatures(): void {
    const features = this.incompatible;
    const data = "it has its data in another file (data_file), which is not supported";
    this.refuseIf((features & EXTERNAL_DATA) != 0, data);
    const l2 = "it has extended L2 entries, which are not supported: qemu-img convert it";
    this.refuseIf((features & EXTENDED_L2) != 0, l2);
    const known = DIRTY | CORRUPT | COMPRESSION;
    this.refuseIf((features & ~known) != 0, "it has incompatible features that nobody knows");
    const zstd = "its clusters are compressed with zstd: qemu-img convert -o compression_type=zlib";
    const hasType = this.headerBytes > COMPRESSION_TYPE && area[COMPRESSION_TYPE] != 0;
    this.refuseIf((features & COMPRESSION) != 0 || hasType, zstd);
    this.refuseIf(this.refcountOrder > 6, "its refcounts have an impossible width");
  }

  /** Whether a table is at whole clusters behind the header, and inside the file. */
  private isInside(offset: u64, bytes: u64, fileBytes: u64): bool {
    if (offset % this.clusterBytes != 0 || offset < this.clusterBytes) return false;
    return offset <= fileBytes && bytes <= fileBytes - offset;
  }

  private checkPlaces(fileBytes: u64): void {
    this.refuseIf(this.size > DISK_BYTES_MAX, "it is larger than 1 PiB");
    const l1Bytes = <u64>this.l1Size * 8;
    this.refuseIf(l1Bytes > L1_BYTES_MAX, "its L1 table is larger than 32 MiB");
    const mapped = (<u64>this.l1Size) << (this.clusterBits + this.l2Bits);
    this.refuseIf(mapped < this.size, "its L1 table is too small for its size");
    const isL1 = l1Bytes == 0 || this.isInside(this.l1Offset, l1Bytes, fileBytes);
    this.refuseIf(!isL1, "its L1 table is not inside of the file");
    const bytes = (<u64>this.refcountTableClusters) << this.clusterBits;
    this.refuseIf(bytes > REFCOUNT_TABLE_BYTES_MAX, "its refcount table is larger than 8 MiB");
    const isTable = bytes == 0 || this.isInside(this.refcountTableOffset, bytes, fileBytes);
    this.refuseIf(!isTable, "its refcount table is not inside of the file");
  }

  private checkBacking(): void {
    if (this.backingNameAt == 0) return;
    const length = this.backingNameBytes;
    const isName =
      length > 0 &&
      length <= BACKING_NAME_BYTES_MAX &&
      this.backingNameAt >= this.headerBytes &&
      this.backingNameAt + length <= this.areaBytes;
    this.refuseIf(!isName, "the name of its backing file is not where it should be");
    this.findFormat();
  }

  private findFormat(): void {
    let at = this.headerBytes;
    while (at + EXTENSION_BYTES <= this.backingNameAt) {
      const type = getBE<u32>(area, at);
      const length = getBE<u32>(area, at + 4);
      at += EXTENSION_BYTES;
      if (type == END_OF_EXTENSIONS) return;
      this.refuseIf(length > this.backingNameAt - at, "a header extension goes too far");
      if (type == BACKING_FORMAT) this.backingFormat = formatOf(area, at, length);
      at += (length + 7) & ~7;
    }
  }

  /** Ends the device because of the backing file, which is named by what the header says. */
  refuseBacking(why: string): void {
    logLine(this.name)
      .text(': its backing file "')
      .utf8(area, this.backingNameAt, this.backingNameBytes)
      .text('" ')
      .text(why)
      .refuse();
  }

  /** Why this image must not be written to, if so: then the device ends. */
  checkWritable(): void {
    const dirty = "it was not closed by who wrote it last: qemu-img check -r all, or grant it ro";
    this.refuseIf((this.incompatible & DIRTY) != 0, dirty);
    const corrupt = "it is marked corrupt: qemu-img check -r all, or grant it ro";
    this.refuseIf((this.incompatible & CORRUPT) != 0, corrupt);
    this.refuseIf(this.snapshotCount != 0, "it has snapshots: grant it ro, or qemu-img convert it");
    this.refuseIf(this.refcountOrder != 4, "its refcounts are not of 16 bits: grant it ro");
    this.refuseIf(this.refcountTableClusters == 0, "it has no refcount table: grant it ro");
    const l1End = this.l1Offset + <u64>this.l1Size * 8;
    const tableEnd =
      this.refcountTableOffset + ((<u64>this.refcountTableClusters) << this.clusterBits);
    const overlaps = this.l1Offset < tableEnd && this.refcountTableOffset < l1End;
    this.refuseIf(overlaps, "its L1 table and its refcount table overlap");
  }
}
