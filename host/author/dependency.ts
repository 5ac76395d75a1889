// What the package.json of a new device says it depends on: the very Bulkhead that made it. A
// package of that name and version somewhere else may be anybody's.

import fs from "node:fs";
import path from "node:path";

/** What npm notes of each package that it installs, in node_modules/.package-lock.json. */
interface Installed {
  /** A URL; `file:PATH` from the project's folder; or absent. */
  resolved?: string;
}

function readJson(file: string): unknown {
  return JSON.parse(fs.readFileSync(file, "utf8"));
}

/** npm's note of the package in `root`; undefined where npm did not put it there. */
function noteOf(root: string): Installed | undefined {
  const modules = path.dirname(root);
  const lock = path.join(modules, ".package-lock.json");
  if (path.basename(modules) !== "node_modules" || !fs.existsSync(lock)) return undefined;
  const { packages = {} } = readJson(lock) as { packages?: Record<string, Installed> };
  return packages[`node_modules/${path.basename(root)}`];
}

/**
 * The version, if the package in the folder `root` came from a registry; else `file:` and where it
 * came from, a checkout or a tarball, or where it is now.
 */
export function dependencyOn(root: string): string {
  const note = noteOf(root);
  if (note === undefined) return `file:${root}`;
  const { resolved } = note;
  if (resolved?.startsWith("file:") !== true) {
    return (readJson(path.join(root, "package.json")) as { version: string }).version;
  }
  const project = path.dirname(path.dirname(root));
  const origin = path.resolve(project, resolved.slice("file:".length));
  return `file:${fs.existsSync(origin) ? origin : root}`;
}
