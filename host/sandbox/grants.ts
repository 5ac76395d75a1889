// One grant, three walls. Everything that a granted capability means is one row of one table: the
// access mode its descriptor is opened with, its WASI rights, the functions that link inside Wasm,
// and for each of those the system calls that the process may make on that descriptor and no other.
// There is no second list to keep in step: a new kind of capability is a new row.

import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { VmmError } from "../errors.js";
import { fcntl, syscall } from "../ffi/libc.js";
import type { Capability, GrantKind, Manifest, ModuleFacts, Right } from "./manifest.js";
import { syscallNumber } from "./syscalls.js";

export type { GrantKind, Right } from "./manifest.js";

/** The import module whose functions the table below names. */
export const WASI_MODULE = "wasi_snapshot_preview1";
/** Inside Wasm the first capability of the manifest is this descriptor; 0–2 do not exist. */
export const WASI_FD_FIRST = 3;

const { O_RDONLY, O_WRONLY, O_RDWR, O_NONBLOCK, O_NOCTTY } = constants;
/** fcntl.h: set the file status flags. */
const F_SETFL = 4;
/** unistd.h */
const SEEK_SET = 0;

/** Rights of wasi_snapshot_preview1, as in its witx file. */
export const WASI_RIGHTS = {
  fd_read: 1n << 1n,
  fd_seek: 1n << 2n,
  fd_write: 1n << 6n,
} as const;

/** A system call that takes the granted descriptor as its first argument. */
export interface GrantedCall {
  syscall: string;
  reason: string;
}

interface GrantRow {
  /** Access mode of open(2). */
  access: number;
  wasiRights: bigint;
  /** Functions that link inside Wasm, and what each of them needs outside. */
  imports: Record<string, GrantedCall[]>;
}

/** A right that a kind does not have has no row: the manifest cannot ask for it (manifest.ts). */
const GRANTS: Record<GrantKind, Partial<Record<Right, GrantRow>>> = {
  file: {
    read: {
      access: O_RDONLY,
      wasiRights: WASI_RIGHTS.fd_read | WASI_RIGHTS.fd_seek,
      imports: {
        fd_read: [{ syscall: "read", reason: "the module reads this grant from its position" }],
        fd_pread: [{ syscall: "pread64", reason: "the module reads this grant at an offset" }],
      },
    },
    write: {
      access: O_WRONLY,
      wasiRights: WASI_RIGHTS.fd_write | WASI_RIGHTS.fd_seek,
      imports: {
        fd_write: [{ syscall: "write", reason: "the module writes this grant at its position" }],
        fd_pwrite: [{ syscall: "pwrite64", reason: "the module writes this grant at an offset" }],
      },
    },
  },
  // No descriptor stands for a clock: every process may read both, so this wall is the link's alone
  // (wasi_snapshot_preview1.ts).
  clock: { read: { access: O_RDONLY, wasiRights: 0n, imports: { clock_time_get: [] } } },
};

/** What may stand after `clock:`; the time of day includes the monotonic clock. */
const CLOCKS = ["monotonic", "realtime"] as const;
export type ClockName = (typeof CLOCKS)[number];

/** What can be granted of each kind, for messages and for what only asks what would follow. */
export const EXAMPLES: Readonly<Record<GrantKind, string>> = { file: "PATH", clock: "monotonic" };

/** Instead of the descriptor of a grant that has none. */
export const NO_FD = -1;

/** What the command line gives: `file:/dev/urandom:ro`. */
export interface GrantSpec {
  kind: GrantKind;
  /** For a file, its path; for a clock, which one. */
  what: string;
  rights: Right[];
}

/** A grant that a capability of the manifest asked for. */
export interface ResolvedGrant extends GrantSpec {
  name: string;
}

/** A grant as a device process holds it: an open descriptor, or NO_FD. */
export interface GrantedFd {
  name: string;
  kind: GrantKind;
  rights: Right[];
  fd: number;
  /** Of a clock: which one. */
  clock?: ClockName;
}

function rowsOf(kind: GrantKind, rights: readonly Right[]): GrantRow[] {
  return rights.flatMap((right) => GRANTS[kind][right] ?? []);
}

/** Access mode of open(2) for a grant; O_RDONLY has no bits, so modes do not simply add up. */
export function openFlagsOf(kind: GrantKind, rights: readonly Right[]): number {
  const modes = new Set(rowsOf(kind, rights).map((row) => row.access));
  const [only] = modes;
  return modes.size === 1 ? only! : O_RDWR;
}

/** WASI rights of the descriptor inside Wasm. */
export function wasiRightsOf(kind: GrantKind, rights: readonly Right[]): bigint {
  return rowsOf(kind, rights).reduce((all, row) => all | row.wasiRights, 0n);
}

/** Names of the WASI functions that this grant links, and no others. */
export function importsOf(kind: GrantKind, rights: readonly Right[]): string[] {
  return rowsOf(kind, rights).flatMap((row) => Object.keys(row.imports));
}

/**
 * System calls that a grant needs for the functions `imported`; nothing for what is not imported.
 */
export function callsOf(grant: GrantedFd, imported: ReadonlySet<string>): GrantedCall[] {
  const entries = rowsOf(grant.kind, grant.rights).flatMap((row) => Object.entries(row.imports));
  return entries.flatMap(([name, calls]) => (imported.has(name) ? calls : []));
}

/** The descriptor number inside Wasm of the capability `name`, whether it was granted or not. */
export function wasiFdOf(manifest: Manifest, name: string): number {
  const index = manifest.capabilities.findIndex((capability) => capability.name === name);
  return index < 0 ? -1 : WASI_FD_FIRST + index;
}

/**
 * Refuses a module that imports a function which none of its capabilities would link, were all of
 * them granted.
 *
 * @throws VmmError ERR_MODULE
 */
