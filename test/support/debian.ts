// Programs that tests need from Debian packages. They are installed without asking only where
// nobody minds: by root in CI (CI=true), or when BULKHEAD_TEST_INSTALL=1 says so. Elsewhere the
// test is skipped, and the reason names the command that installs them.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

/** Path of `program`, or undefined when it is not on PATH. */
export function findProgram(program: string): string | undefined {
  const directories = (process.env.PATH ?? "").split(":").filter((name) => name !== "");
  return directories.map((d) => path.join(d, program)).find((file) => fs.existsSync(file));
}

function mayInstall(): boolean {
  if (process.getuid?.() !== 0) return false;
  return process.env.CI === "true" || process.env.BULKHEAD_TEST_INSTALL === "1";
}

function aptGet(...args: string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  return spawnSync("apt-get", ["-qq", ...args], { env, stdio: "ignore" }).status === 0;
}

/**
 * Makes `program` available if that is allowed; returns why it is not, or undefined when it is
 * there.
 *
 * @param debianPackage the package that has it
 */
export function missing(program: string, debianPackage: string): string | undefined {
  if (findProgram(program)) return undefined;
  const install = ["install", "--no-install-recommends", "-y", debianPackage];
  if (mayInstall() && aptGet("update") && aptGet(...install) && findProgram(program)) {
    process.stdout.write(`\nNOTE installed the Debian package ${debianPackage}\n`);
    return undefined;
  }
  return `no ${program}, run: apt-get ${install.join(" ")}`;
}
