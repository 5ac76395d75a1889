// Memory outside the JavaScript heap, at an address that never moves.

import { assert } from "../errors.js";
import { checked, mmap, munmap, viewOf } from "./libc.js";

export const PROT_NONE = 0;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const PROT_EXEC = 4;
export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;
export const PAGE_BYTES = 4096;

/** koffi.view() aborts the process above 4 GiB: the largest stretch that one view may cover. */
export const VIEW_BYTES_MAX = 1 << 30;

/** A stretch of mapped memory: `address` for system calls, `view` for JavaScript. */
export class Mapping {
  readonly address: number;
  readonly bytes: number;
  #view: DataView<ArrayBuffer> | undefined;

  private constructor(address: number, bytes: number) {
    this.address = address;
    this.bytes = bytes;
  }

  /** Zeroed private memory, rounded up to whole pages. */
  static anonymous(bytes: number): Mapping {
    const size = Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
    const flags = MAP_PRIVATE | MAP_ANONYMOUS;
    const address = mmap(0, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    return new Mapping(checked(address, "mmap", `Cannot map ${size} bytes`), size);
  }

  /** Shared, readable and writable mapping of the first `bytes` of `fd`. */
  static shared(fd: number, bytes: number): Mapping {
    const flags = MAP_SHARED | MAP_NORESERVE;
    const address = mmap(0, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    return new Mapping(checked(address, "mmap", `Cannot map ${bytes} bytes of fd ${fd}`), bytes);
  }

  /** The whole mapping as a DataView; only for mappings of up to VIEW_BYTES_MAX. */
  get view(): DataView<ArrayBuffer> {
    assert(this.bytes <= VIEW_BYTES_MAX, "a view of more than 1 GiB");
    this.#view ??= new DataView(viewOf(this.address, this.bytes));
    return this.#view;
  }

  /** The whole mapping as 32-bit words. */
  get words(): Uint32Array<ArrayBuffer> {
    return new Uint32Array(this.view.buffer, 0, this.bytes / 4);
  }

  /** Unmaps; no view of it may be touched afterwards. */
  close(): void {
    munmap(this.address, this.bytes);
  }
}
