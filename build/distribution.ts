// A Debian system on a disk, as its installer would leave it: made of Debian's packages by
// mmdebstrap, with systemd, and with an initramfs that update-initramfs made in it. Nothing is
// masked and no unit is added; a console gets its login from systemd-getty-generator, which reads
// the kernel's command line. Everything goes to dist/machine/, and is made again when this file
// changes; takes 70 s and half a GB.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const FILE = fileURLToPath(import.meta.url);
const OUTPUT = fileURLToPath(new URL("../machine", import.meta.url));

/** Besides the essential ones, which have a shell, login and mount; e2fsprogs: fsck of the root. */
const PACKAGES = [
  "systemd-sysv",
  "udev",
  "passwd",
  "kmod",
  "e2fsprogs",
  "initramfs-tools",
  "zstd",
  "linux-image-cloud-amd64",
];

/** What nobody reads in a test: a quarter of all bytes. */
const EXCLUDED = [
  "/usr/share/man/*",
  "/usr/share/locale/*",
  "/usr/share/doc/*",
  "/usr/share/info/*",
];

export const ROOT_PASSWORD = "bulkhead";

const SECTOR_BYTES = 512;
const MIB = 1024 * 1024;
/** Where partitions start since disks have blocks that are larger than sectors. */
const PARTITION_START = MIB;
/** The files take 290 MB, the journal and tables of ext4 20; the rest is for who works in it. */
const DISK_BYTES = 512 * MIB;

/** Paths of files that belong together. */
export interface Distribution {
  /** A directory with all of them, and nothing else. */
  directory: string;
  kernel: string;
  initrd: string;
  /** The disk, with a root file system in its first partition; nobody may write to these. */
  raw: string;
  qcow2: string;
  /** An ext4 file system with all of them, for a machine that cannot see this one's files. */
  packed: string;
}

function run(command: string, args: string[], input = ""): string {
  const env = { ...process.env, LC_ALL: "C.UTF-8", DEBIAN_FRONTEND: "noninteractive" };
  const options = { input, env, encoding: "utf8", maxBuffer: 64 * MIB } as const;
  const { status, stdout, stderr, error } = spawnSync(command, args, options);
  if (error) throw new Error(`Cannot run ${command}: ${error.message}`);
  if (status !== 0) throw new Error(`Cannot run ${command} ${args.join(" ")}: ${stderr.trim()}`);
  return stdout;
}

/** The name of this machine's Debian, as in "bookworm". */
function codename(): string {
  const name = /^VERSION_CODENAME=(\w+)$/m.exec(fs.readFileSync("/etc/os-release", "utf8"))?.[1];
  if (name === undefined) throw new Error("Cannot tell which Debian this is: see /etc/os-release");
  return name;
}

/** Lines of a sources.list with the mirrors that apt has of Debian itself, and of nobody else. */
function mirrors(): string {
  const format = "$(ORIGIN) deb $(REPO_URI) $(CODENAME) $(COMPONENT)";
  const list = () => run("apt-get", ["indextargets", "--format", format, "Created-By: Packages"]);
  const ofDebian = (lines: string) => {
    return [...new Set(lines.split("\n"))].flatMap(
      (line) => /^Debian (deb .*)$/.exec(line)?.[1] ?? [],
    );
  };
  // apt knows whose a mirror is from the lists that it got from there.
  if (ofDebian(list()).length === 0) run("apt-get", ["-qq", "update"]);
  const found = ofDebian(list());
  if (found.length === 0) throw new Error("Cannot find a mirror of Debian: apt knows of none");
  return `${found.join("\n")}\n`;
}

