// Terminals for tests.

import fs from "node:fs";
import * as assert from "uvu/assert";
import { ioctl } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";

/** A terminal that is nobody's controlling one: the descriptor of its other end, and its name. */
export function freeTerminal(): { master: number; name: string } {
  const [TIOCSPTLCK, TIOCGPTN] = [0x4004_5431, 0x8004_5430]; // asm-generic/ioctls.h
  const master = fs.openSync("/dev/ptmx", fs.constants.O_RDWR | fs.constants.O_NOCTTY);
  const number = Mapping.anonymous(4);
  assert.is(ioctl(master, TIOCSPTLCK, number.address), 0);
  assert.is(ioctl(master, TIOCGPTN, number.address), 0);
  return { master, name: `/dev/pts/${number.words[0]}` };
}
