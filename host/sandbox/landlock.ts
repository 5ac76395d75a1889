// Landlock (landlock(7)): rights that a process gives up itself, by what it wants to do and not by
// which system call does it. It is the wall that stands when the filter is off or has a hole.
//
// A device process gets two layers of it. The first comes before execve(2) (namespaces.ts), so that
// every thread has it and the VMM knows that it is there: nothing but reading and executing beneath
// the root. The second comes at the lock-down and allows nothing.

import { errnoName, VmmError } from "../errors.js";
import { close, errno, syscall } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import type { Argument } from "./launcher.js";
import { FCNTL, LANDLOCK } from "./linux.js";
import { syscallNumber } from "./syscalls.js";

const EOPNOTSUPP = 95;
const ENOSYS = 38;
/**
 * The newest ABI whose rights are known here. A newer kernel is treated as this one: asking for a
 * right that it does not have is an error, not asking for one only leaves it as it is today.
 */
export const LANDLOCK_ABI_MAX = 9;

/** Rights of the file system, and the ABI from which on there is one more (landlock(7)). */
const FS_RIGHTS: readonly (readonly [abi: number, last: number])[] = [
  [1, LANDLOCK.LANDLOCK_ACCESS_FS_MAKE_SYM],
  [2, LANDLOCK.LANDLOCK_ACCESS_FS_REFER],
  [3, LANDLOCK.LANDLOCK_ACCESS_FS_TRUNCATE],
  [5, LANDLOCK.LANDLOCK_ACCESS_FS_IOCTL_DEV],
  [9, LANDLOCK.LANDLOCK_ACCESS_FS_RESOLVE_UNIX],
];
const TRUNCATE_ABI = 3;
const NET_ABI = 4;
const SCOPE_ABI = 6;
const TSYNC_ABI = 8;

/** What is left between execve(2) and the lock-down, while node and the module are loaded. */
const START_RIGHTS =
  LANDLOCK.LANDLOCK_ACCESS_FS_EXECUTE |
  LANDLOCK.LANDLOCK_ACCESS_FS_READ_FILE |
  LANDLOCK.LANDLOCK_ACCESS_FS_READ_DIR;

/** A directory that a process was granted, as a descriptor of its own. */
export interface Directory {
  fd: number;
  isWritable: boolean;
}

/** What of it is left, in both layers. */
function directoryRights(abi: number, { isWritable }: Directory): number {
  const read = LANDLOCK.LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK.LANDLOCK_ACCESS_FS_READ_DIR;
  if (!isWritable) return read;
  const truncate = abi >= TRUNCATE_ABI ? LANDLOCK.LANDLOCK_ACCESS_FS_TRUNCATE : 0;
  const { LANDLOCK_ACCESS_FS_WRITE_FILE: write, LANDLOCK_ACCESS_FS_MAKE_REG: make } = LANDLOCK;
  return read | write | make | LANDLOCK.LANDLOCK_ACCESS_FS_REMOVE_FILE | truncate;
}

/**
 * The Landlock ABI of this kernel, at most LANDLOCK_ABI_MAX; 0 where it is not built in (ENOSYS) or
 * was not switched on at boot (EOPNOTSUPP).
 *
 * @throws VmmError ERR_SANDBOX with any other errno: somebody keeps it from this process
 */
export function landlockAbi(): number {
  const nr = syscallNumber("landlock_create_ruleset");
  const abi = syscall(nr, 0, 0, LANDLOCK.LANDLOCK_CREATE_RULESET_VERSION, 0, 0, 0);
  if (abi > 0) return Math.min(abi, LANDLOCK_ABI_MAX);
  if (errno() === ENOSYS || errno() === EOPNOTSUPP) return 0;
  throw refused("landlock_create_ruleset");
}

function refused(call: string): VmmError {
  const number = errno();
  const message = `Cannot confine the device: Landlock: ${call}: ${errnoName(number)}`;
  return new VmmError("ERR_SANDBOX", message, { errno: number, syscall: call });
}

/**
 * struct landlock_ruleset_attr {handled_access_fs, handled_access_net, scoped} that handles every
 * right there is: what is handled is denied unless a rule allows it. A kernel refuses a longer one
 * than it knows.
 */
