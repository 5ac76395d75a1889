// What pump.ts sees of the device's memory, which is this module's.

/** Size of the memory, in pages. */
export function pages(): i32 {
  return memory.size();
}

/** The word at `at`, which is inside. */
export function word(at: u32): u32 {
  return load<u32>(at);
}
