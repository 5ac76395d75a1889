// The exports of memory.ts, which sees the device's memory.

/** Size of the memory, in pages. */
export declare function pages(): i32;
/** The word at `at`, which is inside. */
export declare function word(at: u32): u32;
