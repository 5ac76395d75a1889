// Ask, then grant: what a module asks for in its manifest, what the command line gives, and what
// follows from the two (the table is in grant-kinds.ts).

import { VmmError } from "../errors.js";
import {
  DIRECTORY_FILES_MAX,
  faultOfWhat,
  formsOf,
  type GrantedCall,
  type GrantKind,
  kindRow,
  linksOf,
  type Right,
} from "./grant-kinds.js";
import type { Capability, Manifest, ModuleFacts } from "./manifest.js";

export type { GrantedCall, GrantKind, Right } from "./grant-kinds.js";

/** The import module whose functions the table names. */
export const WASI_MODULE = "wasi_snapshot_preview1";
/** Inside Wasm the first capability of the manifest is this descriptor; 0–2 do not exist. */
export const WASI_FD_FIRST = 3;

/** Functions of WASI that link without any grant: fd_write, of descriptor 2, which is the log. */
const ALWAYS_LINKED: readonly string[] = ["fd_write"];

/** Instead of the descriptor of a grant that has none. */
export const NO_FD = -1;

/** What may be granted of a clock. */
export type ClockName = "monotonic" | "realtime";

/** The file of a listening socket, by what tells it from another one of the same name. */
export interface SocketFile {
  path: string;
  dev: number;
  ino: number;
}

/** What the command line gives: `file:/dev/urandom:ro`. */
export interface GrantSpec {
  kind: GrantKind;
  /** For a file, its path; grant-kinds.ts has the others. */
  what: string;
  rights: Right[];
  /** A descriptor of this process that is to be used, instead of opening WHAT. */
  held?: number;
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
  /** Of a directory: where it is, for the mount that the process gets instead of it. */
  directory?: string;
  /** The file that stands for a listening socket, and goes with it. */
  socketFile?: SocketFile;
  /** Bytes of a block device, of which fstat(2) does not know the size. */
  deviceBytes?: number;
}

/** Names of the WASI functions that this grant links, and no others. */
export function importsOf(kind: GrantKind, rights: readonly Right[]): string[] {
  return [...linksOf(kind, rights).keys()];
}

/**
 * System calls that a grant needs for the functions `imported`; nothing for what is not imported.
 */
export function callsOf(
  grant: Pick<GrantedFd, "kind" | "rights">,
  imported: ReadonlySet<string>,
): GrantedCall[] {
  const entries = [...linksOf(grant.kind, grant.rights)];
  return entries.flatMap(([name, calls]) => (imported.has(name) ? calls : []));
}

/** Names of the functions that work on the granted descriptor, or on what came of it. */
export function functionsOn(
  what: "grant" | "opened",
  { kind, rights }: Pick<GrantedFd, "kind" | "rights">,
): ReadonlySet<string> {
  const isOn = (calls: readonly GrantedCall[]) =>
    calls.length === 0 ? what === "grant" : (calls[0]?.onOpened === true) === (what === "opened");
  const links = [...linksOf(kind, rights)];
  return new Set(links.filter(([, calls]) => isOn(calls)).map(([name]) => name));
}

/** How many connections, one from each listener, and files of directories may be open at a time. */
export function openableCount(grants: readonly Pick<GrantedFd, "kind" | "rights">[]): number {
  const listeners = grants.filter(({ rights }) => rights.includes("listen"));
  const directories = grants.filter(({ kind }) => kindRow(kind).isDirectory === true);
  return listeners.length + directories.length * DIRECTORY_FILES_MAX;
}

/** The descriptor number inside Wasm of the capability `name`, whether it was granted or not. */
export function wasiFdOf(manifest: Manifest, name: string): number {
  const index = manifest.capabilities.findIndex((capability) => capability.name === name);
  return index < 0 ? -1 : WASI_FD_FIRST + index;
}

/** The directories among these grants. */
export function directoriesOf(
  grants: readonly Pick<GrantedFd, "kind" | "rights" | "fd">[],
): { fd: number; isWritable: boolean }[] {
  return grants
    .filter(({ kind }) => kindRow(kind).isDirectory === true)
    .map(({ fd, rights }) => ({ fd, isWritable: rights.includes("write") }));
}

/** Descriptors of the grants that a device may wait for. */
export function awaitableFds(grants: readonly Pick<GrantedFd, "kind" | "fd">[]): number[] {
  return grants.filter(({ kind }) => kindRow(kind).isAwaitable === true).map(({ fd }) => fd);
}

/** Whether a device with these grants may wait for anything but requests. */
export function maySleep(grants: readonly Pick<GrantedFd, "kind" | "fd">[]): boolean {
  return awaitableFds(grants).length > 0 || grants.some(({ kind }) => kind === "clock");
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
  const linked = new Set([
    ...ALWAYS_LINKED,
    ...manifest.capabilities.flatMap((each) => importsOf(each.kind, each.rights)),
  ]);
  for (const { module, name } of imports) {
    if (module === WASI_MODULE && linked.has(name)) continue;
    const why = "no capability in its manifest links that";
    throw new VmmError(
      "ERR_MODULE",
      `Cannot use this module: it imports ${module}.${name}, ${why}`,
    );
  }
}

export function grantError(message: string): VmmError {
  return new VmmError("ERR_GRANT", message);
}

/** Whether a descriptor stands for a grant of this kind. */
export function hasFd(kind: GrantKind): boolean {
  return kindRow(kind).isBare !== true;
}

/** The descriptors of these grants in a process that has them from `first` on, without gaps. */
export function placeGrants<T extends { kind: GrantKind }>(
  grants: readonly T[],
  first: number,
): (T & { fd: number })[] {
  let next = first;
  return grants.map((grant) => ({ ...grant, fd: hasFd(grant.kind) ? next++ : NO_FD }));
}

/** The descriptors of grants that have one. */
export function fdsOf(granted: readonly { fd: number }[]): number[] {
  return granted.map(({ fd }) => fd).filter((fd) => fd !== NO_FD);
}

function resolve(capability: Capability, spec: GrantSpec): ResolvedGrant {
  const { name } = capability;
  const { kind, what, rights } = spec;
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
  const fault = faultOfWhat(kind, what);
  if (fault === undefined) return { ...spec, name };
  throw grantError(
    `Cannot grant ${name}=${kind}:${what}: ${fault}, try ${formsOf(kind).join(" or ")}`,
  );
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
  id = "ID",
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
    const { name, kind } = capability;
    const example = `--grant ${id}.${name}=${formsOf(kind)[0]}`;
    throw grantError(
      `Cannot start device ${device}: ${capability.name} is missing, try ${example}`,
    );
  });
}
