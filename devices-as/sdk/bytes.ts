// Bytes in arrays: numbers as formats of files have them, and copies. For big-endian ones; those of
// virtio are little-endian, and Chain reads and writes them.

function place(array: StaticArray<u8>, at: u32, bytes: u32): usize {
  const length = <u32>array.length;
  assert(at <= length && bytes <= length - at, "beyond the end of the array");
  return changetype<usize>(array) + at;
}

/** The big-endian number at index `at`: `getBE<u32>(header, 4)`. Traps beyond the end. */
export function getBE<T extends number>(array: StaticArray<u8>, at: u32): T {
  return bswap<T>(load<T>(place(array, at, sizeof<T>())));
}

/** Puts a big-endian number at index `at`. */
export function setBE<T extends number>(array: StaticArray<u8>, at: u32, value: T): void {
  store<T>(place(array, at, sizeof<T>()), bswap<T>(value));
}

/** Copies `bytes` bytes from index `at` of `array` to index `toAt` of `to`; they may overlap. */
export function copyBytes(
  array: StaticArray<u8>,
  at: u32,
  bytes: u32,
  to: StaticArray<u8>,
  toAt: u32,
): void {
  memory.copy(place(to, toAt, bytes), place(array, at, bytes), bytes);
}
