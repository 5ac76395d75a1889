// The calls on a granted file that move no data: its size, its way to the disk.

import { ftruncate, syscall } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { IOCTL } from "../sandbox/linux.js";
import { syscallNumber } from "../sandbox/syscalls.js";

/** struct stat of x86-64 (asm/stat.h): offsets of what is used of it. */
const STAT = {
  st_dev: 0,
  st_ino: 8,
  st_nlink: 16,
  st_mode: 24,
  st_size: 48,
  st_atime: 72,
  st_mtime: 88,
  st_ctime: 104,
} as const;
const STAT_BYTES = 144;
/** linux/stat.h: the type of a file in st_mode. */
const S_IFMT = 0o170000;
const S_IFBLK = 0o060000;
const S_IFCHR = 0o020000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const S_IFSOCK = 0o140000;

/**
 * `filestat` of wasi_snapshot_preview1.witx: dev │ ino │ filetype (a byte) │ nlink │ size │ atim │
 * mtim │ ctim, eight bytes each.
 */
export const FILESTAT_BYTES = 64;
const FILETYPE_AT = 16;
const SIZE_AT = 32;
/** `filetype` of WASI; 0 is unknown, and a socket is a stream. */
const FILETYPES: ReadonlyMap<number, number> = new Map([
  [S_IFBLK, 1],
  [S_IFCHR, 2],
  [S_IFDIR, 3],
  [S_IFREG, 4],
  [S_IFSOCK, 6],
  [S_IFLNK, 7],
]);
const NANOSECONDS = 1_000_000_000n;

const FSTAT = syscallNumber("fstat");
const IOCTL_CALL = syscallNumber("ioctl");
const FSYNC = syscallNumber("fsync");
const FDATASYNC = syscallNumber("fdatasync");

/** What fstat(2) says of a descriptor, in memory of its own: a struct is no module's business. */
export class Stat {
  readonly #memory = Mapping.anonymous(STAT_BYTES);
  readonly view = this.#memory.view;

  /** Asks the kernel; -1 when it fails. */
  get(fd: number): number {
    return syscall(FSTAT, fd, this.#memory.address, 0, 0, 0, 0);
  }

  get isFileOrDirectory(): boolean {
    const type = this.view.getUint32(STAT.st_mode, true) & S_IFMT;
    return type === S_IFREG || type === S_IFDIR;
  }
}

/**
 * Writes a struct stat as a `filestat`.
 *
 * @param deviceBytes the size, if it is a block device
 */
export function writeFilestat(
  stat: DataView,
  deviceBytes: number,
  to: { view: DataView; at: number },
): void {
  const word = (offset: number) => stat.getBigUint64(offset, true);
  const time = (offset: number) => word(offset) * NANOSECONDS + word(offset + 8);
  const type = stat.getUint32(STAT.st_mode, true) & S_IFMT;
  const fields = [
    word(STAT.st_dev),
    word(STAT.st_ino),
    BigInt(FILETYPES.get(type) ?? 0),
    word(STAT.st_nlink),
    type === S_IFBLK ? BigInt(deviceBytes) : word(STAT.st_size),
    time(STAT.st_atime),
    time(STAT.st_mtime),
    time(STAT.st_ctime),
  ];
  for (const [i, value] of fields.entries()) to.view.setBigUint64(to.at + i * 8, value, true);
}

/** Bytes of a struct winsize (asm-generic/termios.h): rows │ columns │ and both in pixels. */
const WINSIZE_BYTES = 8;
/** WASI's `filetype` of a terminal. */
const CHARACTER_DEVICE = 2n;

/** How large a terminal is, in memory of its own. */
export class Winsize {
  readonly #memory = Mapping.anonymous(WINSIZE_BYTES);

  /** Asks the kernel; -1 when it fails. All 64 bits of the request are what the filter compares. */
  get(fd: number): number {
    return syscall(IOCTL_CALL, fd, IOCTL.TIOCGWINSZ, this.#memory.address, 0, 0, 0);
  }

  /** Writes a `filestat` of a terminal, whose size is its rows and columns (wit/world.wit). */
  write(view: DataView, at: number): void {
    for (let i = 0; i < FILESTAT_BYTES; i += 8) view.setBigUint64(at + i, 0n, true);
    const [rows, columns] = [0, 2].map((offset) => this.#memory.view.getUint16(offset, true));
    view.setBigUint64(at + FILETYPE_AT, CHARACTER_DEVICE, true);
    view.setUint32(at + SIZE_AT, ((rows! << 16) | columns!) >>> 0, true);
  }
}

/** Waits until what was written is on the disk, with all that is known of the file or without. */
export function sync(fd: number, what: "data" | "all"): number {
  return syscall(what === "data" ? FDATASYNC : FSYNC, fd, 0, 0, 0, 0, 0);
}

/** Makes a file larger, by a hole, or smaller. */
export function truncate(fd: number, bytes: bigint): number {
  return ftruncate(fd, bytes);
}
