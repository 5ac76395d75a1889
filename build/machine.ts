// The test machine: an initramfs that makes Debian's kernel a guest to be tested, and another that
// makes the same kernel a KVM host for it, with this checkout inside. Everything goes to
// dist/machine/; Debian packages are downloaded and unpacked there, never installed.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Cpio } from "./cpio.js";
import { guestPath } from "./guest.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SOURCES = path.join(ROOT, "test", "machine");
const OUTPUT = path.join(ROOT, "dist", "machine");

const KERNEL_PACKAGE = "linux-image-cloud-amd64";

/** Modules of both guests, in the order that satisfies their dependencies. */
export const GUEST_MODULES = [
  "virtio_ring",
  "virtio",
  "virtio_mmio",
  "virtio_pci_legacy_dev",
  "virtio_pci_modern_dev",
  "virtio_pci",
  "rng-core",
  "virtio-rng",
  "virtio_console",
  "button",
];

/** Those besides that the guest of the examples has; no driver of an example is built in. */
const EXAMPLES_MODULES = ["virtio_blk", "evdev", "virtio_input"];

/** KVM, and a disk of the host's own. */
const HOST_MODULES = [
  ...["irqbypass", "kvm", "kvm-amd", "virtio_ring", "virtio"],
  ...["virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk"],
];

/** A downloaded kernel and shell, unpacked. */
interface DebianFiles {
  kernel: string;
  modules: string;
  busybox: string;
}

/** What a test machine boots; paths of files in dist/machine/. */
export interface MachineImages {
  /** bzImage, of the host and of its guest. */
  kernel: string;
  /** initramfs of the guest under test. */
  guestInitrd: string;
  /** initramfs of the guest that uses the devices of devices-as/examples/. */
  examplesInitrd: string;
  /** initramfs of the emulated host: everything but the jobs. */
  hostInitrd: string;
}

/** Where things are in the emulated host; see test/machine/host-init.sh. */
export const HOST_PATHS = {
  checkout: "/bulkhead",
  node: "/bin/node",
  guest: "/guest/entropy.elf",
  kernel: "/guest/vmlinuz",
  initrd: "/guest/initrd",
  examplesInitrd: "/guest/examples-initrd",
  jobs: "/jobs",
  disks: "/disks",
};

function run(command: string, args: string[], cwd = OUTPUT): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8" });
  if (error) throw new Error(`Cannot run ${command}: ${error.message}`);
  if (status !== 0) throw new Error(`Cannot run ${command} ${args.join(" ")}: ${stderr.trim()}`);
  return stdout;
}

/** The package with the files: linux-image-cloud-amd64 only depends on linux-image-6.1.0-…. */
function resolveKernelPackage(): string {
  const depends = run("apt-cache", ["depends", KERNEL_PACKAGE]);
  const match = /Depends: (linux-image-\S+)/.exec(depends);
  if (!match)
    throw new Error(`Cannot find ${KERNEL_PACKAGE}: apt does not know what it depends on`);
  return match[1]!;
}

function download(directory: string): void {
  // A machine that never ran apt-get update has no lists to find the packages in.
  const known = spawnSync("apt-cache", ["show", KERNEL_PACKAGE], { encoding: "utf8" });
  if (known.stdout === "" && process.getuid?.() === 0) run("apt-get", ["-qq", "update"]);
  fs.rmSync(directory, { recursive: true, force: true });
  fs.mkdirSync(directory, { recursive: true });
  run("apt-get", ["-qq", "download", resolveKernelPackage(), "busybox-static"], directory);
  for (const file of fs.readdirSync(directory).filter((name) => name.endsWith(".deb"))) {
    run("dpkg", ["-x", file, "."], directory);
    fs.rmSync(path.join(directory, file));
  }
}

function only(directory: string, pattern: RegExp): string {
  const names = fs.readdirSync(directory).filter((name) => pattern.test(name));
  if (names.length !== 1) throw new Error(`Cannot find one ${pattern} in ${directory}: ${names}`);
  return path.join(directory, names[0]!);
}

/** Debian's kernel and busybox, downloaded once. */
function fetchDebian(): DebianFiles {
  const directory = path.join(OUTPUT, "debian");
  const done = path.join(directory, "complete");
  if (!fs.existsSync(done)) {
    download(directory);
    fs.writeFileSync(done, "");
  }
  const merged = ["usr/lib/modules", "lib/modules"].map((name) => path.join(directory, name));
  const binaries = ["usr/bin", "bin"].map((name) => path.join(directory, name));
  return {
    kernel: only(path.join(directory, "boot"), /^vmlinuz-/),
    modules: only(merged.find((name) => fs.existsSync(name))!, /cloud-amd64$/),
    busybox: only(binaries.find((name) => fs.existsSync(path.join(name, "busybox")))!, /^busybox$/),
  };
}

