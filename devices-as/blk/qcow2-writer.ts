// Writing to a qcow2 image. What can be referred to is on the disk before the reference: data that
// is copied before the entry that makes it the disk's, counts before both (refcounts.ts). What is
// new in the last clusters of the file needs no such wait: before it is on the disk it is zero, and
// so was the disk.

import { Chain, File, getBE, setBE } from "bulkhead/sdk";
import { AUTOCLEAR_FEATURES, Header } from "./header";
import { Barrier, complain, SCRATCH, SCRATCH_BYTES, Target } from "./image";
import { Cluster, COPIED, inflated, OFFSET_MASK, Qcow2Image, ZERO } from "./qcow2";
import { zeroFile } from "./raw";
import { Refcounts } from "./refcounts";

const target = new Target();

function isZero(bytes: u32): bool {
  for (let at: u32 = 0; at < bytes; at += 8) {
    if (getBE<u64>(SCRATCH, at) != 0) return false;
  }
  return true;
}

@final
export class Qcow2Writer extends Qcow2Image {
  private readonly barrier: Barrier;
  private refcounts!: Refcounts;
  /** What was copied into a new cluster is not all zero. */
  private copied: bool = false;

  constructor(file: File, index: u32, header: Header) {
    super(file, index, header);
    header.checkWritable();
    this.barrier = new Barrier(file);
    this.refcounts = new Refcounts(file, header, this.tables, this.barrier);
    if (header.autoclear != 0) this.clearFeatures();
  }

  /** Of what these features are about nobody takes care here. */
  private clearFeatures(): void {
    setBE<u64>(SCRATCH, 0, 0);
    const isDone = this.file.writeBytesAt(AUTOCLEAR_FEATURES, SCRATCH, 0, 8) == 8;
    this.header.refuseIf(!isDone || !this.barrier.wait(), "its header cannot be written");
  }

  write(offset: u64, bytes: u32, chain: Chain): bool {
    let at = offset;
    for (let left = bytes; left > 0; ) {
      const piece = min(left, this.clusterBytes - <u32>(at & this.clusterMask));
      if (!this.writePiece(at, piece, chain)) return false;
      at += piece;
      left -= piece;
    }
    return true;
  }

  zero(offset: u64, bytes: u64): bool {
    const end = offset + bytes;
    for (let at = offset; at < end; ) {
      const within = <u32>(at & this.clusterMask);
      const piece = <u32>min(end - at, <u64>(this.clusterBytes - within));
      const isWhole = within == 0 && (piece == this.clusterBytes || at + piece == this.size);
      const marks = isWhole && this.header.version > 2;
      if (!(marks ? this.markZero(at) : this.writePiece(at, piece, null))) return false;
      at += piece;
    }
    return true;
  }

  flush(): bool {
    return this.barrier.wait();
  }

  rest(): void {
    this.refcounts.rest();
  }

  /** Whether what is absent at `offset` is zero. */
  private isHole(offset: u64): bool {
    const backing = this.backing;
    return backing == null || (offset & ~this.clusterMask) >= backing.size;
  }

  /** Whether a cluster that is referred to by `entry` is this disk's alone, and no table. */
  private isOwn(entry: u64): bool {
    const host = entry & OFFSET_MASK;
    const isPlain = this.refcounts.isPlain(host);
    if (isPlain && ((entry & COPIED) != 0 || this.refcounts.isSingle(host))) return true;
    this.bad("not to be written, cluster at", host);
    return false;
  }

  /** Writes what is in one cluster: the driver's bytes, or zeros without a `chain`. */
  private writePiece(offset: u64, bytes: u32, chain: Chain | null): bool {
    const kind = this.lookup(offset);
    if (kind == Cluster.Bad) return false;
    const isZeroAlready = kind == Cluster.Zero || (kind == Cluster.Absent && this.isHole(offset));
    if (chain == null && isZeroAlready) return true;
    if (kind != Cluster.Data) return this.renew(kind, offset, bytes, chain);
    if (!this.refcounts.isPlain(this.table) || !this.isOwn(this.entry)) return false;
    const host = this.entry & OFFSET_MASK;
    return this.put(host + (offset & this.clusterMask), bytes, chain);
  }

  private put(at: u64, bytes: u32, chain: Chain | null): bool {
    if (chain == null) return zeroFile(this.file, at, bytes);
    const count = chain.readIntoAt(this.file, at, bytes);
    if (count == bytes) return true;
    complain("writing", at + count, this.file.errno);
    return false;
  }

