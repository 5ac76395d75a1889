// A qcow2 image (QEMU's docs/interop/qcow2.txt): clusters of the disk, found through two levels of
// tables. What the tables say is hostile, and is looked at each time: an offset is at a whole
// cluster, and what is written to is inside of the file and no table.

import { Chain, File, logLine } from "bulkhead/sdk";
import { Header } from "./header";
import { Image, Target } from "./image";
import { Inflater } from "./inflate";
import { Tables } from "./tables";

/** Bits of an entry of a table. */
export const COPIED: u64 = (<u64>1) << 63;
const COMPRESSED: u64 = (<u64>1) << 62;
export const ZERO: u64 = 1;
export const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;

/** What is known of a cluster of the disk. */
export enum Cluster {
  /** Its tables make no sense, or cannot be read. */
  Bad = 0,
  /** It is the backing file's, or zero. */
  Absent = 1,
  Zero = 2,
  Data = 3,
  Compressed = 4,
}

const inflater = new Inflater();
/** The compressed cluster that was asked for last: which one, and what is in it. */
export let inflated: StaticArray<u8> = [];
let inflatedOwner: u32 = 0;
let inflatedEntry: u64 = 0;

export class Qcow2Image extends Image {
  backing: Image | null = null;
  protected readonly tables: Tables;
  protected readonly clusterMask: u64;
  /** Of the cluster that lookup() was about: the L2 table, its entry, and where that is; or 0. */
  protected table: u64 = 0;
  protected entry: u64 = 0;
  protected entryAt: u64 = 0;

  constructor(
    protected readonly file: File,
    private readonly index: u32,
    protected readonly header: Header,
  ) {
    super();
    this.size = header.size;
    this.clusterBytes = header.clusterBytes;
    this.clusterMask = header.clusterBytes - 1;
    this.tables = new Tables(file, index, header.clusterBytes);
    if (<u32>inflated.length < header.clusterBytes) {
      inflated = new StaticArray<u8>(<i32>header.clusterBytes);
    }
  }

  read(offset: u64, bytes: u32, target: Target): bool {
    let at = offset;
    for (let left = bytes; left > 0; ) {
      const within = <u32>(at & this.clusterMask);
      const piece = min(left, this.clusterBytes - within);
      if (!this.readPiece(at, piece, target)) return false;
      at += piece;
      left -= piece;
    }
    return true;
  }

  // This one is only read: Qcow2Writer is the other kind.

  write(offset: u64, bytes: u32, chain: Chain): bool {
    return false;
  }

  zero(offset: u64, bytes: u64): bool {
    return false;
  }

  flush(): bool {
    return true;
  }

  /** Reads what is in one cluster. */
  private readPiece(offset: u64, bytes: u32, target: Target): bool {
    const within = <u32>(offset & this.clusterMask);
    switch (this.lookup(offset)) {
      case Cluster.Absent:
        return this.readBacking(offset, bytes, target);
      case Cluster.Zero:
        target.addZeroes(bytes);
        return true;
      case Cluster.Data:
        // The last cluster of a file may end early; what is behind is zero.
        return target.addFile(this.file, (this.entry & OFFSET_MASK) + within, bytes, true);
      case Cluster.Compressed:
        if (!this.inflate()) return false;
        target.addArray(inflated, within, bytes);
        return true;
      default:
        return false;
    }
  }

  /** Reads what is behind a cluster that is absent: a backing file may be smaller than the disk. */
  protected readBacking(offset: u64, bytes: u32, target: Target): bool {
    const backing = this.backing;
    let there: u32 = 0;
    if (backing != null && offset < backing.size) {
      there = <u32>min(<u64>bytes, backing.size - offset);
      if (!backing.read(offset, there, target)) return false;
    }
    target.addZeroes(bytes - there);
    return true;
  }

  /** What becomes of the tables of a cluster that make no sense. */
  protected bad(what: string, value: u64): Cluster {
    logLine(this.header.name).text(": corrupt, ").text(what).text(" ").hex(value).end();
    return Cluster.Bad;
  }

  /** Where the entry of the L1 table is that `offset` of the disk needs. */
  protected l1At(offset: u64): u64 {
    return this.header.l1Offset + (offset >> (this.header.clusterBits + this.header.l2Bits)) * 8;
  }

  /** Where its entry is in the L2 table at `table`. */
  protected l2At(table: u64, offset: u64): u64 {
    const index = (offset >> this.header.clusterBits) & (((<u64>1) << this.header.l2Bits) - 1);
    return table + index * 8;
  }

  /** Finds out what the cluster is that `offset` of the disk is in. */
  protected lookup(offset: u64): Cluster {
    this.entry = 0;
    this.entryAt = 0;
    this.table = 0;
    this.tables.failed = false;
    const l1Entry = this.tables.get<u64>(this.l1At(offset));
    if (this.tables.failed) return Cluster.Bad;
    const table = l1Entry & OFFSET_MASK;
    this.table = table;
    if (table == 0) return Cluster.Absent;
    if ((table & this.clusterMask) != 0) return this.bad("L2 table at", table);
    this.entryAt = this.l2At(table, offset);
    this.entry = this.tables.get<u64>(this.entryAt);
    return this.tables.failed ? Cluster.Bad : this.classify();
  }

  private classify(): Cluster {
    const entry = this.entry;
    if ((entry & COMPRESSED) != 0) return Cluster.Compressed;
    const host = entry & OFFSET_MASK;
    if ((host & this.clusterMask) != 0) return this.bad("cluster at", host);
    // In version 2 this bit is reserved.
    if ((entry & ZERO) != 0 && this.header.version > 2) return Cluster.Zero;
    return host == 0 ? Cluster.Absent : Cluster.Data;
  }

  /** Bits of the offset in the entry of a compressed cluster; above are its sectors. */
  protected get compressedBits(): u32 {
    return 62 - (this.header.clusterBits - 8);
  }

  /** Where in the file the compressed cluster of `entry` begins. */
  protected compressedAt(entry: u64): u64 {
    return entry & (((<u64>1) << this.compressedBits) - 1);
  }

  /** Bytes that it may have: to the end of its last sector. */
  protected compressedBytes(entry: u64): u32 {
    const additional = <u32>((entry & (COMPRESSED - 1)) >> this.compressedBits);
    return (additional + 1) * 512 - <u32>(this.compressedAt(entry) & 511);
  }

  /** Has the compressed cluster of `entry` in `inflated`. */
  protected inflate(): bool {
    const entry = this.entry;
    if (inflatedOwner == this.index && inflatedEntry == entry) return true;
    inflatedEntry = 0; // which is no compressed cluster
    const at = this.compressedAt(entry);
    const bytes = this.compressedBytes(entry);
    if (!inflater.inflate(this.file, at, bytes, inflated, this.clusterBytes)) {
      this.bad("compressed cluster at", at);
      return false;
    }
    inflatedOwner = this.index;
    inflatedEntry = entry;
    return true;
  }
}
