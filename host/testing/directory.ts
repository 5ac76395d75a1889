// A directory in memory, with files and nothing else in it.

import { DIRENT_BYTES, type Opening } from "../runtime/directory-calls.js";
import { ERRNO_INVAL, wasiErrno } from "../runtime/errno.js";
import type { Right } from "../sandbox/grants.js";
import { Descriptor } from "./descriptor.js";
import { type Bytes, type Grant, MemoryFile, type RightsWord } from "./grants.js";

const ERRNO_NOENT = wasiErrno("NOENT");
const ERRNO_EXIST = wasiErrno("EXIST");
const ERRNO_NOTDIR = wasiErrno("NOTDIR");
/** `oflags`, `fdflags` and `filetype` of WASI. */
const [OFLAGS_CREAT, OFLAGS_DIRECTORY, OFLAGS_EXCL, OFLAGS_TRUNC] = [1, 2, 4, 8] as const;
const FDFLAGS_APPEND = 1;
const FILETYPE_REGULAR_FILE = 4;

/** A directory: what the test puts into `files` the device finds, and the other way round. */
export class MemoryDirectory implements Grant {
  readonly kind = "dir";
  readonly what = "in memory";
  readonly rights: RightsWord | undefined;
  /** By name. */
  readonly files: Map<string, MemoryFile>;

  constructor(files: Readonly<Record<string, Bytes | number>>, rights?: RightsWord) {
    const entries = Object.entries(files);
    this.files = new Map(entries.map(([name, contents]) => [name, new MemoryFile(contents)]));
    this.rights = rights;
  }

  open(_rights: readonly Right[]): Descriptor {
    return new OpenDirectory(this.files);
  }
}

class OpenDirectory extends Descriptor {
  readonly #files: Map<string, MemoryFile>;

  constructor(files: Map<string, MemoryFile>) {
    super();
    this.#files = files;
  }

  override openAt(name: string, { oflags, fdflags }: Opening): Descriptor | number {
    if (name === ".") return new OpenDirectory(this.#files);
    if ((oflags & OFLAGS_DIRECTORY) !== 0) return -ERRNO_NOTDIR;
    let file = this.#files.get(name);
    if (file !== undefined && (oflags & OFLAGS_EXCL) !== 0) return -ERRNO_EXIST;
    if (file === undefined) {
      if ((oflags & OFLAGS_CREAT) === 0) return -ERRNO_NOENT;
      file = new MemoryFile(0);
      this.#files.set(name, file);
    }
    if ((oflags & OFLAGS_TRUNC) !== 0) file.bytes = new Uint8Array(0);
    return file.open((fdflags & FDFLAGS_APPEND) !== 0 ? ["append"] : ["read", "write"]);
  }

  override unlink(name: string): number {
    return this.#files.delete(name) ? 0 : -ERRNO_NOENT;
  }

  override list(into: DataView, cookie: bigint): number {
    const names = [...this.#files.keys()].map((name) => new TextEncoder().encode(name));
    if (cookie > names.length) return -ERRNO_INVAL;
    let used = 0;
    for (const [i, name] of names.entries()) {
      if (i < Number(cookie)) continue;
      if (used + DIRENT_BYTES + name.length > into.byteLength) break;
      into.setBigUint64(used, BigInt(i + 1), true);
      into.setBigUint64(used + 8, BigInt(i + 1), true);
      into.setUint32(used + 16, name.length, true);
      into.setUint32(used + 20, FILETYPE_REGULAR_FILE, true);
      new Uint8Array(into.buffer, into.byteOffset + used + DIRENT_BYTES, name.length).set(name);
      used += DIRENT_BYTES + name.length;
    }
    return used;
  }
}

/** A directory with these files in it. */
export function directory(
  files: Readonly<Record<string, Bytes | number>> = {},
  rights?: RightsWord,
): MemoryDirectory {
  return new MemoryDirectory(files, rights);
}
