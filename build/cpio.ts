// Writes initramfs images: cpio archives of the "newc" kind
// (Documentation/driver-api/early-userspace/buffer-format.rst).

import fs from "node:fs";
import path from "node:path";

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const MAGIC = "070701";
const ALIGN = 4;

interface Entry {
  name: string;
  mode: number;
  data: Uint8Array;
}

function padding(bytes: number): Uint8Array {
  return new Uint8Array((ALIGN - (bytes % ALIGN)) % ALIGN);
}

function hex(value: number): string {
  return value.toString(16).padStart(8, "0");
}

/** Header, name and data of one entry, each padded to 4 bytes. */
function encode({ name, mode, data }: Entry, ino: number): Uint8Array[] {
  const nameBytes = Buffer.from(`${name}\0`);
  const links = 1;
  const fields = [ino, mode, 0, 0, links, 0, data.length, 0, 0, 0, 0, nameBytes.length, 0];
  const header = Buffer.from(MAGIC + fields.map(hex).join(""));
  const before = header.length + nameBytes.length;
  return [header, nameBytes, padding(before), data, padding(data.length)];
}

/** An archive under construction; every file belongs to root, and times are zero. */
export class Cpio {
  readonly #entries = new Map<string, Entry>();

  #add(name: string, mode: number, data: Uint8Array): void {
    const relative = name.replace(/^\/+/, "");
    const parent = path.dirname(relative);
    if (parent !== ".") this.directory(parent);
    this.#entries.set(relative, { name: relative, mode, data });
  }

  /** An empty directory, and those above it. */
  directory(name: string): void {
    if (!this.#entries.has(name.replace(/^\/+/, ""))) {
      this.#add(name, S_IFDIR | 0o755, new Uint8Array());
    }
  }

  file(name: string, data: Uint8Array | string, mode = 0o644): void {
    this.#add(name, S_IFREG | mode, Buffer.from(data));
  }

  symlink(name: string, target: string): void {
    this.#add(name, S_IFLNK | 0o777, Buffer.from(target));
  }

  /** The file at `source`, links followed, with its own mode unless one is given. */
  copy(name: string, source: string, mode = fs.statSync(source).mode & 0o777): void {
    this.file(name, fs.readFileSync(source), mode);
  }

  /** Everything below the directory `source`, links followed. */
  tree(name: string, source: string): void {
    for (const entry of fs.readdirSync(source)) {
      const from = path.join(source, entry);
      if (fs.statSync(from).isDirectory()) this.tree(`${name}/${entry}`, from);
      else this.copy(`${name}/${entry}`, from);
    }
  }

  /**
   * Writes the archive to `file`, in one step as others see it. Several may be appended to each
   * other to be unpacked as one.
   */
  write(file: string): void {
    const unfinished = `${file}.${process.pid}`;
    const fd = fs.openSync(unfinished, "w");
    try {
      const trailer: Entry = { name: "TRAILER!!!", mode: 0, data: new Uint8Array() };
      for (const [index, entry] of [...this.#entries.values(), trailer].entries()) {
        for (const part of encode(entry, index + 1)) fs.writeSync(fd, part);
      }
    } finally {
      fs.closeSync(fd);
    }
    fs.renameSync(unfinished, file);
  }
}
