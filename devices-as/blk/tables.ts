// The tables of qcow2 images: big-endian numbers in a file, of which pages are kept in memory. What
// is set goes to the file at once: a device that dies takes nothing with it that was answered.

import { copyBytes, File, getBE, setBE } from "bulkhead/sdk";
import { complain } from "./image";

/** 512 entries of an L2 table: where 32 MiB are, in clusters of 64 KiB. */
const PAGE_BYTES: u32 = 4096;
/** 2 MiB of this module's 16; they map 16 GiB. */
const PAGE_COUNT: u32 = 512;
const FREE: u64 = ~0;

const pages = new StaticArray<u8>(<i32>(PAGE_COUNT * PAGE_BYTES));
/** Which page is in each place: its offset in the file, and above that the number of the image. */
const keys = new StaticArray<u64>(<i32>PAGE_COUNT);
keys.fill(FREE);

/** Offsets are below 2^56 (qcow2's own limit). */
const OWNER_SHIFT: u64 = 56;
const OFFSET_MAX: u64 = ((<u64>1) << OWNER_SHIFT) - 1;

/** The tables of one image. No page crosses a cluster, so none has data beside a table. */
@final
export class Tables {
  /** A read failed since this was made false: what it returned means nothing. */
  failed: bool = false;
  private readonly owner: u64;
  private readonly pageBytes: u32;

  /** @param index of the image, from 0: all share the pages */
  constructor(
    private readonly file: File,
    index: u32,
    clusterBytes: u32,
  ) {
    this.owner = (<u64>index) << OWNER_SHIFT;
    this.pageBytes = min(PAGE_BYTES, clusterBytes);
  }

  /** The number at `offset`, a multiple of its size. */
  get<T extends number>(offset: u64): T {
    const page = this.page(offset);
    return this.failed ? 0 : getBE<T>(pages, page + this.within(offset));
  }

  /** Sets the number at `offset`; false, with a line in the log, if the file does not take it. */
  set<T extends number>(offset: u64, value: T): bool {
    return this.fill<T>(offset, value, 1);
  }

  /** Sets `count` numbers in a row. */
  fill<T extends number>(offset: u64, value: T, count: u32): bool {
    let at = offset;
    for (let left = count; left > 0; ) {
      const start = this.page(at);
      if (this.failed) return false;
      const within = this.within(at);
      const here = min(left, (this.pageBytes - within) / sizeof<T>());
      for (let i: u32 = 0; i < here; i++) setBE<T>(pages, start + within + i * sizeof<T>(), value);
      const bytes = here * sizeof<T>();
      if (!this.put(at, start + within, bytes)) return false;
      at += bytes;
      left -= here;
    }
    return true;
  }

  /** What is at `offset`, which is no table yet, may have been written past the pages. */
  forget(offset: u64, bytes: u64): void {
    const end = offset + bytes;
    for (let at = offset; at < end; at += this.pageBytes) {
      const place = this.placeOf(at);
      if (keys[place] == (this.owner | at)) keys[place] = FREE;
    }
  }

  private within(offset: u64): u32 {
    return <u32>(offset & (this.pageBytes - 1));
  }

  private placeOf(offset: u64): u32 {
    const number = offset / this.pageBytes + (this.owner >> 53);
    return <u32>((number ^ (number >> 9)) % PAGE_COUNT);
  }

  /** Index in `pages` of the page that `offset` is in; there is none when this has failed. */
  private page(offset: u64): u32 {
    assert(offset <= OFFSET_MAX, "an offset that no table has");
    const first = offset - this.within(offset);
    const place = this.placeOf(first);
    const start = place * PAGE_BYTES;
    if (keys[place] == (this.owner | first)) return start;
    keys[place] = FREE;
    const count = this.file.readBytesAt(first, pages, start, this.pageBytes);
    if (count < this.pageBytes) {
      if (this.file.errno != 0) {
        complain("reading a table", first, this.file.errno);
        this.failed = true;
        return 0;
      }
      pages.fill(0, start + count, start + this.pageBytes); // behind the end of the file
    }
    keys[place] = this.owner | first;
    return start;
  }

  private put(offset: u64, at: u32, bytes: u32): bool {
    const count = this.file.writeBytesAt(offset, pages, at, bytes);
    if (count == bytes) return true;
    complain("writing a table", offset, this.file.errno);
    this.forget(offset - this.within(offset), 1);
    return false;
  }
}
