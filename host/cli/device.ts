// --device and --grant: what a user writes → the devices of a VmConfig. Pure: opens nothing.
//
//   --device rng,source=/dev/hwrng                     kind[,key=value]...
//   --device ./mine.wasm --grant mine0.image=file:data.bin:ro
//            └ id mine0         └ id.name=kind:what[:rights]

import {
  type DeviceConfig,
  exampleOf,
  faultOfWhat,
  formsOf,
  GRANT_KIND_NAMES,
  rightsOfWord,
  wordOfRights,
} from "../machine/config.js";
import { DEVICES_MAX } from "../machine/layout.js";
import {
  type GrantKey,
  type GrantKind,
  type GrantSpec,
  type Key,
  KINDS,
  type Kind,
  modulePath,
  type OptionWord,
  type Right,
} from "./kinds.js";
import { didYouMean, usageError } from "./usage.js";

/** WHAT of a terminal, or of a peer, that is to be made: a pseudo-terminal of the device's own. */
const NEW_PTY = "pty";

/** Whether a grant is a pseudo-terminal that is still to be made. */
export function isNewPty({ kind, what }: GrantSpec): boolean {
  return what === NEW_PTY && (kind === "tty" || kind === "unix");
}

/** What --console says, as a --device: `virtio` is the terminal, as in lkvm. */
export function consoleSpec(text: string): string {
  const [where = "", ...words] = text.split(",");
  if (where === NEW_PTY) return ["console", `tty=${NEW_PTY}`, ...words].join(",");
  if (where.startsWith(`${NEW_PTY}:`)) {
    throw usageError(
      `Cannot connect a console to "${where}": a pseudo-terminal gets its name when it is made`,
      `--console pty makes one and prints its name; a file of that name is ./${where}`,
    );
  }
  const path = where.replace(/^unix:/, "");
  const key = path === where ? "file" : "unix";
  return ["console", ...(where === "virtio" ? [] : [`${key}=${path}`]), ...words].join(",");
}

/** What a module asks for. */
export type Capability = Omit<GrantSpec, "what"> & { name: string };

/** One --device: the module, and what its own keys grant. */
export interface DeviceSpec {
  /** The id without its number: the kind, or the base name of the module. */
  name: string;
  module: string;
  /** Granted by a key that the user wrote. */
  grants: Record<string, GrantSpec>;
  /** Granted unless the user grants something else under the same name. */
  fallbacks: Record<string, GrantSpec>;
  /** Set by words behind the module; what they may be is in its manifest. */
  options: Record<string, OptionWord>;
}

/** One --grant. */
export interface GrantOption {
  id: string;
  name: string;
  grant: GrantSpec;
}

function malformed(spec: string, cause: string): Error {
  return usageError(
    `Cannot parse --device "${spec}": ${cause}`,
    "write it as KIND[,key=value]... or as the path of a .wasm, see: bulkhead run --help",
  );
}

function isPath(word: string): boolean {
  return word.includes("/") || word.endsWith(".wasm");
}

/**
 * Base name of a module as the name part of an id: `./my.disk.wasm` → `my-disk`. A debug build has
 * the name of its release, so that the same --grant fits both.
 */
function nameOf(module: string): string {
  const base = module.slice(module.lastIndexOf("/") + 1).replace(/(\.debug)?\.wasm$/, "");
  return base.replace(/[^A-Za-z0-9_-]+/g, "-") || "device";
}

/** The id of the first device of a module. */
export function deviceId(module: string): string {
  return `${nameOf(module)}0`;
}

/** What to type after --grant for all that a capability asks for: `mine0.image=file:PATH:rw`. */
export function grantFor(id: string, { name, ...asked }: Capability): string {
  return `${id}.${name}=${grantText({ ...asked, what: exampleOf(asked.kind) })}`;
}

function grantOf({ kind, rights }: GrantKey, what: string): GrantSpec {
  const grant = { kind, what, rights };
  // Who opens a pseudo-terminal does not connect: to the device it is a peer that is there already.
  return kind === "unix" && isNewPty(grant) ? { ...grant, rights: ["connect"] } : grant;
}

function fallbacksOf(kind: Kind): Record<string, GrantSpec> {
  const keys = Object.values(kind.keys).flatMap((key) => ("grants" in key ? key : []));
  const granted = keys.filter((key) => key.fallback !== undefined);
  return Object.fromEntries(granted.map((key) => [key.grants[0]!, grantOf(key, key.fallback!)]));
}

/** What the words behind a kind give and set. */
type Keyed = Pick<DeviceSpec, "grants" | "options">;

