// Files that somebody untrusted wrote.

import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

const { O_RDONLY, O_NONBLOCK } = constants;

/**
 * All of the regular file `path`, or undefined when there is none of that name.
 *
 * @throws Error when it is larger, something else than a file, or cannot be read
 */
export function readBounded(path: string, bytesMax: number): Uint8Array | undefined {
  let fd: number;
  try {
    fd = openSync(path, O_RDONLY | O_NONBLOCK); // a FIFO does not keep us waiting
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error("it is no regular file");
    if (stat.size > bytesMax) throw new Error(`${stat.size} bytes, at most ${bytesMax}`);
    const bytes = new Uint8Array(stat.size);
    let length = 0;
    for (let count = -1; count !== 0 && length < bytes.length; length += count) {
      count = readSync(fd, bytes, length, bytes.length - length, null);
    }
    return bytes.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}
