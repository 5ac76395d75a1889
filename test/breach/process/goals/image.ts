// The image that the device was granted, for reading and at its position only.

import { type Goal, goal } from "../goal.js";

const IMAGE_FD = 5;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const O_RDWR = 2;
const O_WRONLY = 1;
const O_TRUNC = 0o1000;
const AT_FDCWD = -100;
const FICLONE = 0x4004_9409;
const FS_IOC_SETFLAGS = 0x4008_6602;
const F_DUPFD = 0;
const F_SETFL = 4;
const F_SETOWN = 8;
const F_OFD_SETLK = 37;
const O_APPEND = 0o2000;
const LOCK_EX = 2;
const BYTES = 16;
const SELF = `/proc/self/fd/${IMAGE_FD}`;

const nothing = { canary: "nothing" } as const;
/** Landlock alone stops it, too. */
const file = { canary: "nothing", landlock: 1 } as const;
const noFilter = { canary: "no filter" } as const;
/** The second wall, which no canary takes away. */
const readOnly = { why: "the descriptor is open for reading only: EBADF" };

const WRITING: Goal[] = [
  goal("write its read-only image: write", readOnly, (native) =>
    native.call("write", IMAGE_FD, native.room(BYTES), BYTES),
  ),
  goal("write its read-only image: pwrite64", readOnly, (native) =>
    native.call("pwrite64", IMAGE_FD, native.room(BYTES), BYTES, 0),
  ),
  goal("write its read-only image: pwritev2", readOnly, (native) => {
    const iovec = new Uint8Array(new BigUint64Array([BigInt(native.room(BYTES)), 16n]).buffer);
    return native.call("pwritev2", IMAGE_FD, iovec, 1, 0, 0, 0);
  }),
  goal("write its read-only image: a shared mapping", readOnly, (native) =>
    native.call("mmap", 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, IMAGE_FD, 0),
  ),
  goal("write its read-only image: ftruncate", readOnly, (native) =>
    native.call("ftruncate", IMAGE_FD, 0),
  ),
  goal("write its read-only image: fallocate", readOnly, (native) =>
    native.call("fallocate", IMAGE_FD, 3, 0, BYTES),
  ),
  goal("write its read-only image: splice", readOnly, (native) =>
    native.call("splice", 2, 0, IMAGE_FD, 0, BYTES, 0),
  ),
  goal("write its read-only image: sendfile", readOnly, (native) =>
    native.call("sendfile", IMAGE_FD, IMAGE_FD, 0, BYTES),
  ),
  goal("write its read-only image: copy_file_range", readOnly, (native) =>
    native.call("copy_file_range", IMAGE_FD, 0, IMAGE_FD, 0, BYTES, 0),
  ),
  goal("write its read-only image: ioctl FICLONE", readOnly, (native) =>
    native.call("ioctl", IMAGE_FD, FICLONE, IMAGE_FD),
  ),
  goal("write its image: reopened for writing through /proc/self/fd", file, (native) =>
    native.call("open", SELF, O_RDWR),
  ),
  goal("write its image: emptied by open with O_TRUNC", file, (native) =>
    native.call("open", SELF, O_WRONLY | O_TRUNC),
  ),
  goal("write its image: truncate through /proc/self/fd", { ...nothing, landlock: 3 }, (native) =>
    native.call("truncate", SELF, 0),
  ),
];

const ATTRIBUTES: Goal[] = [
  goal("change its image's mode: fchmod", nothing, (native) =>
    native.call("fchmod", IMAGE_FD, 0o4777),
  ),
  goal("change its image's owner: fchown", nothing, (native) =>
    native.call("fchown", IMAGE_FD, 1, 1),
  ),
  goal("change its image's attributes: fsetxattr", { why: "not on every file system" }, (native) =>
    native.call("fsetxattr", IMAGE_FD, "user.x", "y", 1, 0),
  ),
  goal("change its image's flags: ioctl FS_IOC_SETFLAGS", { why: "not everywhere" }, (native) =>
    native.call("ioctl", IMAGE_FD, FS_IOC_SETFLAGS, new Uint8Array(8)),
  ),
  // Whoever may write a file may set its times to now.
  goal("change its image's times: utimensat", noFilter, (native) =>
    native.call("utimensat", IMAGE_FD, 0, 0, 0),
  ),
  goal("link its image elsewhere: linkat", file, (native, { directory }) =>
    native.call("linkat", AT_FDCWD, SELF, AT_FDCWD, `${directory}/mine`, 0x400),
  ),
];

const USING: Goal[] = [
  goal("map its image", noFilter, (native) =>
    native.call("mmap", 0, 4096, PROT_READ, MAP_PRIVATE, IMAGE_FD, 0),
  ),
  goal("read its image where it likes: pread64, not imported", noFilter, (native) =>
    native.call("pread64", IMAGE_FD, native.room(BYTES), BYTES, 64),
  ),
  goal("move its image's position: lseek", noFilter, (native) =>
    native.call("lseek", IMAGE_FD, 8, 0),
  ),
  goal("duplicate its image's descriptor: dup", noFilter, (native) => native.call("dup", IMAGE_FD)),
  goal("duplicate its image's descriptor: fcntl", noFilter, (native) =>
    native.call("fcntl", IMAGE_FD, F_DUPFD, 0),
  ),
  goal("lock its image against everyone: flock", noFilter, (native) =>
    native.call("flock", IMAGE_FD, LOCK_EX),
  ),
  goal("lock its image against everyone: fcntl", noFilter, (native) =>
    native.call("fcntl", IMAGE_FD, F_OFD_SETLK, new Uint8Array(32)),
  ),
  goal("change how its image is open: fcntl F_SETFL", noFilter, (native) =>
    native.call("fcntl", IMAGE_FD, F_SETFL, O_APPEND),
  ),
  goal("have signals sent to the VMM: fcntl F_SETOWN", nothing, (native, { vmmPid }) =>
    native.call("fcntl", IMAGE_FD, F_SETOWN, vmmPid),
  ),
  goal("close its image and reuse the number: close", noFilter, (native) =>
    native.call("close", IMAGE_FD),
  ),
];

export const IMAGE_GOALS: readonly Goal[] = [...WRITING, ...ATTRIBUTES, ...USING];
