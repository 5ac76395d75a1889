// Terminals for tests.

import fs from "node:fs";
import * as assert from "uvu/assert";
import { ioctl } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";
import { IOCTL } from "../../host/sandbox/linux.js";

interface FreeTerminal {
  /** Descriptor of its other end. */
  master: number;
  name: string;
  resize(rows: number, columns: number): void;
}

/** A terminal that is nobody's controlling one. */
export function freeTerminal(): FreeTerminal {
  const [TIOCSPTLCK, TIOCGPTN] = [0x4004_5431, 0x8004_5430]; // asm-generic/ioctls.h
  const master = fs.openSync("/dev/ptmx", fs.constants.O_RDWR | fs.constants.O_NOCTTY);
  const number = Mapping.anonymous(4);
  assert.is(ioctl(master, TIOCSPTLCK, number.address), 0);
  assert.is(ioctl(master, TIOCGPTN, number.address), 0);
  const resize = (rows: number, columns: number) => {
    const size = Mapping.anonymous(8);
    size.view.setUint16(0, rows, true);
    size.view.setUint16(2, columns, true);
    assert.is(ioctl(master, IOCTL.TIOCSWINSZ, size.address), 0);
    size.close();
  };
  return { master, name: `/dev/pts/${number.words[0]}`, resize };
}
