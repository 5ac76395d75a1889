// What the test machine needs besides to run a benchmark: QEMU, and fio for the guests, both as
// they are installed here, with their libraries. Everything goes to dist/machine/.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { findProgram } from "../../test/support/debian.js";
import { Cpio } from "../cpio.js";
import { makeExt4 } from "../distribution.js";
import { GUEST_MODULES, initramfs, librariesOf } from "../machine.js";
import { QEMU } from "./commands.js";

const OUTPUT = fileURLToPath(new URL("../../machine", import.meta.url));
const MIB = 1024 * 1024;

/** What QEMU's microvm and pc read to start a bzImage; Debian has them in two directories. */
const FIRMWARE = [
  ...["bios-microvm.bin", "bios-256k.bin", "qboot.rom", "kvmvapic.bin"],
  ...["linuxboot.bin", "linuxboot_dma.bin", "pvh.bin"],
];
const FIRMWARE_DIRECTORIES = ["/usr/share/qemu", "/usr/share/seabios"];

/** Where a benchmark finds its files; EMULATED is where they are on an emulated host. */
export interface BenchFiles {
  qemu: string;
  /** Where QEMU finds its firmware. */
  firmware: string;
  /** Initramfs of the guest, test/machine/bench-init.sh. */
  initrd: string;
  /** A disk with fio, an ext4 file system. */
  tools: string;
}

export const EMULATED: BenchFiles = {
  qemu: `/bin/${QEMU}`,
  firmware: "/bench/firmware",
  initrd: "/bench/initrd",
  tools: "/bench/tools.ext4",
};

function required(program: string, debianPackage: string): string {
  const file = findProgram(program);
  if (file !== undefined) return file;
  throw new Error(`Cannot find ${program}: run: apt-get install ${debianPackage}`);
}

function firmware(name: string): string {
  const files = FIRMWARE_DIRECTORIES.map((directory) => path.join(directory, name));
  const file = files.find((each) => fs.existsSync(each));
  if (file === undefined) throw new Error(`Cannot find QEMU's ${name}: is seabios installed?`);
  return file;
}

/** Copies `program` to bin/ below `root`, and its libraries to where it looks for them. */
function install(root: string, program: string): void {
  const put = (name: string, source: string) => {
    const target = path.join(root, name);
    fs.mkdirSync(path.dirname(target), { recursive: true });
    fs.copyFileSync(source, target);
  };
  put(`bin/${path.basename(program)}`, program);
  for (const library of librariesOf(program)) put(library, library);
}

/** A file system with fio in it, and places for what is mounted there. */
export function makeTools(image: string): void {
  const root = fs.mkdtempSync(path.join(OUTPUT, "tools-"));
  try {
    install(root, required("fio", "fio"));
    for (const name of ["dev", "proc", "tmp"]) fs.mkdirSync(path.join(root, name));
    makeExt4(image, root, { bytes: 160 * MIB, offset: 0 });
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

/** What is not there yet is built; takes 2 s. */
export function buildBenchFiles(): BenchFiles {
  const at = (name: string) => path.join(OUTPUT, name);
  fs.mkdirSync(OUTPUT, { recursive: true });
  const files = {
    qemu: required(QEMU, "qemu-system-x86"),
    firmware: at("bench-firmware"),
    initrd: at("bench.cpio"),
    tools: at("bench-tools.ext4"),
  };
  fs.mkdirSync(files.firmware, { recursive: true });
  for (const name of FIRMWARE) fs.copyFileSync(firmware(name), path.join(files.firmware, name));
  initramfs("bench-init.sh", [...GUEST_MODULES, "virtio_blk"]).write(files.initrd);
  makeTools(files.tools);
  return files;
}

/** Those files as an archive that the emulated host unpacks; returns its path. */
export function packBenchFiles(files: BenchFiles): string {
  const cpio = new Cpio();
  cpio.copy(EMULATED.qemu, files.qemu, 0o755);
  for (const library of librariesOf(files.qemu)) cpio.copy(library, library, 0o755);
  cpio.tree(EMULATED.firmware, files.firmware);
  cpio.copy(EMULATED.initrd, files.initrd);
  cpio.copy(EMULATED.tools, files.tools);
  const archive = path.join(OUTPUT, "bench-host.cpio");
  cpio.write(archive);
  return archive;
}
