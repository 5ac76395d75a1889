// Opens what was granted, with no more access than its rights need.

import { closeSync, constants, fstatSync, openSync, realpathSync } from "node:fs";
import { VmmError } from "../errors.js";
import { checked, fcntl, ioctl, syscall } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import type { GrantKind, Right } from "./grant-kinds.js";
import { lockFile } from "./grant-lock.js";
import {
  type ClockName,
  fdsOf,
  type GrantedFd,
  grantError,
  NO_FD,
  type ResolvedGrant,
} from "./grants.js";
import { FCNTL, IOCTL, NOBODY } from "./linux.js";
import { syscallNumber } from "./syscalls.js";
import { openTap } from "./tap-grant.js";
import { openUnix } from "./unix-grant.js";
import { removeSocketFile } from "./unix-socket.js";

const { O_RDONLY, O_WRONLY, O_RDWR, O_APPEND, O_NONBLOCK, O_NOCTTY, O_DIRECTORY } = constants;
/** unistd.h */
const SEEK_SET = 0;
const URANDOM = "/dev/urandom";

/** A descriptor, and what there is to know of it that its process cannot ask. */
type Opened = Pick<GrantedFd, "fd" | "clock" | "deviceBytes" | "directory" | "socketFile">;

/** Flags of open(2) for the rights of a file; O_RDONLY has no bits, so they do not add up. */
export function openFlagsOf(rights: readonly Right[]): number {
  const [reads, writes] = [rights.includes("read"), rights.includes("write")];
  if (rights.includes("append") && !writes) return (reads ? O_RDWR : O_WRONLY) | O_APPEND;
  if (!writes) return O_RDONLY;
  return reads ? O_RDWR : O_WRONLY;
}

/** Bytes of a block device: fstat(2) says 0, and a device may ask nothing else. */
function blockDeviceBytes(fd: number): number {
  const size = Mapping.anonymous(8);
  const result = ioctl(fd, IOCTL.BLKGETSIZE64, size.address);
  const bytes = result === 0 ? Number(size.view.getBigUint64(0, true)) : 0;
  size.close();
  return bytes;
}

function openFile({ name, kind, what, rights }: ResolvedGrant): Opened {
  // O_NONBLOCK: opening a FIFO must not wait for its other end, and the VMM with it. libuv adds
  // O_CLOEXEC, so no other device inherits the descriptor.
  const flags = openFlagsOf(rights);
  const fd = openSync(what, flags | O_NONBLOCK | O_NOCTTY);
  const stat = fstatSync(fd);
  if (stat.isFile() || stat.isCharacterDevice() || stat.isBlockDevice()) {
    // What a character device gives is nobody's file.
    const busy = stat.isCharacterDevice() ? undefined : lockFile(fd, rights);
    if (busy !== undefined) {
      closeSync(fd);
      throw grantError(`Cannot grant ${name}=${kind}:${what}: ${busy}`);
    }
    fcntl(fd, FCNTL.F_SETFL, flags & O_APPEND);
    return stat.isBlockDevice() ? { fd, deviceBytes: blockDeviceBytes(fd) } : { fd };
  }
  closeSync(fd);
  throw grantError(`Cannot grant ${name}=${kind}:${what}: it is neither a file nor a device`);
}

/** Bytes of a struct termios (asm-generic/termbits.h), and some. */
const TERMIOS_BYTES = 64;

/** A terminal, in whatever mode its user left it; what is not there yet is not waited for. */
function openTerminal({ name, kind, what, rights }: ResolvedGrant): Opened {
  const fd = openSync(what, openFlagsOf(rights) | O_NONBLOCK | O_NOCTTY);
  const termios = Mapping.anonymous(TERMIOS_BYTES);
  const isTerminal = ioctl(fd, IOCTL.TCGETS, termios.address) === 0;
  termios.close();
  if (isTerminal) return { fd };
  closeSync(fd);
  throw grantError(`Cannot grant ${name}=${kind}:${what}: it is no terminal`);
}

const S_IROTH = 0o4;
const S_IWOTH = 0o2;
const S_IXOTH = 0o1;

/** A directory: its process gets a mount of its own instead, in which ".." leads nowhere. */
function openDirectory({ name, kind, what, rights }: ResolvedGrant): Opened {
  const fd = openSync(what, O_RDONLY | O_DIRECTORY);
  const needed = S_IROTH | S_IXOTH | (rights.includes("write") ? S_IWOTH : 0);
  const { mode, uid } = fstatSync(fd);
  // Of an ordinary user the device has the identity; of root it does not.
  if (process.geteuid?.() === 0 && uid !== NOBODY && (mode & needed) !== needed) {
    closeSync(fd);
    const why = "the device will be nobody there, who has no right to it";
    const hint = `chown nobody, or chmod o+${rights.includes("write") ? "rwx" : "rx"} it`;
    throw grantError(`Cannot grant ${name}=${kind}:${what}: ${why}; ${hint}`);
  }
  return { fd, directory: realpathSync(what) };
}

/** How each kind is opened. */
const OPEN: Readonly<Record<GrantKind, (grant: ResolvedGrant) => Opened>> = {
  file: openFile,
  dir: openDirectory,
  clock: ({ what }) => ({ fd: NO_FD, clock: what as ClockName }),
  unix: openUnix,
  tty: openTerminal,
  tap: openTap,
  random: () => ({ fd: openSync(URANDOM, O_RDONLY) }),
};

/** Another descriptor of what this process keeps open. */
function duplicate(held: number): Opened {
  const fd = fcntl(held, FCNTL.F_DUPFD_CLOEXEC, 0);
  return { fd: checked(fd, "fcntl", "Cannot pass a grant on", "ERR_GRANT") };
}

/**
 * Opens what was granted. The caller closes the descriptors.
 *
 * @throws VmmError ERR_GRANT if one cannot be opened; none stays open then
 */
export function openGrants(grants: readonly ResolvedGrant[]): GrantedFd[] {
  const opened: GrantedFd[] = [];
  try {
    for (const grant of grants) {
      const { name, kind, rights, held } = grant;
      const found = held === undefined ? OPEN[kind](grant) : duplicate(held);
      opened.push({ name, kind, rights, ...found });
    }
    return opened;
  } catch (cause) {
    closeGrants(opened);
    if (cause instanceof VmmError && cause.code === "ERR_GRANT") throw cause;
    const { name, kind, what } = grants[opened.length]!;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new VmmError("ERR_GRANT", `Cannot grant ${name}=${kind}:${what}: ${reason}`, { cause });
  }
}

/** Closes what openGrants() opened, and removes what that made. */
export function closeGrants(granted: readonly GrantedFd[]): void {
  for (const fd of fdsOf(granted)) closeSync(fd);
  for (const { socketFile } of granted) {
    if (socketFile !== undefined) removeSocketFile(socketFile);
  }
}

/**
 * Makes what was granted as it was when it was opened, for the next one that uses it: at its start.
 * What has no position (a terminal) is left alone.
 */
export function rewindGrants(granted: readonly GrantedFd[]): void {
  for (const fd of fdsOf(granted)) syscall(syscallNumber("lseek"), fd, 0, SEEK_SET, 0, 0, 0);
}
