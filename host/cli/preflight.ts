// Looks at what a VmConfig wants of this machine before anything starts, because the plain errno
// of a thread or a sandboxed process tells the user less than "there is no such file" does.

import fs from "node:fs";
import inspector from "node:inspector";
import { type ErrorCode, errnoName, VmmError } from "../errors.js";
import { kindRow, type VmConfig } from "../machine/config.js";
import { isNewPty } from "./device.js";
import { formatSize } from "./size.js";
import { usageError } from "./usage.js";

const CAUSES: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  EACCES: "this user may not open it",
  ENOTDIR: "it, or a part of its path, is no directory",
  EISDIR: "it is a directory",
  EROFS: "the file system is read-only",
  ELOOP: "symbolic links lead in a circle",
};

interface Wanted {
  /** The start of the message: `Cannot open kernel`. */
  action: string;
  path: string;
  mode?: number;
  isDirectory?: boolean;
  code?: ErrorCode;
  whatToDo?: string;
}

function errnoOf(
  path: string,
  mode: number,
  wantsDirectory: boolean,
): NodeJS.ErrnoException | undefined {
  try {
    fs.accessSync(path, mode);
    if (fs.statSync(path).isDirectory() === wantsDirectory) return undefined;
    const [code, errno] = wantsDirectory ? ["ENOTDIR", -20] : ["EISDIR", -21];
    return Object.assign(new Error(), { code, errno, syscall: "open" });
  } catch (error) {
    return error as NodeJS.ErrnoException;
  }
}

function checkFile(wanted: Wanted): void {
  const { action, path, mode = fs.constants.R_OK, isDirectory = false, code, whatToDo } = wanted;
  const failure = errnoOf(path, mode, isDirectory);
  if (failure === undefined) return;
  const errno = -(failure.errno ?? 0);
  const name = failure.code ?? errnoName(errno);
  const problem = `${action} "${path}": ${name}, ${CAUSES[name] ?? "the file cannot be used"}`;
  const message = whatToDo === undefined ? problem : `${problem}\n${whatToDo}`;
  throw new VmmError(code ?? "ERR_FILE", message, { errno, syscall: failure.syscall });
}

/**
 * Throws ERR_USAGE where Node's inspector listens and the VMM's filter is enforced: whoever
 * attaches would have the VMM make a call that is denied, and end the guest with it.
 */
export function checkDebugger({ seccomp }: Pick<VmConfig, "seccomp">): void {
  const url = inspector.url();
  if (url === undefined || seccomp !== "enforce") return;
  const cause = "a debugger that attaches makes system calls for which the VMM would be killed";
  const problem = `Cannot run with --seccomp enforce and Node's inspector at ${new URL(url).host}`;
  const whatToDo = "add --seccomp off, or leave --inspect out of the command and of NODE_OPTIONS";
  throw usageError(`${problem}: ${cause}`, whatToDo);
}

/** Bytes of memory and swap of this machine. */
function machineMemory(): number {
  const meminfo = fs.readFileSync("/proc/meminfo", "utf8");
  const kilobytes = (name: string) => {
    return Number(new RegExp(`^${name}: *(\\d+) kB$`, "m").exec(meminfo)?.[1] ?? 0);
  };
  return (kilobytes("MemTotal") + kilobytes("SwapTotal")) * 1024;
}

/**
 * Throws ERR_MEMORY_LAYOUT for more than this machine has: Linux would promise it, and kill
 * somebody when the guest uses it.
 */
export function checkMemory({ memoryBytes }: Pick<VmConfig, "memoryBytes">): void {
  const has = machineMemory();
  if (memoryBytes <= has) return;
  const mebibytes = Math.floor(has / 1024 ** 2);
  const problem = `this machine has ${mebibytes}M, its swap included`;
  const message = `Cannot give a guest ${formatSize(memoryBytes)} of memory: ${problem}, see -m`;
  throw new VmmError("ERR_MEMORY_LAYOUT", message);
}

/** Throws ERR_FILE when the module of device `id` is missing or not allowed. */
export function checkModule(id: string, module: string): void {
  const whatToDo = "has it been built? In a checkout: npm run build";
  checkFile({ action: `Cannot open the module of ${id}`, path: module, whatToDo });
}

/** Throws ERR_FILE or ERR_GRANT for the first file of `config` that is missing or not allowed. */
export function checkFiles(config: Pick<VmConfig, "kernel" | "initrd" | "devices">): void {
  checkFile({ action: "Cannot open kernel", path: config.kernel });
  if (config.initrd !== undefined) checkFile({ action: "Cannot open initrd", path: config.initrd });
  for (const { id, module, grants } of config.devices) {
    checkModule(id, module);
    for (const [name, grant] of Object.entries(grants)) {
      if (isNewPty(grant)) continue;
      const { kind, what, rights } = grant;
      const { what: isPath, isMade, isDirectory = false } = kindRow(kind);
      if (isPath !== "PATH" || isMade === true) continue;
      const read = rights.includes("read") ? fs.constants.R_OK : 0;
      const writes = rights.includes("write") || rights.includes("append");
      const write = writes ? fs.constants.W_OK : 0;
      const action = `Cannot grant ${id}.${name}`;
      checkFile({ action, path: what, mode: read | write, isDirectory, code: "ERR_GRANT" });
    }
  }
}
