// A granted directory, and files beneath it. Eight may be open at a time, and no link is followed.

import { COUNT } from "./descriptor";
import { File } from "./file";
import {
  ERRNO_BADF,
  ERRNO_SUCCESS,
  FDFLAGS_APPEND,
  fd_close,
  fd_readdir,
  OFLAGS_CREAT,
  OFLAGS_DIRECTORY,
  OFLAGS_EXCL,
  OFLAGS_TRUNC,
  path_open,
  path_unlink_file,
  RIGHTS_FD_READ,
  RIGHTS_FD_WRITE,
} from "./wasi_snapshot_preview1";

/** How a file is opened; `Write | Create` for several. Whatever is more than Read needs `rw`. */
export enum How {
  Read = 1,
  Write = 2,
  /** Each write is at the end, wherever that is by then. */
  Append = 4,
  /** It is made if it is not there. */
  Create = 8,
  /** It must not be there, and is made. */
  New = 16,
  /** It is made empty. */
  Truncate = 32,
}

const NOT_OPEN: u32 = 0xffff_ffff;
/** Bytes of a path; names in UTF-8 have at most three for each unit of a string. */
const PATH_BYTES_MAX: u32 = 1023;
const PATH: usize = memory.data(1023);
/** Of entries that are listed at a time: more than the longest name needs. */
const ENTRIES_BYTES: u32 = 1024;
const DIRENT_BYTES: u32 = 24;
const DOT: usize = memory.data<u8>([0x2e]);
const FILETYPE_DIRECTORY: u8 = 3;

/** A file of a directory; make it once, at the top level, and open it as often as you like. */
@final
export class DirectoryFile extends File {
  constructor() {
    super(NOT_OPEN);
  }

  get isOpen(): bool {
    return this.fd != NOT_OPEN;
  }

  /** Closes it; then each call on it fails until it is opened again. */
  close(): void {
    if (this.isOpen) fd_close(this.fd);
    this.fd = NOT_OPEN;
  }

  /** Of Directory, which knows where the path is. */
  @unsafe
  openAt(directory: u32, path: usize, bytes: u32, how: How): bool {
    this.close();
    let oflags: u32 = 0;
    if ((how & (How.Create | How.New)) != 0) oflags |= OFLAGS_CREAT;
    if ((how & How.New) != 0) oflags |= OFLAGS_EXCL;
    if ((how & How.Truncate) != 0) oflags |= OFLAGS_TRUNC;
    let rights: u64 = 0;
    if ((how & How.Read) != 0) rights |= RIGHTS_FD_READ;
    if ((how & (How.Write | How.Append)) != 0) rights |= RIGHTS_FD_WRITE;
    const fdflags = (how & How.Append) != 0 ? FDFLAGS_APPEND : 0;
    this.errno = path_open(directory, 0, path, bytes, oflags, rights, 0, fdflags, COUNT);
    if (this.errno == ERRNO_SUCCESS) this.fd = load<u32>(COUNT);
    return this.isOpen;
  }
}

/** A granted directory: files are opened beneath it by names, or by `directory/name`. */
@final
export class Directory {
  /** WASI errno of the last call; 0 after success. */
  errno: u32 = ERRNO_SUCCESS;
  private readonly entries: StaticArray<u8> = new StaticArray<u8>(<i32>ENTRIES_BYTES);
  private listed: u32 = NOT_OPEN;
  private cookie: u64 = 0;
  private at: u32 = 0;
  private end: u32 = 0;

  constructor(private readonly fd: u32) {}

  /** Whether there is one: always, unless its declaration says Need.Optional. */
  get granted(): bool {
    return path_open(this.fd, 0, PATH, 0, 0, 0, 0, 0, COUNT) != ERRNO_BADF;
  }

  /** Opens `name` as `file`, which is closed first; false, with `file.errno`, if that fails. */
  open(file: DirectoryFile, name: string, how: How = How.Read): bool {
    return file.openAt(this.fd, PATH, encode(name), how);
  }

  /** The same for `bytes` bytes of `name`: a guest's, say. */
  openBytes(file: DirectoryFile, name: StaticArray<u8>, bytes: u32, how: How = How.Read): bool {
    assert(bytes <= <u32>name.length, "a name beyond the array");
    return file.openAt(this.fd, changetype<usize>(name), bytes, how);
  }

  /** Removes the file `name`; false, with `errno`, if that fails. */
  remove(name: string): bool {
    this.errno = path_unlink_file(this.fd, PATH, encode(name));
    return this.errno == ERRNO_SUCCESS;
  }

  removeBytes(name: StaticArray<u8>, bytes: u32): bool {
    assert(bytes <= <u32>name.length, "a name beyond the array");
    this.errno = path_unlink_file(this.fd, changetype<usize>(name), bytes);
    return this.errno == ERRNO_SUCCESS;
  }

  /** Begins to list what is in it; then next() is called until it returns false. */
  list(): bool {
    if (this.listed != NOT_OPEN) fd_close(this.listed);
    this.listed = NOT_OPEN;
    this.cookie = this.at = this.end = 0;
    const rights = RIGHTS_FD_READ;
    this.errno = path_open(this.fd, 0, DOT, 1, OFLAGS_DIRECTORY, rights, 0, 0, COUNT);
    if (this.errno == ERRNO_SUCCESS) this.listed = load<u32>(COUNT);
    return this.errno == ERRNO_SUCCESS;
  }

  /**
   * Puts the next name into `name`, without an end: `nameBytes` says how long it is, `isDirectory`
   * what. False at the end, or where `errno` is not 0.
   */
  next(name: StaticArray<u8>): bool {
    assert(name.length >= 255, "room for any name: 255 bytes");
    if (this.at == this.end && !this.more()) return false;
    const entry = changetype<usize>(this.entries) + this.at;
    this.cookie = load<u64>(entry);
    this.nameBytes = load<u32>(entry, 16);
    this.isDirectory = load<u8>(entry, 20) == FILETYPE_DIRECTORY;
    memory.copy(changetype<usize>(name), entry + DIRENT_BYTES, this.nameBytes);
    this.at += DIRENT_BYTES + this.nameBytes;
    return true;
  }

  /** Of the name that next() found. */
  nameBytes: u32 = 0;
  isDirectory: bool = false;

  private more(): bool {
    if (this.listed == NOT_OPEN) return false;
    const at = changetype<usize>(this.entries);
    this.errno = fd_readdir(this.listed, at, ENTRIES_BYTES, this.cookie, COUNT);
    this.at = 0;
    this.end = this.errno == ERRNO_SUCCESS ? load<u32>(COUNT) : 0;
    if (this.end > 0) return true;
    fd_close(this.listed);
    this.listed = NOT_OPEN;
    return false;
  }
}

/** Puts a name into PATH; its bytes, or more than a path may have. */
function encode(name: string): u32 {
  if (<u32>name.length > PATH_BYTES_MAX / 3) return PATH_BYTES_MAX + 1;
  return <u32>String.UTF8.encodeUnsafe(changetype<usize>(name), name.length, PATH);
}
