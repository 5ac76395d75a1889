// One request: a chain of buffers that the driver made available (virtio v1.2 §2.7).

import { Descriptor } from "./descriptor";
import { File } from "./file";

/**
 * Bytes of the readable part of a request, and of its writable part, that a device ever sees. A
 * longer writable part is cut, so a device whose answers have something at their end must tell its
 * driver to ask for less.
 */
export const CHAIN_BYTES_MAX: u32 = 1024 * 1024;

/** Address of `bytes` bytes of `array` from index `at` on; traps if they are not all inside. */
function inside(array: StaticArray<u8>, at: u32, bytes: u32): usize {
  const length = <u32>array.length;
  assert(at <= length && bytes <= length - at, "beyond the end of the array");
  return changetype<usize>(array) + at;
}

/**
 * The readable part of a request, consumed from its front, and the writable part, filled from its
 * front. Both are bounded: a device that goes beyond either one traps, and never touches the bytes
 * of another request.
 */
@final
export class Chain {
  private readAt: usize = 0;
  private readEnd: usize = 0;
  private writeAt: usize = 0;
  private writeEnd: usize = 0;
  private isWaiting: bool = false;

  /** Points the chain at the windows of the next request. */
  @unsafe
  open(readable: usize, readableBytes: u32, writable: usize, writableBytes: u32): void {
    this.readAt = readable;
    this.readEnd = readable + readableBytes;
    this.writeAt = writable;
    this.writeEnd = writable + writableBytes;
    this.isWaiting = false;
  }

  /**
   * Leaves the request unanswered for now. It is served again, from its start, when something has
   * happened: what the device waits for, or another request. Those behind it in its queue wait,
   * too. What was written is forgotten.
   */
  wait(): void {
    this.isWaiting = true;
  }

  /** Whether wait() was called. */
  get waits(): bool {
    return this.isWaiting;
  }

  /** Bytes that are left to read. */
  get readable(): u32 {
    return <u32>(this.readEnd - this.readAt);
  }

  /** Bytes that are left to write. */
  get writable(): u32 {
    return <u32>(this.writeEnd - this.writeAt);
  }

  /** Reads one little-endian number: `chain.read<u32>()`. Check `readable` first, or trap. */
  read<T extends number>(): T {
    assert(this.readable >= sizeof<T>(), "read beyond the request");
    const value = load<T>(this.readAt);
    this.readAt += sizeof<T>();
    return value;
  }

  /** Writes one little-endian number: `chain.write<u8>(0)`. Check `writable` first, or trap. */
  write<T extends number>(value: T): void {
    assert(this.writable >= sizeof<T>(), "write beyond the request");
    store<T>(this.writeAt, value);
    this.writeAt += sizeof<T>();
  }

  /** Skips `bytes` readable bytes. */
  skip(bytes: u32): void {
    assert(bytes <= this.readable, "read beyond the request");
    this.readAt += bytes;
  }

  /** Reads `bytes` bytes into `to`, from its index `at` on. Traps beyond the end of either. */
  readTo(to: StaticArray<u8>, at: u32, bytes: u32): void {
    assert(bytes <= this.readable, "read beyond the request");
    memory.copy(inside(to, at, bytes), this.readAt, bytes);
    this.readAt += bytes;
  }

  /** Writes `bytes` bytes of `from`, from its index `at` on. Traps beyond the end of either. */
  writeOf(from: StaticArray<u8>, at: u32, bytes: u32): void {
    assert(bytes <= this.writable, "write beyond the request");
    memory.copy(this.writeAt, inside(from, at, bytes), bytes);
    this.writeAt += bytes;
  }

  /** Writes `text` as UTF-8, and zeros behind it up to `bytes` bytes. Traps if it is longer. */
  writeText(text: string, bytes: u32): void {
    const length = <u32>String.UTF8.byteLength(text);
    assert(bytes <= this.writable, "write beyond the request");
    assert(length <= bytes, "a text longer than its place");
    String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, this.writeAt);
    this.writeAt += length;
    this.fill(0, bytes - length);
  }

  /** Writes `bytes` times the byte `value`. */
  fill(value: u8, bytes: u32): void {
    assert(bytes <= this.writable, "write beyond the request");
    memory.fill(this.writeAt, value, bytes);
    this.writeAt += bytes;
  }

  /**
   * Reads from `source` straight into the request, until `bytes` bytes are there, the source ends
   * or has no more for now, or it fails (then `source.errno` says why); of packets, one. Returns
   * how many bytes were written.
   */
  writeFrom(source: Descriptor, bytes: u32): u32 {
    assert(bytes <= this.writable, "write beyond the request");
    const start = this.writeAt;
    const end = start + bytes;
    while (this.writeAt < end) {
      const count = source.read(this.writeAt, <u32>(end - this.writeAt));
      this.writeAt += count;
      if (count == 0 || source.packets) break;
    }
    return <u32>(this.writeAt - start);
  }

  /** As writeFrom(), at `offset` of a file. */
  writeFromAt(source: File, offset: u64, bytes: u32): u32 {
    assert(bytes <= this.writable, "write beyond the request");
    const start = this.writeAt;
    const end = start + bytes;
    while (this.writeAt < end) {
      const done = this.writeAt - start;
      const count = source.readAt(offset + done, this.writeAt, bytes - <u32>done);
      if (count == 0) break;
      this.writeAt += count;
    }
    return <u32>(this.writeAt - start);
  }

  /**
   * Writes the next `bytes` bytes of the request to `sink`, until it takes no more for now or fails
   * (then `sink.errno` says why); of packets, one. Returns how many bytes were consumed.
   */
  readInto(sink: Descriptor, bytes: u32): u32 {
    assert(bytes <= this.readable, "read beyond the request");
    const start = this.readAt;
    const end = start + bytes;
    while (this.readAt < end) {
      const count = sink.write(this.readAt, <u32>(end - this.readAt));
      this.readAt += count;
      if (count == 0 || sink.packets) break;
    }
    return <u32>(this.readAt - start);
  }

  /** As readInto(), at `offset` of a file. */
  readIntoAt(sink: File, offset: u64, bytes: u32): u32 {
    assert(bytes <= this.readable, "read beyond the request");
    const start = this.readAt;
    const end = start + bytes;
    while (this.readAt < end) {
      const done = this.readAt - start;
      const count = sink.writeAt(offset + done, this.readAt, bytes - <u32>done);
      if (count == 0) break;
      this.readAt += count;
    }
    return <u32>(this.readAt - start);
  }
}
