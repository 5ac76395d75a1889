// DEFLATE (RFC 1951), for compressed clusters: from a file into an array, which is the window as
// well. What is compressed is hostile: each step consumes input, of which there is a bounded
// amount, or fills the array, and a length, distance or code that makes no sense ends it.

import { File } from "bulkhead/sdk";

/** Bytes of input that are read at a time. */
const INPUT_BYTES: u32 = 16 * 1024;

/** Bits of the longest code; codes of literals and lengths, and of distances (§3.2.5, §3.2.7). */
const BITS_MAX: u32 = 15;
const LITERALS_MAX: u32 = 288;
const LITERALS_USED: u32 = 286;
const DISTANCES_MAX: u32 = 30;
const END_OF_BLOCK: u32 = 256;
/** In this order are the lengths of the codes for code lengths (§3.2.7). */
const ORDER: StaticArray<u8> = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** Lengths and distances by their codes: the first of each, and its extra bits (§3.2.5). */
const LENGTH_FIRST: StaticArray<u16> = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
  163, 195, 227, 258,
];
const LENGTH_EXTRA: StaticArray<u8> = [
  0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
];
const DISTANCE_FIRST: StaticArray<u16> = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049,
  3073, 4097, 6145, 8193, 12289, 16385, 24577,
];
const DISTANCE_EXTRA: StaticArray<u8> = [
  0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13,
];

const NONE: u32 = 0xffff_ffff;

/** A set of codes: how many there are of each length, and their symbols in order. */
@final
class Codes {
  readonly counts: StaticArray<u16> = new StaticArray<u16>(<i32>BITS_MAX + 1);
  readonly symbols: StaticArray<u16> = new StaticArray<u16>(<i32>LITERALS_MAX);
  private readonly offsets: StaticArray<u16> = new StaticArray<u16>(<i32>BITS_MAX + 1);

  /**
   * Makes the codes of `count` symbols whose lengths are in `lengths` from index `at` on. Returns
   * how many more there could have been; below 0 if there are too many.
   */
  build(lengths: StaticArray<u8>, at: u32, count: u32): i32 {
    this.counts.fill(0);
    for (let i: u32 = 0; i < count; i++) this.counts[lengths[at + i]] += 1;
    if (this.counts[0] == count) return 0;
    let left: i32 = 1;
    for (let bits: u32 = 1; bits <= BITS_MAX; bits++) {
      left = (left << 1) - <i32>this.counts[bits];
      if (left < 0) return left;
    }
    this.offsets[1] = 0;
    for (let bits: u32 = 1; bits < BITS_MAX; bits++) {
      this.offsets[bits + 1] = this.offsets[bits] + this.counts[bits];
    }
    for (let i: u32 = 0; i < count; i++) {
      const bits = lengths[at + i];
      if (bits != 0) this.symbols[this.offsets[bits]++] = <u16>i;
    }
    return left;
  }
}

@final
export class Inflater {
  private readonly input: StaticArray<u8> = new StaticArray<u8>(<i32>INPUT_BYTES);
  private readonly lengths: StaticArray<u8> = new StaticArray<u8>(320);
  private readonly literals: Codes = new Codes();
  private readonly distances: Codes = new Codes();
  private file: File | null = null;
  private offset: u64 = 0;
  private left: u32 = 0;
  private inputAt: u32 = 0;
  private inputEnd: u32 = 0;
  private bitBuffer: u32 = 0;
  private bitCount: u32 = 0;
  private output: StaticArray<u8> = [];
  private done: u32 = 0;
  private end: u32 = 0;
  private failed: bool = false;

  /**
   * Fills the first `bytes` bytes of `output` from what is at `offset` of `file`, at most
   * `inputBytes` bytes. Returns whether there were that many.
   */
  inflate(file: File, offset: u64, inputBytes: u32, output: StaticArray<u8>, bytes: u32): bool {
    this.file = file;
    this.offset = offset;
    this.left = inputBytes;
    this.inputAt = 0;
    this.inputEnd = 0;
    this.bitCount = 0;
    this.bitBuffer = 0;
    this.output = output;
    this.done = 0;
    this.end = bytes;
    this.failed = false;
    let isLast = false;
    while (!isLast && !this.failed && this.done < this.end) {
      isLast = this.bits(1) == 1;
      this.block(this.bits(2));
    }
    return !this.failed && this.done == this.end;
  }

  private block(type: u32): void {
    if (type == 0) this.stored();
    else if (type == 1) this.fixed();
    else if (type == 2) this.dynamic();
    else this.failed = true;
  }

  private nextByte(): u32 {
    if (this.inputAt == this.inputEnd) {
      const wanted = min(this.left, INPUT_BYTES);
      const count = wanted == 0 ? 0 : this.file!.readBytesAt(this.offset, this.input, 0, wanted);
      if (count == 0) {
        this.failed = true;
        return 0;
      }
      this.offset += count;
      this.left -= count;
      this.inputAt = 0;
      this.inputEnd = count;
    }
    return this.input[this.inputAt++];
  }