/** Path of Debian's kernel, a bzImage; downloads it if it is not there yet. */
export function debianKernel(): string {
  fs.mkdirSync(OUTPUT, { recursive: true });
  return fetchDebian().kernel;
}

/** Puts the modules that are not built into this kernel, and their order, into /modules. */
function addModules(cpio: Cpio, names: string[], { modules, busybox }: DebianFiles): void {
  const files = fs.readdirSync(modules, { recursive: true, encoding: "utf8" });
  const added: string[] = [];
  for (const name of names) {
    const file = files.find((f) => new RegExp(`/${name}\\.ko(\\.xz)?$`).test(f));
    if (file === undefined) continue;
    const source = path.join(modules, file);
    const unpacked = file.endsWith(".xz")
      ? spawnSync(busybox, ["xzcat", source], { maxBuffer: 1 << 28 }).stdout
      : fs.readFileSync(source);
    cpio.file(`modules/${name}.ko`, unpacked);
    added.push(name);
  }
  cpio.file("modules/order", added.join("\n"));
}

/**
 * An initramfs with busybox, kernel modules, and `init` of test/machine/ as its first program.
 *
 * @param modules those that are not built in, in the order that they are loaded in
 */
export function initramfs(init: string, modules: string[], debian = fetchDebian()): Cpio {
  const cpio = new Cpio();
  for (const name of ["proc", "sys", "dev", "tmp", "disks"]) cpio.directory(name);
  cpio.copy("bin/busybox", debian.busybox, 0o755);
  cpio.copy("init", path.join(SOURCES, init), 0o755);
  addModules(cpio, modules, debian);
  return cpio;
}

/** Shared libraries of a program, as ldd(1) finds them. */
export function librariesOf(program: string): string[] {
  const lines = run("ldd", [program]).split("\n");
  return lines.flatMap((line) => /(?:=> |^\s+)(\/\S+) \(0x/.exec(line)?.[1] ?? []);
}

/** Names of the packages that dist/host needs at run time, from package.json on down. */
function runtimePackages(): string[] {
  const found = new Set<string>();
  const visit = (directory: string) => {
    const file = path.join(directory, "package.json");
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(
      fs.readFileSync(file, "utf8"),
    ) as Record<string, Record<string, string>>;
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
      const location = path.join(ROOT, "node_modules", name);
      if (found.has(name) || !fs.existsSync(location)) continue;
      found.add(name);
      visit(location);
    }
  };
  visit(ROOT);
  return [...found];
}

function addCheckout(cpio: Cpio): void {
  const { checkout } = HOST_PATHS;
  cpio.copy(`${checkout}/package.json`, path.join(ROOT, "package.json"));
  for (const part of ["host", "bundle", "devices", "guest", "test", "build"]) {
    const source = path.join(ROOT, "dist", part);
    if (fs.existsSync(source)) cpio.tree(`${checkout}/dist/${part}`, source);
  }
  for (const name of [...runtimePackages(), "uvu", "dequal", "kleur", "diff", "mri", "sade"]) {
    cpio.tree(`${checkout}/node_modules/${name}`, path.join(ROOT, "node_modules", name));
  }
}

/** Builds the images; downloads what is not there yet. Takes 1 s, the first time a few. */
export function buildMachine(): MachineImages {
  fs.mkdirSync(OUTPUT, { recursive: true });
  const debian = fetchDebian();
  const guestInitrd = path.join(OUTPUT, "guest.cpio");
  const hostInitrd = path.join(OUTPUT, "host.cpio");
  const examplesInitrd = path.join(OUTPUT, "examples.cpio");
  initramfs("guest-init.sh", GUEST_MODULES, debian).write(guestInitrd);
  const examplesModules = [...GUEST_MODULES, ...EXAMPLES_MODULES];
  initramfs("examples-init.sh", examplesModules, debian).write(examplesInitrd);

  const host = initramfs("host-init.sh", HOST_MODULES, debian);
  host.copy(HOST_PATHS.node, process.execPath, 0o755);
  for (const library of librariesOf(process.execPath)) host.copy(library, library, 0o755);
  host.copy(HOST_PATHS.kernel, debian.kernel);
  host.copy(HOST_PATHS.guest, guestPath("entropy"));
  host.copy(HOST_PATHS.initrd, guestInitrd);
  host.copy(HOST_PATHS.examplesInitrd, examplesInitrd);
  addCheckout(host);
  host.write(hostInitrd);
  return { kernel: debian.kernel, guestInitrd, examplesInitrd, hostInitrd };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) console.log(buildMachine());
