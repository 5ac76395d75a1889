// The root directory of a device process: a read-only tmpfs that holds the runtime (node and its
// libraries, koffi, Bulkhead's own code), the process's own entry of /proc, and nothing else.

import { existsSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { assert } from "../errors.js";
import type { Launch } from "./launcher.js";
import { FCNTL, MNT_DETACH, MOUNT } from "./linux.js";

/** Where Bulkhead's own code is inside; outside, a path may tell who the user is. */
const INSIDE = "/bulkhead";
export const NODE_INSIDE = `${INSIDE}/node`;
export const LIBRARIES_INSIDE = `${INSIDE}/lib`;
/** Program loader of the x86-64 ABI supplement (§5.2.1, "Program Interpreter"). */
const LOADER = "/lib64/ld-linux-x86-64.so.2";
/**
 * The tmpfs is put together over this directory, which exists everywhere and holds nothing needed.
 */
const STAGE = "/sys";
/** Directories and empty files are all that the tmpfs itself holds. */
const TMPFS_OPTIONS = "mode=755,size=64k,nr_inodes=256";
const S_IFREG = 0o100000;

/** The directory that holds package.json and dist/. */
export const PACKAGE_ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** A file or directory of the host and where it is inside. */
interface Bind {
  from: string;
  to: string;
}

/** Directory of an installed package, seen from `parent`. */
function packageDirectory(name: string, parent: string): string {
  for (let at = parent; ; at = path.dirname(at)) {
    const candidate = path.join(at, "node_modules", name);
    if (existsSync(path.join(candidate, "package.json"))) return candidate;
    assert(at !== path.dirname(at), `package ${name} is not installed`);
  }
}

/**
 * Shared libraries of this very process, each under its soname in one directory, which
 * LD_LIBRARY_PATH names. (process.report would list them as well, in 10 ms.)
 */
function sharedLibraries(): Bind[] {
  const maps = readFileSync("/proc/self/maps", "latin1");
  const files = new Set([...maps.matchAll(/ (\/\S+\.so[.\d]*)$/gm)].map(([, file]) => file!));
  const soname = (file: string) => path.basename(file).replace(/(\.so\.\d+)[.\d]*$/, "$1");
  return [...files].flatMap((from) => {
    const inLibraries = { from, to: `${LIBRARIES_INSIDE}/${soname(from)}` };
    // The program loader is found by the name that is written in every program.
    return soname(from) === path.basename(LOADER) ? [{ from, to: LOADER }] : [inLibraries];
  });
}

let runtimeBinds: Bind[] | undefined;

/**
 * Everything that a device process loads besides its program, found out by looking at this process.
 */
function runtime(): Bind[] {
  if (runtimeBinds !== undefined) return runtimeBinds;
  const koffi = packageDirectory("@koromix/koffi-linux-x64", PACKAGE_ROOT);
  runtimeBinds = [
    { from: process.execPath, to: NODE_INSIDE },
    ...sharedLibraries(),
    { from: path.join(PACKAGE_ROOT, "package.json"), to: `${INSIDE}/package.json` },
    { from: koffi, to: `${INSIDE}/node_modules/@koromix/koffi-linux-x64` },
  ];
  return runtimeBinds;
}

/**
 * The program: one file when it is bundled, otherwise the modules of host/ and, for a test, its
 * own.
 */
function programOf(entry: string): Bind[] {
  const bind = (from: string): Bind => ({ from, to: pathInside(from) });
  const directory = path.dirname(entry);
  if (entry.startsWith(path.join(PACKAGE_ROOT, "dist/bundle/"))) return [bind(directory)];
  const host = path.join(PACKAGE_ROOT, "dist/host");
  return entry.startsWith(`${host}/`) ? [bind(host)] : [bind(host), bind(directory)];
}

/** Path inside of a file of the package. */
export function pathInside(file: string): string {
  return path.posix.join(INSIDE, path.relative(PACKAGE_ROOT, file));
}

function ancestors(directory: string): string[] {
  const parts = directory.split("/").filter((part) => part !== "");
  return parts.map((_, i) => `/${parts.slice(0, i + 1).join("/")}`);
}

/** Steps that make `binds` appear under STAGE. */
function populate(launch: Launch, binds: readonly Bind[]): void {
  const made = new Set<string>();
  const makeDirectory = (directory: string): void => {
    for (const each of ancestors(directory)) {
      if (made.has(each)) continue;
      made.add(each);
      launch.step(`create ${each}`, "mkdir", STAGE + each, 0o755);
    }
  };
  for (const { from, to } of binds) {
    const isDirectory = from === "/proc/self" || statSync(from).isDirectory();
    makeDirectory(isDirectory ? to : path.posix.dirname(to));
    if (!isDirectory) launch.step(`create ${to}`, "mknod", STAGE + to, S_IFREG | 0o444, 0);
    const flags = MOUNT.MS_BIND | (isDirectory ? MOUNT.MS_REC : 0);
    launch.step(`bind ${from}`, "mount", from, STAGE + to, 0, flags, 0);
  }
}

/** struct mount_attr (linux/mount.h): attr_set, attr_clr, propagation, userns_fd. */
export function mountAttributes(set: number): Uint8Array {
  return new Uint8Array(new BigUint64Array([BigInt(set), 0n, 0n, 0n]).buffer);
}

/** Steps that leave the child with the minimal root as its only file system. */
export function enterRoot(launch: Launch, entry: string): void {
  const { MS_REC, MS_PRIVATE, MS_NOSUID, MS_NODEV } = MOUNT;
  const { MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV } = MOUNT;
  const attributes = mountAttributes(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
  launch
    .step("keep mounts private", "mount", 0, "/", 0, MS_REC | MS_PRIVATE, 0)
    .step("mount a tmpfs", "mount", "none", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, TMPFS_OPTIONS);
  populate(launch, [...runtime(), ...programOf(entry), { from: "/proc/self", to: "/proc/self" }]);
  launch
    .step(
      "make the root read-only",
      "mount_setattr",
      FCNTL.AT_FDCWD,
      STAGE,
      FCNTL.AT_RECURSIVE,
      attributes,
      32,
    )
    .step("enter the new root", "chdir", STAGE)
    .step("enter the new root", "pivot_root", ".", ".")
    .step("leave the old root", "umount2", ".", MNT_DETACH)
    .step("enter the new root", "chdir", "/");
}