  private bits(count: u32): u32 {
    while (this.bitCount < count) {
      this.bitBuffer |= this.nextByte() << this.bitCount;
      this.bitCount += 8;
    }
    const value = this.bitBuffer & ((1 << count) - 1);
    this.bitBuffer >>= count;
    this.bitCount -= count;
    return value;
  }

  /** Bytes as they are, behind their count and its complement (§3.2.4). */
  private stored(): void {
    this.bitCount = 0;
    this.bitBuffer = 0;
    const length = this.nextByte() | (this.nextByte() << 8);
    const complement = this.nextByte() | (this.nextByte() << 8);
    if (length != (~complement & 0xffff)) this.failed = true;
    for (let i: u32 = 0; i < length && this.done < this.end && !this.failed; i++) {
      this.output[this.done++] = <u8>this.nextByte();
    }
  }

  private fixed(): void {
    for (let i: u32 = 0; i < LITERALS_MAX; i++) {
      this.lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    }
    this.literals.build(this.lengths, 0, LITERALS_MAX);
    this.lengths.fill(5, 0, <i32>DISTANCES_MAX);
    this.distances.build(this.lengths, 0, DISTANCES_MAX);
    this.decode();
  }

  private dynamic(): void {
    const literalCount = this.bits(5) + 257;
    const distanceCount = this.bits(5) + 1;
    const codeCount = this.bits(4) + 4;
    if (literalCount > LITERALS_USED || distanceCount > DISTANCES_MAX) this.failed = true;
    this.lengths.fill(0);
    for (let i: u32 = 0; i < codeCount; i++) this.lengths[ORDER[i]] = <u8>this.bits(3);
    if (this.failed || this.literals.build(this.lengths, 0, 19) != 0) {
      this.failed = true;
      return;
    }
    this.readLengths(literalCount + distanceCount);
    if (this.failed || this.lengths[END_OF_BLOCK] == 0) {
      this.failed = true;
      return;
    }
    // An incomplete code is one of a single symbol, if it is legal at all.
    const left = this.literals.build(this.lengths, 0, literalCount);
    const isLiteral = left == 0 || (left > 0 && literalCount - this.literals.counts[0] == 1);
    const rest = this.distances.build(this.lengths, literalCount, distanceCount);
    const isDistance = rest == 0 || (rest > 0 && distanceCount - this.distances.counts[0] == 1);
    if (isLiteral && isDistance) this.decode();
    else this.failed = true;
  }

  /** The lengths of both sets of codes, which repetitions may cross (§3.2.7). */
  private readLengths(count: u32): void {
    let index: u32 = 0;
    while (index < count && !this.failed) {
      const symbol = this.symbol(this.literals);
      if (symbol < 16) {
        this.lengths[index++] = <u8>symbol;
        continue;
      }
      let length: u8 = 0;
      let times: u32 = 0;
      if (symbol == 16 && index > 0) {
        length = this.lengths[index - 1];
        times = 3 + this.bits(2);
      } else if (symbol == 17) times = 3 + this.bits(3);
      else if (symbol == 18) times = 11 + this.bits(7);
      if (times == 0 || times > count - index) this.failed = true;
      else for (; times > 0; times--) this.lengths[index++] = length;
    }
  }

  /** The next symbol of `codes`; NONE, and it has failed, if the bits are none. */
  private symbol(codes: Codes): u32 {
    let code: i32 = 0;
    let first: i32 = 0;
    let index: i32 = 0;
    for (let bits: u32 = 1; bits <= BITS_MAX && !this.failed; bits++) {
      code |= <i32>this.bits(1);
      const count = <i32>codes.counts[bits];
      if (code - count < first) return codes.symbols[index + (code - first)];
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    this.failed = true;
    return NONE;
  }

  private decode(): void {
    while (!this.failed && this.done < this.end) {
      const symbol = this.symbol(this.literals);
      if (symbol == END_OF_BLOCK) return;
      if (symbol < END_OF_BLOCK) this.output[this.done++] = <u8>symbol;
      else this.repeat(symbol - END_OF_BLOCK - 1);
    }
  }

  /** Bytes that were there before. */
  private repeat(lengthCode: u32): void {
    if (this.failed || lengthCode >= <u32>LENGTH_FIRST.length) {
      this.failed = true;
      return;
    }
    const length = <u32>LENGTH_FIRST[lengthCode] + this.bits(LENGTH_EXTRA[lengthCode]);
    const code = this.symbol(this.distances);
    if (code >= DISTANCES_MAX) this.failed = true;
    if (this.failed) return;
    const distance = <u32>DISTANCE_FIRST[code] + this.bits(DISTANCE_EXTRA[code]);
    if (distance > this.done) {
      this.failed = true;
      return;
    }
    const stop = min(this.end, this.done + length);
    for (; this.done < stop; this.done++) {
      this.output[this.done] = this.output[this.done - distance];
    }
  }
}