export function handleEverything(abi: number): Uint8Array<ArrayBuffer> {
  const lasts = FS_RIGHTS.filter(([from]) => abi >= from).map(([, last]) => last);
  const fs = BigInt(Math.max(...lasts)) * 2n - 1n;
  const { LANDLOCK_ACCESS_NET_BIND_TCP: bind, LANDLOCK_ACCESS_NET_CONNECT_TCP: connect } = LANDLOCK;
  const { LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET: unix, LANDLOCK_SCOPE_SIGNAL: signal } = LANDLOCK;
  const net = abi >= NET_ABI ? [BigInt(bind | connect)] : [];
  const scoped = abi >= SCOPE_ABI ? [BigInt(unix | signal)] : [];
  return new Uint8Array(new BigUint64Array([fs, ...net, ...scoped]).buffer);
}

/** struct landlock_path_beneath_attr {__u64 allowed_access; __s32 parent_fd}, packed. */
function pathBeneath(allowed: number, parentFd: number): Uint8Array {
  const attribute = new DataView(new ArrayBuffer(12));
  attribute.setBigUint64(0, BigInt(allowed), true);
  attribute.setInt32(8, parentFd, true);
  return new Uint8Array(attribute.buffer);
}

/**
 * The first layer as system calls for the launcher, in a child whose lowest free descriptor is
 * `fd`: the ruleset takes it and the root the next one, and both are gone at execve(2).
 */
export function startLayer(
  abi: number,
  { fd, directories }: { fd: number; directories: readonly Directory[] },
): [syscall: string, ...args: Argument[]][] {
  const attribute = handleEverything(abi);
  const { LANDLOCK_RULE_PATH_BENEATH: beneath } = LANDLOCK;
  const rule = pathBeneath(START_RIGHTS, fd + 1);
  const granted = directories.map((each): [string, ...Argument[]] => {
    const rule = pathBeneath(directoryRights(abi, each), each.fd);
    return ["landlock_add_rule", fd, beneath, rule, 0];
  });
  return [
    ["landlock_create_ruleset", attribute, attribute.length, 0],
    ["open", "/", FCNTL.O_PATH | FCNTL.O_CLOEXEC, 0],
    ["landlock_add_rule", fd, beneath, rule, 0],
    ...granted,
    ["landlock_restrict_self", fd, 0],
  ];
}

function allowBeneath(ruleset: number, rule: Uint8Array): void {
  const memory = Mapping.anonymous(rule.length);
  new Uint8Array(memory.view.buffer).set(rule);
  const type = LANDLOCK.LANDLOCK_RULE_PATH_BENEATH;
  const nr = syscallNumber("landlock_add_rule");
  const result = syscall(nr, ruleset, type, memory.address, 0, 0, 0);
  memory.close();
  if (result !== 0) throw refused("landlock_add_rule");
}

/**
 * The second layer: this process may open nothing but what is beneath its directories, connect
 * nowhere, and signal nobody outside.
 * Descriptors that are open keep what they can do. From ABI 8 on all threads get it at once, before
 * that only the calling one: the other thread sleeps for ever in the first layer.
 *
 * Needs no_new_privs and one free descriptor, which is closed again.
 *
 * @returns the ABI; 0 if this kernel has no Landlock, and then nothing is restricted
 * @throws VmmError ERR_SANDBOX when the kernel has it and refuses
 */
export function denyEverything(directories: readonly Directory[] = []): number {
  const abi = landlockAbi();
  if (abi === 0) return 0;
  const attribute = handleEverything(abi);
  const memory = Mapping.anonymous(attribute.length);
  new Uint8Array(memory.view.buffer).set(attribute);
  const create = syscallNumber("landlock_create_ruleset");
  const fd = syscall(create, memory.address, attribute.length, 0, 0, 0, 0);
  memory.close();
  if (fd < 0) throw refused("landlock_create_ruleset");
  for (const each of directories)
    allowBeneath(fd, pathBeneath(directoryRights(abi, each), each.fd));
  const flags = abi >= TSYNC_ABI ? LANDLOCK.LANDLOCK_RESTRICT_SELF_TSYNC : 0;
  if (syscall(syscallNumber("landlock_restrict_self"), fd, flags, 0, 0, 0, 0) !== 0) {
    throw refused("landlock_restrict_self");
  }
  close(fd);
  return abi;
}