/** One word of --device: its key, and the text behind `=`, if there is one. */
interface Word {
  name: string;
  key: Key;
  value: string | undefined;
}

function wordOf(spec: string, text: string, { keys }: Kind): Word {
  const equals = text.indexOf("=");
  const name = equals === -1 ? text : text.slice(0, equals);
  if (!Object.hasOwn(keys, name)) {
    throw malformed(spec, `unknown key "${name}", ${didYouMean(name, Object.keys(keys))}`);
  }
  const key = keys[name]!;
  const value = equals === -1 ? undefined : text.slice(equals + 1);
  const hasValue = "grants" in key || "value" in key;
  if (hasValue && !value) throw malformed(spec, `key "${name}" has no value`);
  if (!hasValue && value !== undefined) throw malformed(spec, `key "${name}" takes no value`);
  return { name, key, value };
}

/** Grants what a word names under the next name of its key. */
function addGrant(spec: string, { name, value }: Word, key: GrantKey, grants: Keyed["grants"]) {
  const free = key.grants.find((each) => !Object.hasOwn(grants, each));
  if (free !== undefined) grants[free] = grantOf(key, value!);
  else if (key.grants.length === 1) throw malformed(spec, `key "${name}" is there twice`);
  else throw malformed(spec, `key "${name}" is there more than ${key.grants.length} times`);
}

/** Sets what follows from the end of a name, unless the user did. */
function addEndings({ key, value }: Word, options: Keyed["options"]): void {
  if (!("endings" in key)) return;
  for (const [ending, implied] of Object.entries(key.endings ?? {})) {
    if (!value!.toLowerCase().endsWith(ending)) continue;
    for (const [name, word] of Object.entries(implied)) options[name] ??= word;
  }
}

/** Parses the words of one --device: grants, what narrows their rights, and options. */
function parseKeys(spec: string, texts: string[], kind: Kind): Keyed {
  const words = texts.map((text) => wordOf(spec, text, kind));
  const grants: Keyed["grants"] = {};
  const options: Keyed["options"] = {};
  for (const word of words) {
    const { name, key, value } = word;
    if ("grants" in key) addGrant(spec, word, key, grants);
    else if (words.some((other) => other !== word && other.name === name)) {
      throw malformed(spec, `key "${name}" is there twice`);
    } else if (!("narrows" in key)) options[name] = value ?? true;
  }
  for (const word of words) {
    addEndings(word, options);
    if (!("narrows" in word.key)) continue;
    const narrowed = grants[word.key.narrows];
    if (narrowed === undefined)
      throw malformed(spec, `"${word.name}" of nothing: ${word.key.narrows} is not there`);
    grants[word.key.narrows] = { ...narrowed, rights: word.key.rights };
  }
  return { grants, options };
}

/** Takes the words behind a module: `rate=100`, or a word alone. */
function parseOptions(spec: string, words: string[]): Record<string, OptionWord> {
  const options = new Map<string, OptionWord>();
  for (const word of words) {
    const [name = "", ...rest] = word.split("=");
    if (name === "") throw malformed(spec, `"${word}" names no option`);
    if (options.has(name)) throw malformed(spec, `option "${name}" is there twice`);
    options.set(name, rest.length === 0 ? true : rest.join("="));
  }
  return Object.fromEntries(options);
}

/** Parses one --device; ERR_USAGE when malformed, with the nearest kind when it is unknown. */
export function parseDevice(spec: string): DeviceSpec {
  const [head = "", ...words] = spec.split(",");
  if (head === "") throw malformed(spec, "it names no device");
  if (words.includes(""))
    throw malformed(spec, "there is nothing between two commas or at the end");
  if (head.endsWith(".ts")) {
    const module = head.replace(/\.ts$/, ".wasm");
    throw usageError(
      `Cannot run "${head}": it is the source of a device`,
      `bulkhead build ${head} makes ${module} of it`,
    );
  }
  if (isPath(head)) {
    const options = parseOptions(spec, words);
    return { name: nameOf(head), module: head, grants: {}, fallbacks: {}, options };
  }
  if (!Object.hasOwn(KINDS, head)) {
    throw usageError(
      `Cannot find device "${head}": no such kind, ${didYouMean(head, Object.keys(KINDS))}`,
      `a module of one's own is named by its path, as in: --device ./${head}.wasm`,
    );
  }
  const kind = KINDS[head]!;
  const keyed = parseKeys(spec, words, kind);
  return { name: head, module: modulePath(head), ...keyed, fallbacks: fallbacksOf(kind) };
}

