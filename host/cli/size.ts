// Sizes and counts as a user writes them: `512M`, `1G`, and a bare number in MiB, as in lkvm.

import { usageError } from "./usage.js";

const SUFFIX_BYTES: Readonly<Record<string, number>> = {
  "": 1024 ** 2,
  B: 1,
  K: 1024,
  M: 1024 ** 2,
  G: 1024 ** 3,
  T: 1024 ** 4,
};

/** Guest memory comes in whole pages: the KVM memory slot that holds it does. */
const PAGE_BYTES = 4096;

/** Inclusive bounds of a value. */
interface Range {
  min: number;
  max: number;
}

/** `bytes` as the largest unit that it is a whole number of: 536870912 → "512M". */
export function formatSize(bytes: number): string {
  const unit = ["T", "G", "M", "K"].find((suffix) => bytes % SUFFIX_BYTES[suffix]! === 0);
  return unit === undefined ? `${bytes}B` : `${bytes / SUFFIX_BYTES[unit]!}${unit}`;
}

/** Bytes of a size such as "512M", "1G" or "512" (MiB); ERR_USAGE when it is no such size. */
export function parseMemorySize(text: string, range: Range): number {
  const match = /^(\d{1,12})([BKMGT]?)$/i.exec(text);
  if (match === null) {
    throw usageError(
      `Cannot use memory size "${text}": it is no number with one of the suffixes B, K, M, G, T`,
      "write it as in -m 512M or -m 1G; a bare number is in MiB",
    );
  }
  const bytes = Number(match[1]) * SUFFIX_BYTES[match[2]!.toUpperCase()]!;
  if (bytes < range.min || bytes > range.max) {
    throw usageError(
      `Cannot use memory size "${text}": ${bytes < range.min ? "too little" : "too much"}`,
      `a guest has from ${formatSize(range.min)} to ${formatSize(range.max)}`,
    );
  }
  if (bytes % PAGE_BYTES !== 0) {
    throw usageError(`Cannot use memory size "${text}": it is no multiple of the page size, 4K`);
  }
  return bytes;
}

/** A count such as "2"; ERR_USAGE when it is no number or out of range. */
export function parseCpuCount(text: string, range: Range): number {
  const count = /^\d{1,6}$/.test(text) ? Number(text) : Number.NaN;
  if (count >= range.min && count <= range.max) return count;
  const cause = Number.isNaN(count) ? "it is no whole number" : "out of range";
  throw usageError(
    `Cannot use CPU count "${text}": ${cause}`,
    `a guest has from ${range.min} to ${range.max} CPUs`,
  );
}