/** Proxies that apt has been told of, as options. */
function proxies(): string[] {
  const words = run("apt-config", ["dump", "Acquire"]).split("\n");
  return words.filter((line) => /^Acquire::https?::Proxy.* "/.test(line));
}

function installPackages(root: string): void {
  const settings = ['Acquire::Languages "none";', 'Acquire::Retries "3";', ...proxies()];
  run(
    "mmdebstrap",
    [
      ...["--quiet", "--mode=root", "--variant=essential", `--include=${PACKAGES.join(",")}`],
      ...settings.map((setting) => `--aptopt=${setting}`),
      "--dpkgopt=force-unsafe-io",
      ...EXCLUDED.map((pattern) => `--dpkgopt=path-exclude=${pattern}`),
      ...[codename(), root, "-"],
    ],
    mirrors(),
  );
}

/** What an installer asks for. */
function configure(root: string): void {
  fs.writeFileSync(path.join(root, "etc/fstab"), "/dev/vda1 / ext4 errors=remount-ro 0 1\n");
  fs.writeFileSync(path.join(root, "etc/hostname"), "debian\n");
  fs.writeFileSync(path.join(root, "etc/hosts"), "127.0.0.1 localhost debian\n");
  // Empty: the first boot makes one up (machine-id(5)).
  fs.writeFileSync(path.join(root, "etc/machine-id"), "");
  run("chroot", [root, "chpasswd", "-c", "SHA512"], `root:${ROOT_PASSWORD}\n`);
}

/** A master boot record with one partition, of Linux. */
function masterBootRecord(): Uint8Array {
  const record = new DataView(new ArrayBuffer(SECTOR_BYTES));
  const entry = 0x1be;
  record.setUint8(entry + 4, 0x83);
  record.setUint32(entry + 8, PARTITION_START / SECTOR_BYTES, true);
  record.setUint32(entry + 12, (DISK_BYTES - PARTITION_START) / SECTOR_BYTES, true);
  record.setUint16(510, 0xaa55, true);
  return new Uint8Array(record.buffer);
}

/** Puts the files below `root` into an ext4 file system `offset` bytes into a new `image`. */
export function makeExt4(
  image: string,
  root: string,
  { bytes, offset }: { bytes: number; offset: number },
) {
  const options = `offset=${offset},root_owner=0:0`;
  fs.writeFileSync(image, "");
  fs.truncateSync(image, bytes);
  const size = `${(bytes - offset) / 1024}k`;
  run("mke2fs", ["-q", "-F", "-t", "ext4", "-m", "0", "-d", root, "-E", options, image, size]);
}

function makeDisk(image: string, root: string): void {
  makeExt4(image, root, { bytes: DISK_BYTES, offset: PARTITION_START });
  const fd = fs.openSync(image, "r+");
  fs.writeSync(fd, masterBootRecord(), 0, SECTOR_BYTES, 0);
  fs.closeSync(fd);
}

function inDirectory(directory: string): Distribution {
  const at = (name: string) => path.join(directory, name);
  return {
    directory,
    kernel: at("vmlinuz"),
    initrd: at("initrd.img"),
    raw: at("disk.img"),
    qcow2: at("disk.qcow2"),
    packed: `${directory}.ext4`,
  };
}

/** Takes the one file below boot/ whose name starts so. */
function takeFromBoot(root: string, prefix: string, target: string): void {
  const boot = path.join(root, "boot");
  const names = fs.readdirSync(boot).filter((name) => name.startsWith(prefix));
  if (names.length !== 1) throw new Error(`Cannot find one ${prefix}* in ${boot}: ${names}`);
  fs.copyFileSync(path.join(boot, names[0]!), target);
}

function make(directory: string): void {
  const files = inDirectory(directory);
  const root = `${directory}.root`;
  for (const name of [directory, root]) fs.rmSync(name, { recursive: true, force: true });
  fs.mkdirSync(directory, { recursive: true });
  try {
    installPackages(root);
    configure(root);
    takeFromBoot(root, "vmlinuz-", files.kernel);
    takeFromBoot(root, "initrd.img-", files.initrd);
    makeDisk(files.raw, root);
    run("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", files.raw, files.qcow2]);
  } finally {
    fs.rmSync(root, { recursive: true, force: true });
  }
}

/** A file system with `directory` in it. */
function pack(directory: string, image: string): void {
  const names = fs.readdirSync(directory);
  const used = names.reduce((sum, name) => sum + fs.statSync(path.join(directory, name)).size, 0);
  // Twice the size: a guest may write wherever its disk has a hole as yet.
  makeExt4(image, directory, { bytes: 2 * Math.ceil(used / MIB) * MIB, offset: 0 });
}

/** Builds what is not there yet; needs root, and network to Debian's packages. */
export function buildDistribution(): Distribution {
  const key = createHash("sha256").update(fs.readFileSync(FILE)).digest("hex").slice(0, 16);
  const directory = path.join(OUTPUT, `distribution-${key}`);
  const files = inDirectory(directory);
  const { packed } = files;
  if (!fs.existsSync(packed)) {
    const stale = fs.existsSync(OUTPUT) ? fs.readdirSync(OUTPUT) : [];
    for (const name of stale.filter((entry) => entry.startsWith("distribution-"))) {
      fs.rmSync(path.join(OUTPUT, name), { recursive: true });
    }
    make(directory);
    pack(directory, `${packed}.part`);
    fs.renameSync(`${packed}.part`, packed);
  }
  return files;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) console.log(buildDistribution());