export function checkImports({
  manifest,
  imports,
}: Pick<ModuleFacts, "manifest" | "imports">): void {
  const linked = new Set(
    manifest.capabilities.flatMap((each) => importsOf(each.kind, each.rights)),
  );
  for (const { module, name } of imports) {
    if (module === WASI_MODULE && linked.has(name)) continue;
    const why = "no capability in its manifest links that";
    throw new VmmError(
      "ERR_MODULE",
      `Cannot use this module: it imports ${module}.${name}, ${why}`,
    );
  }
}

function grantError(message: string): VmmError {
  return new VmmError("ERR_GRANT", message);
}

/** Whether a descriptor stands for a grant of this kind. */
export function hasFd(kind: GrantKind): boolean {
  return kind !== "clock";
}

/** The descriptors of these grants in a process that has them from `first` on, without gaps. */
export function placeGrants<T extends { kind: GrantKind }>(
  grants: readonly T[],
  first: number,
): (T & { fd: number })[] {
  let next = first;
  return grants.map((grant) => ({ ...grant, fd: hasFd(grant.kind) ? next++ : NO_FD }));
}

function clockOf({ name, kind, what }: Omit<ResolvedGrant, "rights">): ClockName {
  const found = CLOCKS.find((clock) => clock === what);
  if (found !== undefined) return found;
  const known = CLOCKS.map((clock) => `${kind}:${clock}`).join(" or ");
  throw grantError(`Cannot grant ${name}=${kind}:${what}: there is no such clock, try ${known}`);
}

function resolve(capability: Capability, { kind, what, rights }: GrantSpec): ResolvedGrant {
  const { name } = capability;
  if (kind !== capability.kind) {
    throw grantError(
      `Cannot grant ${name}=${kind}:${what}: the device asks for ${capability.kind}`,
    );
  }
  const excess = rights.filter((right) => !capability.rights.includes(right));
  if (excess.length > 0) {
    const asked = capability.rights.join("+");
    throw grantError(`Cannot grant ${name} with ${excess.join("+")}: the device asks for ${asked}`);
  }
  if (rights.length === 0) throw grantError(`Cannot grant ${name}: without any right`);
  if (kind === "clock") clockOf({ name, kind, what });
  return { name, kind, what, rights };
}

/**
 * Matches what the module asks for with what the command line gives.
 *
 * @returns one entry for each capability that is granted, in manifest order
 * @throws VmmError ERR_GRANT naming the grant: one is required and missing, or was not asked for
 */
export function resolveGrants(
  manifest: Manifest,
  given: Readonly<Record<string, GrantSpec>>,
): ResolvedGrant[] {
  const { name: device, capabilities } = manifest;
  const asked = capabilities.map((capability) => capability.name);
  const unasked = Object.keys(given).find((name) => !asked.includes(name));
  if (unasked !== undefined) {
    const known = asked.length > 0 ? `it asks for ${asked.join(", ")}` : "it asks for nothing";
    throw grantError(`Cannot grant ${unasked} to device ${device}: ${known}`);
  }
  return capabilities.flatMap((capability) => {
    const spec = Object.hasOwn(given, capability.name) ? given[capability.name] : undefined;
    if (spec !== undefined) return [resolve(capability, spec)];
    if (!capability.required) return [];
    const example = `--grant ID.${capability.name}=${capability.kind}:${EXAMPLES[capability.kind]}`;
    throw grantError(
      `Cannot start device ${device}: ${capability.name} is missing, try ${example}`,
    );
  });
}

/** The descriptors of grants that have one. */
export function fdsOf(granted: readonly { fd: number }[]): number[] {
  return granted.map(({ fd }) => fd).filter((fd) => fd !== NO_FD);
}

function openFile({ name, kind, what, rights }: ResolvedGrant): number {
  // O_NONBLOCK: opening a FIFO must not wait for its other end, and the VMM with it. libuv adds
  // O_CLOEXEC, so no other device inherits the descriptor.
  const fd = openSync(what, openFlagsOf(kind, rights) | O_NONBLOCK | O_NOCTTY);
  const stat = fstatSync(fd);
  if (stat.isFile() || stat.isCharacterDevice() || stat.isBlockDevice()) {
    fcntl(fd, F_SETFL, 0);
    return fd;
  }
  closeSync(fd);
  throw grantError(`Cannot grant ${name}=${kind}:${what}: it is neither a file nor a device`);
}

/**
 * Opens what was granted, with no more access than its rights need. The caller closes the
 * descriptors.
 *
 * @throws VmmError ERR_GRANT if one cannot be opened; none stays open then
 */
export function openGrants(grants: readonly ResolvedGrant[]): GrantedFd[] {
  const opened: GrantedFd[] = [];
  try {
    for (const grant of grants) {
      const { name, kind, rights } = grant;
      if (kind === "clock") opened.push({ name, kind, rights, fd: NO_FD, clock: clockOf(grant) });
      else opened.push({ name, kind, rights, fd: openFile(grant) });
    }
    return opened;
  } catch (cause) {
    for (const fd of fdsOf(opened)) closeSync(fd);
    if (cause instanceof VmmError) throw cause;
    const { name, kind, what } = grants[opened.length]!;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new VmmError("ERR_GRANT", `Cannot grant ${name}=${kind}:${what}: ${reason}`, { cause });
  }
}

/**
 * Makes what was granted as it was when it was opened, for the next one that uses it: at its start.
 * What has no position (a terminal) is left alone.
 */
export function rewindGrants(granted: readonly GrantedFd[]): void {
  for (const fd of fdsOf(granted)) syscall(syscallNumber("lseek"), fd, 0, SEEK_SET, 0, 0, 0);
}