/** The start of each message about one grant, and what to type instead. */
interface Asked {
  action: string;
  kind: GrantKind;
  /** `ID.NAME`. */
  target: string;
}

function wrongGrant({ action, kind, target }: Asked, cause: string): Error {
  const forms = formsOf(kind).map((form) => `--grant ${target}=${form}`);
  return usageError(`${action}: ${cause}`, `write it as in: ${forms.join(" or ")}`);
}

/** Splits `WHAT[:RIGHTS]`: only the names of rights are rights, so WHAT may contain colons. */
function splitRights(text: string, asked: Asked): { what: string; rights: Right[] } {
  const { kind } = asked;
  const colon = text.lastIndexOf(":");
  const word = text.slice(colon + 1);
  const rights = colon === -1 ? undefined : rightsOfWord(kind, word);
  if (rights === null) throw wrongGrant(asked, `a ${kind} cannot be granted as "${word}"`);
  if (rights !== undefined) return { what: text.slice(0, colon), rights };
  return { what: text, rights: rightsOfWord(kind)! };
}

/** A grant as it is written behind ID.NAME=, the inverse of parseGrant(). */
export function grantText({ kind, what, rights }: GrantSpec): string {
  const word = wordOfRights(kind, rights);
  return word === "" ? `${kind}:${what}` : `${kind}:${what}:${word}`;
}

/** Parses one --grant; ERR_USAGE when malformed. */
export function parseGrant(text: string): GrantOption {
  const match = /^([A-Za-z0-9_-]+)\.([A-Za-z][A-Za-z0-9_-]*)=([^:]*):(.+)$/s.exec(text);
  if (match === null) {
    throw usageError(
      `Cannot parse --grant "${text}": it is not ID.NAME=KIND:WHAT[:RIGHTS]`,
      "write it as in: --grant mine0.image=file:data.bin:ro",
    );
  }
  const [, id = "", name = "", kindName = "", rest = ""] = match;
  const target = `${id}.${name}`;
  const kind = GRANT_KIND_NAMES.find((known) => known === kindName);
  if (kind === undefined) {
    const meant = didYouMean(kindName, GRANT_KIND_NAMES);
    throw usageError(
      `Cannot grant ${target}: unknown kind "${kindName}", ${meant}`,
      "bulkhead inspect shows what a device asks for",
    );
  }
  const asked = { action: `Cannot grant ${target}`, kind, target };
  const { what, rights } = splitRights(rest, asked);
  if (what === "") throw wrongGrant(asked, `"${text}" names no ${kind}`);
  const fault = faultOfWhat(kind, what);
  if (fault !== undefined) throw wrongGrant(asked, `"${what}": ${fault}`);
  if (rights.includes("listen") && isNewPty({ kind, what, rights })) {
    throw wrongGrant(
      asked,
      `nobody connects to a pseudo-terminal; a socket "${what}" is ./${what}`,
    );
  }
  return { id, name, grant: { kind, what, rights } };
}

/** What applies to all devices alike. */
type Common = Pick<DeviceConfig, "isolation" | "seccomp">;

/** Names the devices in order: `rng0`, `rng1`, `mine0`. */
function withIds(specs: DeviceSpec[], common: Common): DeviceConfig[] {
  const counts = new Map<string, number>();
  return specs.map(({ name, module, grants, options }) => {
    const index = counts.get(name) ?? 0;
    counts.set(name, index + 1);
    return { id: `${name}${index}`, module, grants: { ...grants }, options, ...common };
  });
}

/** The devices that --device and --grant describe together, in the order of --device. */
export function deviceConfigs(
  specs: DeviceSpec[],
  grants: GrantOption[],
  common: Common,
): DeviceConfig[] {
  if (specs.length > DEVICES_MAX) {
    const problem = `${specs.length} devices, ${DEVICES_MAX} is the most`;
    throw usageError(`Cannot build the machine: ${problem}`);
  }
  const devices = withIds(specs, common);
  for (const { id, name, grant } of grants) {
    const device = devices.find((candidate) => candidate.id === id);
    if (device === undefined) {
      const known = devices.map((candidate) => candidate.id);
      throw usageError(`Cannot grant ${id}.${name}: no device "${id}", ${didYouMean(id, known)}`);
    }
    if (Object.hasOwn(device.grants, name)) {
      throw usageError(`Cannot grant ${id}.${name}: "${grant.what}", it was granted before`);
    }
    device.grants[name] = grant;
  }
  for (const [index, device] of devices.entries()) {
    device.grants = { ...specs[index]!.fallbacks, ...device.grants };
  }
  return devices;
}
