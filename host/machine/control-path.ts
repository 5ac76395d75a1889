// Where the control sockets of this user's VMs are, and what a VM may be called: for the VMM and
// for whoever looks for one.

import { existsSync, lstatSync, mkdirSync, statSync } from "node:fs";
import path from "node:path";
import { errnoName, VmmError } from "../errors.js";

/** Clients that connect while as many are served as may be; the kernel turns away those beyond. */
export const BACKLOG = 8;

/** A name is a part of a path, of which a socket's may have 107 bytes, and a column of a table. */
export const NAME_CHARACTERS_MAX = 48;
/** Neither hidden, nor taken for an option, nor in another directory. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

export const SOCKET_SUFFIX = ".sock";
const DIRECTORY_MODE = 0o700;

/** Why a VM cannot have this name, or undefined. */
export function faultOfName(name: string): string | undefined {
  if (name === "") return "it is empty";
  if (name.length > NAME_CHARACTERS_MAX) {
    return `it has ${name.length} characters, ${NAME_CHARACTERS_MAX} is the most`;
  }
  if (NAME.test(name)) return undefined;
  return "it has other characters than letters, digits and inner dots, hyphens and underscores";
}

function isDirectory(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isDirectory() === true;
}

/**
 * Where this user's sockets may be, the first one being where a new one goes. Another session of
 * the same user may have other variables, so whoever looks for a VM looks in all.
 */
export function controlDirectories(env = process.env, uid = process.getuid?.() ?? 0): string[] {
  const runtime = env.XDG_RUNTIME_DIR;
  const session = runtime !== undefined && path.isAbsolute(runtime) && isDirectory(runtime);
  const user = uid === 0 ? "/run/bulkhead" : `/tmp/bulkhead-${uid}`;
  return [...(session ? [path.join(runtime, "bulkhead")] : []), user];
}

/** Path of the socket of the VM `name` in `directory`. */
export function socketIn(directory: string, name: string): string {
  return path.join(directory, `${name}${SOCKET_SUFFIX}`);
}

/** Path of the socket of the VM `name`; undefined when there is none in any place. */
export function findSocket(name: string): string | undefined {
  return trustedDirectories()
    .map((directory) => socketIn(directory, name))
    .find((file) => existsSync(file));
}

/** Those places that are there and this user's alone: a stranger's socket is no VM of theirs. */
export function trustedDirectories(): string[] {
  return controlDirectories().filter((directory) => faultOfDirectory(directory) === undefined);
}

/** Why nobody should look for, or put, control sockets into `directory`, or undefined. */
function faultOfDirectory(directory: string, uid = process.getuid?.() ?? 0): string | undefined {
  const found = lstatSync(directory, { throwIfNoEntry: false });
  if (found === undefined) return "it is not there";
  if (!found.isDirectory()) return "it is no directory";
  if (found.uid !== uid) return `it belongs to user ${found.uid}`;
  if ((found.mode & 0o077) === 0) return undefined;
  return `others may use it, its mode is ${(found.mode & 0o777).toString(8)}; chmod 700 it`;
}

function refused(directory: string, cause: string): VmmError {
  return new VmmError("ERR_FILE", `Cannot put control sockets into "${directory}": ${cause}`);
}

/**
 * Makes the directory of this user's sockets, or checks the one that is there: in /tmp anybody may
 * have made it, and would own the sockets in it.
 *
 * @throws VmmError ERR_FILE when it cannot be made or is not this user's alone
 */
export function makeControlDirectory(directory: string, uid = process.getuid?.() ?? 0): void {
  try {
    mkdirSync(directory, { mode: DIRECTORY_MODE });
  } catch (error) {
    const { code, errno = 0 } = error as NodeJS.ErrnoException;
    if (code !== "EEXIST") throw refused(directory, errnoName(-errno));
  }
  const fault = faultOfDirectory(directory, uid);
  if (fault !== undefined) throw refused(directory, fault);
}
