// Which clusters of a qcow2 image are in use, and new ones at the end of its file. A reference
// count is on the disk before anything refers to its cluster: whatever happens in between, a
// cluster may be lost, but none is used for two things. To wait for the disk less often, clusters
// are set aside many at a time; what is left of them when the driver goes is given back.

import { File, logLine, setBE } from "bulkhead/sdk";
import { Header, REFCOUNT_TABLE_BYTES_MAX, REFCOUNT_TABLE_OFFSET } from "./header";
import { Barrier, complain, SCRATCH, SCRATCH_BYTES } from "./image";
import { Tables } from "./tables";

/** What is set aside at a time: the larger, the fewer waits, and the more is lost with a device. */
const BATCH_BYTES: u64 = 4 * 1024 * 1024;
const BATCH_CLUSTERS_MIN: u64 = 4;

/** Bits of an entry of the refcount table that are an offset. */
const BLOCK_MASK: u64 = 0xffff_ffff_ffff_fe00;
/** Of 16 bits; checkWritable() refuses others. */
const REFCOUNT_BYTES: u64 = 2;

/** refcount_table_offset and refcount_table_clusters, which follow each other in the header. */
const place = new StaticArray<u8>(12);

@final
export class Refcounts {
  /** Whether the cluster of the last alloc() is all zeros. */
  isFresh: bool = false;
  /** Clusters of the file. */
  private end: u64;
  /** Those that are set aside: from `next` on, up to `limit`. */
  private next: u64 = 0;
  private limit: u64 = 0;
  /** Offset of a cluster that was allocated and not used; 0 if there is none. */
  private spare: u64 = 0;
  private readonly bits: u64;
  private readonly perBlock: u64;

  constructor(
    private readonly file: File,
    private readonly header: Header,
    private readonly tables: Tables,
    private readonly barrier: Barrier,
  ) {
    this.bits = header.clusterBits;
    this.perBlock = header.clusterBytes / REFCOUNT_BYTES;
    this.end = (file.size + header.clusterBytes - 1) >> this.bits;
  }

  /** Whether the cluster at `offset` is inside of the file, and none of the first tables. */
  isPlain(offset: u64): bool {
    const h = this.header;
    const bytes: u64 = h.clusterBytes;
    if (offset < bytes || offset >> this.bits >= this.end) return false;
    const isL1 = offset + bytes > h.l1Offset && offset < h.l1Offset + <u64>h.l1Size * 8;
    const tableEnd = h.refcountTableOffset + ((<u64>h.refcountTableClusters) << this.bits);
    return !isL1 && (offset + bytes <= h.refcountTableOffset || offset >= tableEnd);
  }

  /** Whether the cluster at `offset` has one user; false if it cannot be found out. */
  isSingle(offset: u64): bool {
    const at = this.placeOf(offset >> this.bits);
    return at != 0 && this.tables.get<u16>(at) == 1 && !this.tables.failed;
  }

  /** One user less for the cluster at `offset`. */
  release(offset: u64): bool {
    const at = this.placeOf(offset >> this.bits);
    if (at == 0) return false;
    const count = this.tables.get<u16>(at);
    if (this.tables.failed || count == 0) return false;
    return this.tables.set<u16>(at, count - 1);
  }

  /** Offset of a cluster that nobody else has; 0, with a line in the log, if there is none. */
  alloc(): u64 {
    const spare = this.spare;
    this.isFresh = spare == 0;
    if (spare != 0) {
      this.spare = 0;
      return spare;
    }
    if (this.next == this.limit && !this.reserve()) return 0;
    return this.next++ << this.bits;
  }

  /** The cluster at `offset` was not needed after all; there may be anything in it. */
  giveBack(offset: u64): void {
    this.spare = offset; // one is enough: what fails ends the request
  }

  /** Nothing is set aside any more. */
  rest(): void {
    if (this.next == this.limit) return;
    const at = this.placeOf(this.next);
    if (at == 0 || !this.tables.fill<u16>(at, 0, <u32>(this.limit - this.next))) return;
    this.limit = this.next;
    this.end = this.next;
    this.file.setSize(this.end << this.bits);
  }

  /** Where in the file the count of a cluster is; 0, with a line in the log, if nowhere. */
  private placeOf(cluster: u64): u64 {
    this.tables.failed = false;
    const index = cluster / this.perBlock;
    if (index >= this.capacity) return this.bad("cluster without a refcount", cluster);
    const block = this.tables.get<u64>(this.entryAt(index)) & BLOCK_MASK;
    if (this.tables.failed) return 0;
    if (block == 0) return this.bad("cluster without a refcount", cluster);
    if ((block & (this.header.clusterBytes - 1)) != 0 || !this.isPlain(block)) {
      return this.bad("refcount block at", block);
    }
    return block + (cluster % this.perBlock) * REFCOUNT_BYTES;
  }

  private bad(what: string, value: u64): u64 {
    logLine(this.header.name).text(": corrupt, ").text(what).text(" ").hex(value).end();
    return 0;
  }

  /** Entries of the refcount table. */
  private get capacity(): u64 {
    return ((<u64>this.header.refcountTableClusters) << this.bits) / 8;
  }

