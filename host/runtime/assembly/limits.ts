// Limits of one call. Nothing but numbers: TypeScript and AssemblyScript read this file.

/** Bytes that it moves at most: a larger one is cut short, which every caller must expect. */
export const IO_BYTES_MAX = 1024 * 1024;