  /** Gives a cluster that has none, or one that is not written as it is, a place of its own. */
  private renew(kind: Cluster, offset: u64, bytes: u32, chain: Chain | null): bool {
    const entry = this.entry;
    if (kind == Cluster.Compressed && !this.inflate()) return false;
    if (!this.findTable(offset)) return false;
    // One that is marked zero may have kept its place, with whatever was there.
    const kept = kind == Cluster.Zero ? entry & OFFSET_MASK : 0;
    if (kept != 0 && !this.isOwn(entry)) return false;
    const host = kept != 0 ? kept : this.refcounts.alloc();
    if (host == 0) return false;
    const isFresh = kept == 0 && this.refcounts.isFresh;
    if (!this.fill(kind, offset, bytes, chain, host, isFresh)) {
      if (kept == 0) this.refcounts.giveBack(host);
      return false;
    }
    if ((this.copied || !isFresh) && !this.barrier.wait()) return false;
    if (!this.tables.set<u64>(this.entryAt, host | COPIED)) return false;
    return kind != Cluster.Compressed || this.releaseCompressed(entry);
  }

  /** Fills the cluster at `host`: with `bytes` bytes, and around them what was there. */
  private fill(
    kind: Cluster,
    offset: u64,
    bytes: u32,
    chain: Chain | null,
    host: u64,
    isFresh: bool,
  ): bool {
    const within = <u32>(offset & this.clusterMask);
    const rest = this.clusterBytes - within - bytes;
    this.copied = false;
    if (!this.copy(kind, offset - within, within, host, isFresh)) return false;
    if (!this.put(host + within, bytes, chain)) return false;
    return this.copy(kind, offset + bytes, rest, host + within + bytes, isFresh);
  }

  /** Copies what is at `offset` of the disk to `at` in the file. */
  private copy(kind: Cluster, offset: u64, bytes: u32, at: u64, isFresh: bool): bool {
    if (kind == Cluster.Compressed) {
      this.copied = true;
      const count = this.file.writeBytesAt(at, inflated, <u32>(offset & this.clusterMask), bytes);
      if (count < bytes) complain("writing", at + count, this.file.errno);
      return count == bytes;
    }
    if (kind == Cluster.Zero || this.isHole(offset)) {
      return isFresh || zeroFile(this.file, at, bytes);
    }
    for (let done: u32 = 0; done < bytes; ) {
      const piece = min(bytes - done, SCRATCH_BYTES);
      if (!this.readBacking(offset + done, piece, target.toArray(SCRATCH, 0))) return false;
      if (!isFresh || !isZero(piece)) {
        this.copied = true;
        const count = this.file.writeBytesAt(at + done, SCRATCH, 0, piece);
        if (count < piece) {
          complain("writing", at + done + count, this.file.errno);
          return false;
        }
      }
      done += piece;
    }
    return true;
  }

  /** Makes sure that there is an L2 table for `offset`: `entryAt` is in it then. */
  private findTable(offset: u64): bool {
    this.tables.failed = false;
    const at = this.l1At(offset);
    const l1Entry = this.tables.get<u64>(at);
    if (this.tables.failed) return false;
    let table = l1Entry & OFFSET_MASK;
    if (table != 0) {
      if (!this.isOwn(l1Entry)) return false;
    } else {
      table = this.refcounts.alloc();
      if (table == 0) return false;
      if (!this.refcounts.isFresh) {
        if (!zeroFile(this.file, table, this.clusterBytes) || !this.barrier.wait()) return false;
      }
      this.tables.forget(table, this.clusterBytes);
      if (!this.tables.set<u64>(at, table | COPIED)) return false;
    }
    this.entryAt = this.l2At(table, offset);
    return true;
  }

  /** Makes a whole cluster zero, without writing zeros: one that has a place keeps it. */
  private markZero(offset: u64): bool {
    const kind = this.lookup(offset);
    if (kind == Cluster.Bad) return false;
    if (kind == Cluster.Zero || (kind == Cluster.Absent && this.isHole(offset))) return true;
    const entry = this.entry;
    if (kind == Cluster.Data && !this.isOwn(entry)) return false;
    if (!this.findTable(offset)) return false;
    const kept = kind == Cluster.Data ? (entry & OFFSET_MASK) | COPIED : 0;
    if (!this.tables.set<u64>(this.entryAt, kept | ZERO)) return false;
    return kind != Cluster.Compressed || this.releaseCompressed(entry);
  }

  /** Nothing refers to a compressed cluster any more; its counts change after that is known. */
  private releaseCompressed(entry: u64): bool {
    if (!this.barrier.wait()) return false;
    const at = this.compressedAt(entry);
    const last = (at + this.compressedBytes(entry) - 1) & ~this.clusterMask;
    for (let each = at & ~this.clusterMask; each <= last; each += this.clusterBytes) {
      this.refcounts.release(each);
    }
    return true;
  }
}
