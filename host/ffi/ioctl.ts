// ioctl request numbers, derived from direction, type, number and argument (asm-generic/ioctl.h).

const NRSHIFT = 0;
const TYPESHIFT = 8;
const SIZESHIFT = 16;
const DIRSHIFT = 30;
const DIR_NONE = 0;
const DIR_WRITE = 1;
const DIR_READ = 2;

/** The argument of an ioctl: a struct, or anything that knows its own size. */
interface Sized {
  readonly size: number;
}

function request(dir: number, type: number, nr: number, size: number): number {
  const number = (dir << DIRSHIFT) | (size << SIZESHIFT) | (type << TYPESHIFT) | (nr << NRSHIFT);
  return number >>> 0;
}

/** `_IO(type, nr)`: no argument, or one passed by value. */
export function IO(type: number, nr: number): number {
  return request(DIR_NONE, type, nr, 0);
}

/** `_IOW(type, nr, argument)`: the kernel reads the argument. */
export function IOW(type: number, nr: number, argument: Sized): number {
  return request(DIR_WRITE, type, nr, argument.size);
}

/** `_IOR(type, nr, argument)`: the kernel writes the argument. */
export function IOR(type: number, nr: number, argument: Sized): number {
  return request(DIR_READ, type, nr, argument.size);
}

/** `_IOWR(type, nr, argument)`: the kernel reads the argument and writes it back. */
export function IOWR(type: number, nr: number, argument: Sized): number {
  return request(DIR_READ | DIR_WRITE, type, nr, argument.size);
}
