// A pair of pseudo-terminals: what a device is granted in place of the user's terminal. A hostile
// device that had that itself could go on writing to it when its VM is gone, or change its mode.

import { closeSync, constants, openSync, readlinkSync, readSync, writeSync } from "node:fs";
import { ReadStream } from "node:tty";
import { VmmError } from "../errors.js";
import { checked, fcntl, ioctl } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { FCNTL, IOCTL } from "../sandbox/linux.js";

const { O_RDWR, O_NOCTTY, O_NONBLOCK } = constants;

/** struct termios (asm-generic/termbits.h): four words of flags │ c_line │ c_cc. */
const TERMIOS = { c_iflag: 0, c_oflag: 4, c_lflag: 12, VTIME: 22, VMIN: 23, bytes: 64 } as const;
/** struct winsize (asm-generic/termios.h): rows │ columns │ both in pixels, 16 bits each. */
const WINSIZE_BYTES = 8;

/** Rows and columns of a terminal. */
export interface TerminalSize {
  rows: number;
  columns: number;
}

/** More than the kernel keeps of a terminal's output (TTYB_DEFAULT_MEM_LIMIT is 640 KiB). */
const DRAIN_BYTES = 64 * 1024;
const DRAINS_MAX = 1024;

const winsize = Mapping.anonymous(WINSIZE_BYTES);

/** How large the terminal behind `fd` is; undefined when there is none. */
export function terminalSizeOf(fd: number): TerminalSize | undefined {
  if (ioctl(fd, IOCTL.TIOCGWINSZ, winsize.address) !== 0) return undefined;
  return { rows: winsize.view.getUint16(0, true), columns: winsize.view.getUint16(2, true) };
}

function failed(cause: unknown): Error {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const message = `Cannot make a pseudo-terminal: ${reason}, is devpts mounted on /dev/pts?`;
  return new VmmError("ERR_SYSCALL", message, { cause });
}

function makeRaw(slave: number): void {
  const termios = Mapping.anonymous(TERMIOS.bytes);
  checked(ioctl(slave, IOCTL.TCGETS, termios.address), "ioctl(TCGETS)", "reading its mode");
  const { view } = termios;
  for (const flags of [TERMIOS.c_iflag, TERMIOS.c_oflag, TERMIOS.c_lflag]) {
    view.setUint32(flags, 0, true);
  }
  view.setUint8(TERMIOS.VTIME, 0);
  view.setUint8(TERMIOS.VMIN, 1);
  checked(ioctl(slave, IOCTL.TCSETS, termios.address), "ioctl(TCSETS)", "setting its mode");
  termios.close();
}

/** Both ends of a pseudo-terminal, and the name of the slave. */
export interface Pair {
  /** Reading and writing do not wait. */
  master: number;
  slave: number;
  path: string;
}

/** Makes a pair, in raw mode: the bytes go through as they are. ERR_SYSCALL. */
export function openPair(): Pair {
  try {
    const master = openSync("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
    const zero = Mapping.anonymous(4);
    checked(ioctl(master, IOCTL.TIOCSPTLCK, zero.address), "ioctl(TIOCSPTLCK)", "unlocking");
    zero.close();
    // By descriptor: its name may be one in another mount of devpts.
    const flags = O_RDWR | O_NOCTTY | FCNTL.O_CLOEXEC;
    const opened = ioctl(master, IOCTL.TIOCGPTPEER, flags);
    const slave = checked(opened, "ioctl(TIOCGPTPEER)", "opening the other end");
    makeRaw(slave);
    return { master, slave, path: readlinkSync(`/proc/self/fd/${slave}`) };
  } catch (cause) {
    throw failed(cause);
  }
}

/** Both ends are this process's. */
export class Pty {
  /** The end that the VMM reads and writes; neither waits. */
  readonly #master: number;
  /** Kept open, so that the other end does not hang up while a device is started again. */
  readonly #slave: number;
  /** Name of the slave, by which it is granted. */
  readonly path: string;

  private constructor({ master, slave, path }: Pair) {
    this.#master = master;
    this.#slave = slave;
    this.path = path;
  }

  /** Makes a pair. */
  static open(): Pty {
    return new Pty(openPair());
  }

  /** Gives it the size of another terminal. */
  resize({ rows, columns }: TerminalSize): void {
    winsize.view.setUint32(4, 0, true);
    winsize.view.setUint16(0, rows, true);
    winsize.view.setUint16(2, columns, true);
    ioctl(this.#master, IOCTL.TIOCSWINSZ, winsize.address);
  }

  /** What comes from the other end, on a descriptor of its own. */
  reader(): ReadStream {
    const fd = fcntl(this.#master, FCNTL.F_DUPFD_CLOEXEC, 0);
    return new ReadStream(checked(fd, "fcntl", "Cannot read a pseudo-terminal"));
  }

  /** Writes as much as there is room for, and returns how much. */
  write(bytes: Uint8Array): number {
    return retried(() => writeSync(this.#master, bytes));
  }

  /** Gives `take` what came from the other end and was not read. */
  drain(take: (bytes: Uint8Array) => void): void {
    const buffer = new Uint8Array(DRAIN_BYTES);
    for (let left = DRAINS_MAX; left > 0; left--) {
      const count = retried(() => readSync(this.#master, buffer));
      if (count === 0) return;
      take(buffer.subarray(0, count));
    }
  }

  close(): void {
    closeSync(this.#slave);
    closeSync(this.#master);
  }
}

/** A count, or 0 when there is nothing to do now. */
function retried(call: () => number): number {
  try {
    return call();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return 0;
    throw error;
  }
}
