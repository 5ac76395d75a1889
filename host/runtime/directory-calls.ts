// The calls on a granted directory. A path is a module's: it is copied out of its memory once, and
// leads to nothing but what is beneath the directory. Inside a device's process that is also what
// the mount says, in which ".." leads nowhere and no link is followed (namespaces.ts).

import { syscall } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { DIRECTORY_FILE_MODE, DIRECTORY_OPEN_FLAGS } from "../sandbox/grant-kinds.js";
import { syscallNumber } from "../sandbox/syscalls.js";

/** Bytes of a path: what Linux allows for one name (NAME_MAX), and for some directories of it. */
export const PATH_BYTES_MAX = 1023;

/** asm-generic/fcntl.h */
const O_WRONLY = 0o1;
const O_RDWR = 0o2;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
const O_APPEND = 0o2000;
const O_DIRECTORY = 0o200000;

/** `oflags` and `fdflags` of wasi_snapshot_preview1.witx, with what each is here. */
const OFLAGS: readonly (readonly [wasi: number, linux: number])[] = [
  [1, O_CREAT],
  [2, O_DIRECTORY],
  [4, O_EXCL],
  [8, O_TRUNC],
];
const OFLAGS_ALL = 15;
const FDFLAGS_APPEND = 1;
const FDFLAGS_NONBLOCK = 4;
/** Of `rights`: fd_read and fd_write. */
const RIGHTS_FD_READ = 1n << 1n;
const RIGHTS_FD_WRITE = 1n << 6n;

const OPENAT = syscallNumber("openat");
const UNLINKAT = syscallNumber("unlinkat");
const GETDENTS64 = syscallNumber("getdents64");

const SLASH = 0x2f;
const DOT = 0x2e;

/** How a file is to be opened, as path_open() of WASI has it. */
export interface Opening {
  oflags: number;
  fdflags: number;
  rights: bigint;
}

/** Flags of openat(2) for an opening; undefined for what there is not. */
export function openFlagsOf({ oflags, fdflags, rights }: Opening): number | undefined {
  if ((oflags & ~OFLAGS_ALL) !== 0) return undefined;
  if ((fdflags & ~(FDFLAGS_APPEND | FDFLAGS_NONBLOCK)) !== 0) return undefined;
  let flags = DIRECTORY_OPEN_FLAGS;
  for (const [wasi, linux] of OFLAGS) if ((oflags & wasi) !== 0) flags |= linux;
  if ((fdflags & FDFLAGS_APPEND) !== 0) flags |= O_APPEND;
  if ((rights & RIGHTS_FD_WRITE) === 0n) return flags;
  return flags | ((rights & RIGHTS_FD_READ) === 0n ? O_WRONLY : O_RDWR);
}

/** Whether an opening may change anything. */
export function writes(flags: number): boolean {
  return (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND)) !== 0;
}

/** Whether a path is a name, or several with one slash between them, and none of them "..". */
export function isBeneath(path: Uint8Array): boolean {
  if (path.length === 0 || path.length > PATH_BYTES_MAX || path.includes(0)) return false;
  let start = 0;
  for (let at = 0; at <= path.length; at++) {
    if (at < path.length && path[at] !== SLASH) continue;
    const isParent = at - start === 2 && path[start] === DOT && path[start + 1] === DOT;
    if (at === start || isParent) return false;
    start = at + 1;
  }
  return true;
}

/** Calls with one path at a time. */
export class DirectoryCalls {
  readonly #path = Mapping.anonymous(PATH_BYTES_MAX + 1);
  readonly #bytes = new Uint8Array(this.#path.view.buffer);

  /** Takes a copy of a path; false if it does not lead to something beneath a directory. */
  take(path: Uint8Array): boolean {
    if (path.length > PATH_BYTES_MAX) return false;
    this.#bytes.set(path);
    this.#bytes[path.length] = 0;
    return isBeneath(this.#bytes.subarray(0, path.length));
  }

  /** Opens what take() took; a descriptor, or -1. */
  open(directory: number, flags: number): number {
    return syscall(OPENAT, directory, this.#path.address, flags, DIRECTORY_FILE_MODE, 0, 0);
  }

  /** Removes the file that take() took; -1 when that fails. */
  unlink(directory: number): number {
    return syscall(UNLINKAT, directory, this.#path.address, 0, 0, 0, 0);
  }
}

/** struct linux_dirent64: d_ino u64 │ d_off s64 │ d_reclen u16 │ d_type u8 │ d_name. */
const D_RECLEN = 16;
const D_TYPE = 18;
const D_NAME = 19;
const DT_DIR = 4;
const DT_REG = 8;
const LISTING_BYTES = 4096;

/** `dirent` of WASI: d_next u64 │ d_ino u64 │ d_namlen u32 │ d_type u8, padded; then the name. */
export const DIRENT_BYTES = 24;
const FILETYPE_DIRECTORY = 3;
const FILETYPE_REGULAR_FILE = 4;

/** What a directory holds, read once from its start to its end. */
export class Listing {
  readonly #memory = Mapping.anonymous(LISTING_BYTES);
  #at = 0;
  #end = 0;
  /** Entries that were told: the only cookie with which it goes on. */
  told = 0n;

  close(): void {
    this.#memory.close();
  }

  /**
   * Writes as many whole entries as fit into `into`, without "." and ".."; returns their bytes, 0
   * at the end, -1 when the kernel fails.
   */
  fill(fd: number, into: DataView): number {
    let used = 0;
    for (;;) {
      if (this.#at === this.#end) {
        const count = syscall(GETDENTS64, fd, this.#memory.address, LISTING_BYTES, 0, 0, 0);
        if (count <= 0) return used > 0 ? used : count;
        this.#at = 0;
        this.#end = count;
      }
      const bytes = this.#tell(into, used);
      if (bytes < 0) return used;
      used += bytes;
    }
  }

  /** Writes the next entry at `at`; its bytes, 0 for one that is skipped, -1 if it does not fit. */
  #tell(into: DataView, at: number): number {
    const { view } = this.#memory;
    const name = this.#at + D_NAME;
    let length = 0;
    while (view.getUint8(name + length) !== 0) length++;
    const isDots =
      length <= 2 && view.getUint8(name) === DOT && view.getUint8(name + length - 1) === DOT;
    if (!isDots && at + DIRENT_BYTES + length > into.byteLength) return -1;
    const entry = this.#at;
    this.#at += view.getUint16(entry + D_RECLEN, true);
    if (isDots) return 0;
    this.told += 1n;
    into.setBigUint64(at, this.told, true);
    into.setBigUint64(at + 8, view.getBigUint64(entry, true), true);
    into.setUint32(at + 16, length, true);
    into.setUint32(at + 20, filetypeOf(view.getUint8(entry + D_TYPE)), true);
    for (let i = 0; i < length; i++) into.setUint8(at + DIRENT_BYTES + i, view.getUint8(name + i));
    return DIRENT_BYTES + length;
  }
}

function filetypeOf(type: number): number {
  return type === DT_DIR ? FILETYPE_DIRECTORY : type === DT_REG ? FILETYPE_REGULAR_FILE : 0;
}
