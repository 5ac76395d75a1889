// Which descriptors transfers may use by themselves. Nothing but numbers: TypeScript and
// AssemblyScript read this file.

/**
 * Descriptors of a device that are looked up, and more than can be granted (WASI_FD_FIRST and
 * CAPABILITIES_MAX): a larger one is for JavaScript.
 */
export const FILES_MAX = 16;

/** Of each function, its index: in the table, and of its row of FILES_MAX words in the memory. */
export const FD_READ = 0;
export const FD_WRITE = 1;
export const FD_PREAD = 2;
export const FD_PWRITE = 3;
