// What went wrong with a capability, in words that a user knows.

/** Linux' name of an errno of a capability (wasi_snapshot_preview1.witx has the numbers). */
export function errnoName(errno: u32): string {
  switch (errno) {
    case 0:
      return "no error";
    case 2:
      return "EACCES";
    case 8:
      return "EBADF";
    case 19:
      return "EDQUOT: the disk quota is used up";
    case 22:
      return "EFBIG: larger than a file may be";
    case 28:
      return "EINVAL";
    case 29:
      return "EIO: the host's disk failed";
    case 51:
      return "ENOSPC: the host's disk is full";
    case 63:
      return "EPERM";
    case 69:
      return "EROFS";
    case 76:
      return "it was not granted";
    default:
      return "another error";
  }
}