  private entryAt(index: u64): u64 {
    return this.header.refcountTableOffset + index * 8;
  }

  /** Makes the file larger, by zeros. */
  private extend(clusters: u64): bool {
    if (this.file.setSize(clusters << this.bits)) return true;
    complain("growing the file", clusters << this.bits, this.file.errno);
    return false;
  }

  /** Sets clusters at the end of the file aside. */
  private reserve(): bool {
    // A block of counts may be the last cluster that it counts: then the next one is needed.
    for (let tries = 0; tries < 2; tries++) {
      const index = this.end / this.perBlock;
      if (index >= this.capacity && !this.growTable()) return false;
      this.tables.failed = false;
      const entry = this.tables.get<u64>(this.entryAt(this.end / this.perBlock));
      if (this.tables.failed) return false;
      if (entry != 0) break;
      if (!this.addBlock()) return false;
    }
    const first = this.end;
    const at = this.placeOf(first);
    if (at == 0) return false;
    const wanted = max(BATCH_CLUSTERS_MIN, BATCH_BYTES >> this.bits);
    const count = min(wanted, this.perBlock - (first % this.perBlock));
    if (!this.extend(first + count)) return false;
    if (!this.tables.fill<u16>(at, 1, <u32>count) || !this.barrier.wait()) return false;
    this.next = first;
    this.limit = first + count;
    this.end = this.limit;
    return true;
  }

  /** Puts a block of counts at the end of the file: the first that it counts is itself. */
  private addBlock(): bool {
    const cluster = this.end;
    const block = cluster << this.bits;
    if (!this.extend(cluster + 1)) return false;
    this.tables.forget(block, this.header.clusterBytes);
    const at = block + (cluster % this.perBlock) * REFCOUNT_BYTES;
    if (!this.tables.set<u16>(at, 1) || !this.barrier.wait()) return false;
    if (!this.tables.set<u64>(this.entryAt(cluster / this.perBlock), block)) return false;
    this.end = cluster + 1;
    return true;
  }

  /**
   * Puts a larger refcount table at the end of the file, and behind it the blocks that count both.
   * The header changes last, in one write.
   */
  private growTable(): bool {
    const first = this.end;
    const index = first / this.perBlock;
    let clusters = <u64>this.header.refcountTableClusters * 2;
    let blocks: u64 = 1;
    for (;;) {
      if (clusters << this.bits > REFCOUNT_TABLE_BYTES_MAX) {
        logLine(this.header.name).text(": it is as large as its refcounts allow").end();
        return false;
      }
      while ((first + clusters + blocks - 1) / this.perBlock - index + 1 > blocks) blocks++;
      if ((clusters << this.bits) / 8 >= index + blocks) break;
      clusters *= 2;
    }
    const total = clusters + blocks;
    if (!this.extend(first + total)) return false;
    const table = first << this.bits;
    this.tables.forget(table, total << this.bits);
    if (!this.copyTable(table)) return false;
    for (let i: u64 = 0; i < blocks; i++) {
      const block = (first + clusters + i) << this.bits;
      if (!this.fillBlock(block, index + i, first, first + total)) return false;
      if (!this.tables.set<u64>(table + (index + i) * 8, block)) return false;
    }
    return this.moveTable(table, <u32>clusters, first + total);
  }

  /** Counts the clusters from `from` to `to` once, as far as they are in the `index`-th block. */
  private fillBlock(block: u64, index: u64, from: u64, to: u64): bool {
    const start = max(from, index * this.perBlock);
    const count = min(to, (index + 1) * this.perBlock) - start;
    const at = block + (start % this.perBlock) * REFCOUNT_BYTES;
    return this.tables.fill<u16>(at, 1, <u32>count);
  }

  private copyTable(to: u64): bool {
    const from = this.header.refcountTableOffset;
    const bytes = (<u64>this.header.refcountTableClusters) << this.bits;
    for (let done: u64 = 0; done < bytes; ) {
      const piece = <u32>min(bytes - done, <u64>SCRATCH_BYTES);
      const isRead = this.file.readBytesAt(from + done, SCRATCH, 0, piece) == piece;
      if (!isRead || this.file.writeBytesAt(to + done, SCRATCH, 0, piece) < piece) {
        complain("moving the refcount table", done, this.file.errno);
        return false;
      }
      done += piece;
    }
    return true;
  }

  /** The refcount table is at `table` from now on, and the file has `end` clusters. */
  private moveTable(table: u64, clusters: u32, end: u64): bool {
    setBE<u64>(place, 0, table);
    setBE<u32>(place, 8, clusters);
    if (!this.barrier.wait()) return false;
    if (this.file.writeBytesAt(REFCOUNT_TABLE_OFFSET, place, 0, 12) < 12) {
      complain("writing the header", REFCOUNT_TABLE_OFFSET, this.file.errno);
      return false;
    }
    if (!this.barrier.wait()) return false;
    const old = this.header.refcountTableOffset;
    const oldClusters = this.header.refcountTableClusters;
    this.header.refcountTableOffset = table;
    this.header.refcountTableClusters = clusters;
    this.end = end;
    for (let i: u64 = 0; i < oldClusters; i++) this.release(old + (i << this.bits));
    return true;
  }
}
