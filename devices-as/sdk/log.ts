// Lines for the VMM's log, each with the device's id in front of it there. No grant is needed; what
// comes faster than a person could read is dropped, and the log says so.

import { fd_write } from "./wasi_snapshot_preview1";

/** Bytes of one line; the VMM would cut a longer one as well. */
const LINE_BYTES_MAX: u32 = 960;
/** The descriptor that is the log. */
const LOG_FD: i32 = 2;
const DIGITS_MAX: u32 = 20; // of a u64

const LINE: usize = memory.data(960);
const DIGITS: usize = memory.data(20);
const IOVEC: usize = memory.data(8);
const NWRITTEN: usize = memory.data(4);

let length: u32 = 0;

function put(byte: u8): void {
  if (length == LINE_BYTES_MAX) return;
  store<u8>(LINE + length, byte);
  length += 1;
}

/** Adds as much of `text` as fits: UTF-8 has at most three bytes for each of its units. */
function putText(text: string): void {
  let from = changetype<usize>(text);
  let left = <u32>text.length;
  while (left > 0) {
    const units = min(left, (LINE_BYTES_MAX - length) / 3);
    if (units == 0) return;
    length += <u32>String.UTF8.encodeUnsafe(from, units, LINE + length);
    from += units << 1;
    left -= units;
  }
}

function putDigits(value: u64, base: u32): void {
  let at = DIGITS_MAX;
  do {
    at -= 1;
    const digit = <u8>(value % base);
    store<u8>(DIGITS + at, digit < 10 ? 0x30 + digit : 0x57 + digit);
    value /= base;
  } while (value != 0);
  for (; at < DIGITS_MAX; at++) put(load<u8>(DIGITS + at));
}

/**
 * A line that is being put together, in static memory. There is one; it is never allocated, because
 * a failing assert uses it, also one in the allocator.
 */
@unmanaged
@final
export class Line {
  /** Adds text. */
  text(text: string): Line {
    putText(text);
    return this;
  }

  /** Adds `bytes` bytes of `array` from index `at` on, of UTF-8 or anything else. */
  utf8(array: StaticArray<u8>, at: u32, bytes: u32): Line {
    for (let i: u32 = 0; i < bytes; i++) put(array[at + i]);
    return this;
  }

  /** Adds a decimal number. */
  number<T extends number>(value: T): Line {
    if (isSigned<T>() && <i64>value < 0) {
      put(0x2d);
      putDigits(0 - <u64>(<i64>value), 10);
    } else {
      putDigits(<u64>value, 10);
    }
    return this;
  }

  /** Adds a hexadecimal number, with 0x in front. */
  hex<T extends number>(value: T): Line {
    putText("0x");
    if (sizeof<T>() == 4) putDigits(<u64>(<u32>value), 16);
    else putDigits(<u64>value, 16);
    return this;
  }

  /** Sends the line. */
  end(): void {
    store<u32>(IOVEC, <u32>LINE);
    store<u32>(IOVEC, length, 4);
    if (length > 0) fd_write(LOG_FD, IOVEC, 1, NWRITTEN);
    length = 0;
  }

  /**
   * Sends the line, and the device ends: what the user set or granted cannot be used, and this is
   * why. For Device.start(), as demand(): the VM does not start then.
   */
  refuse(): void {
    this.end();
    unreachable();
  }
}

const line = changetype<Line>(LINE);

/** Writes a line to the VMM's log. */
export function log(text: string): void {
  logLine(text).end();
}

/** Begins a line with something else than text: `logLine("sector ").number(sector).end()`. */
export function logLine(text: string = ""): Line {
  length = 0;
  return line.text(text);
}
