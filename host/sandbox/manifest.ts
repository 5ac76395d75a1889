// What a module says of itself, read before anything of it is compiled or runs: the section headers
// are walked by hand and the custom section "bulkhead.manifest" is parsed as JSON. Both are
// hostile.

import { VmmError } from "../errors.js";
import { CONTRACT } from "./contract.js";
import { GRANT_KIND_NAMES, type GrantKind, RIGHTS, type Right, rightsOf } from "./grant-kinds.js";
import { type ImportedFunction, type MemoryLimits, readSections } from "./sections.js";
import { checkExports, type Export } from "./signatures.js";

export { CONTRACT } from "./contract.js";

/** A device is 1 kB; the limit only keeps a hostile module from occupying the compiler for long. */
export const MODULE_BYTES_MAX = 1024 * 1024;
/** Name of the custom section that holds the manifest. */
export const MANIFEST_SECTION = "bulkhead.manifest";
/** A real manifest has 300 bytes; JSON.parse of more is work that a hostile module asks for. */
export const MANIFEST_BYTES_MAX = 16 * 1024;
/** Descriptors that one device may ask for; each costs seccomp rules and a descriptor. */
export const CAPABILITIES_MAX = 8;
/** Config space of one device: virtio-input has 136 bytes, virtio-gpu 16 (virtio v1.2 §5). */
export const CONFIG_BYTES_MAX = 256;
/** Options of one device: words of one --device on a command line that a person reads. */
export const OPTIONS_MAX = 16;
/** Queues of one device; a multi-queue net card with 15 pairs and a control queue has 31. */
export const QUEUES_MAX = 64;
/** Entries of one queue (virtio v1.2 §2.7 allows 32768); rings are validated one page at a time. */
export const QUEUE_SIZE_MAX = 256;
/** Highest virtio device id that the specification leaves room for in 16 bits (§5). */
const VIRTIO_ID_MAX = 0xffff;
/** Names end up in messages, on the command line and in file names. */
export const NAME = /^[a-z][a-z0-9-]{0,31}$/;
const FEATURES = /^0x[0-9a-f]{1,16}$/;
/** Bits of a device's own: the others are the transport's, or reserved (virtio v1.2 §2.2). */
const DEVICE_FEATURES = 0xff_ffffn | (0x3fffn << 50n);

/** Types of options, in the order of their codes in devices-as/sdk/option.ts. */
export const OPTION_TYPES = ["number", "flag", "text"] as const;

export type { GrantKind, Right } from "./grant-kinds.js";

/** Something outside the module that it asks for by name. */
export interface Capability {
  name: string;
  kind: GrantKind;
  rights: Right[];
  required: boolean;
}

/** Something that the user may set, `--device ./mine.wasm,name=value` (options.ts). */
export interface ModuleOption {
  name: string;
  type: (typeof OPTION_TYPES)[number];
}

export interface Manifest {
  /** Version of wit/ that the module was built for. */
  contract: typeof CONTRACT;
  /** What the device calls itself: `rng`. */
  name: string;
  /** Virtio device id (virtio v1.2 §5). */
  virtioId: number;
  /** Largest size of each queue, a power of two up to QUEUE_SIZE_MAX. */
  queues: number[];
  /** Device features offered, a 64-bit hexadecimal number: `0x0`. */
  features: string;
  /** Bytes of the device configuration space, at most CONFIG_BYTES_MAX (virtio v1.2 §2.5). */
  config: number;
  /** In this order they are file descriptors 3, 4, … inside Wasm. */
  capabilities: Capability[];
  options: ModuleOption[];
}

/** Everything that can be known of a module without compiling it. */
export interface ModuleFacts {
  manifest: Manifest;
  imports: ImportedFunction[];
  exports: Export[];
  memory: MemoryLimits;
}

type Json = Record<string, unknown>;

function refuse(what: string): never {
  throw new VmmError("ERR_MODULE", `Cannot use this module: its manifest is wrong: ${what}`);
}

function need(condition: boolean, what: string): asserts condition {
  if (!condition) refuse(what);
}

/** A value as it may appear in a message: short, on one line, without control characters. */
function shown(value: unknown): string {
  return (JSON.stringify(value) ?? "undefined").slice(0, 64);
}

function isInteger(value: unknown, min: number, max: number): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= min && value <= max;
}

/** `value` as an object that has exactly the keys `keys`. */
function objectOf(value: unknown, keys: string, what: string): Json {
  need(typeof value === "object" && value !== null && !Array.isArray(value), `${what}: no object`);
  const found = Object.keys(value).sort().join(" ");
  need(found === keys, `${what}: keys ${shown(found)}, expected "${keys}"`);
  return value as Json;
}

function arrayOf(value: unknown, max: number, what: string): unknown[] {
  need(Array.isArray(value), `${what}: no array`);
  need(value.length <= max, `${what}: ${value.length} entries, at most ${max}`);
  return value;
}

function nameOf(value: unknown, what: string): string {
  need(typeof value === "string" && NAME.test(value), `${what}: ${shown(value)}, expected ${NAME}`);
  return value;
}

function oneOf<T extends string>(value: unknown, all: readonly T[], what: string): T {
  const found = all.find((each) => each === value);
  need(found !== undefined, `${what}: ${shown(value)}, expected one of ${all.join(", ")}`);
  return found;
}

function queueSizeOf(value: unknown, index: number): number {
  const isSize = isInteger(value, 1, QUEUE_SIZE_MAX) && (value & (value - 1)) === 0;
  need(isSize, `queues[${index}]: ${shown(value)}, expected a power of two ≤ ${QUEUE_SIZE_MAX}`);
  return value;
}

function capabilityOf(value: unknown, index: number): Capability {
  const what = `capabilities[${index}]`;
  const json = objectOf(value, "kind name required rights", what);
  const rights = arrayOf(json.rights, RIGHTS.length, `${what}.rights`);
  const required = json.required;
  need(typeof required === "boolean", `${what}.required: ${shown(required)}, expected a boolean`);
  need(rights.length > 0, `${what}.rights: none`);
  need(new Set(rights).size === rights.length, `${what}.rights: one is named twice`);
  const kind = oneOf(json.kind, GRANT_KIND_NAMES, `${what}.kind`);
  return {
    name: nameOf(json.name, `${what}.name`),
    kind,
    rights: rights.map((right) => oneOf(right, rightsOf(kind), `${what}.rights`)),
    required,
  };
}

function optionOf(value: unknown, index: number): ModuleOption {
  const what = `options[${index}]`;
  const json = objectOf(value, "name type", what);
  const name = nameOf(json.name, `${what}.name`);
  return { name, type: oneOf(json.type, OPTION_TYPES, `${what}.type`) };
}

/** First of all: in a manifest of another version nothing else need be as it is here. */
function needContract(value: unknown): void {
  const { contract } = (value ?? {}) as { contract?: unknown };
  if (contract === CONTRACT || !isInteger(contract, 0, Number.MAX_SAFE_INTEGER)) return;
  const versions = `it was built for contract ${contract}, this Bulkhead runs contract ${CONTRACT}`;
  refuse(`${versions}: build it again with \`bulkhead build\``);
}

function manifestOf(value: unknown): Manifest {
  needContract(value);
  const json = objectOf(
    value,
    "capabilities config contract features name options queues virtioId",
    "manifest",
  );
  need(json.contract === CONTRACT, `contract: ${shown(json.contract)}`);
  const { virtioId, features, config } = json;
  need(isInteger(virtioId, 1, VIRTIO_ID_MAX), `virtioId: ${shown(virtioId)}`);
  need(typeof features === "string" && FEATURES.test(features), `features: ${shown(features)}`);
  const foreign = BigInt(features) & ~DEVICE_FEATURES;
  need(foreign === 0n, `features: 0x${foreign.toString(16)} are not the device's own`);
  const queues = arrayOf(json.queues, QUEUES_MAX, "queues").map(queueSizeOf);
  need(queues.length > 0, "queues: none");
  const all = arrayOf(json.capabilities, CAPABILITIES_MAX, "capabilities").map(capabilityOf);
  need(isInteger(config, 0, CONFIG_BYTES_MAX), `config: ${shown(config)}`);
  const names = new Set(all.map((capability) => capability.name));
  need(names.size === all.length, "capabilities: one name is used twice");
  const options = arrayOf(json.options, OPTIONS_MAX, "options").map(optionOf);
  // The two share the command line: `--device ./mine.wasm,image=…` must not mean either.
  for (const option of options) names.add(option.name);
  need(names.size === all.length + options.length, "options: one name is used twice");
  const name = nameOf(json.name, "name");
  return {
    contract: CONTRACT,
    name,
    virtioId,
    queues,
    features,
    config,
    capabilities: all,
    options,
  };
}

function parseJson(section: Uint8Array): unknown {
  need(section.length <= MANIFEST_BYTES_MAX, `${section.length} bytes, at most 16 KiB`);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(section));
  } catch (cause) {
    throw new VmmError("ERR_MODULE", "Cannot use this module: its manifest is no JSON", { cause });
  }
}

/**
 * Reads manifest, imports and exports of a module, and refuses what no device needs (a start
 * section, imports other than functions, memory without a maximum) and what lacks an export of the
 * contract, or has it with another type.
 *
 * @throws VmmError ERR_MODULE for anything that is not exactly as it must be
 */
export function inspectModule(module: Uint8Array): ModuleFacts {
  if (module.length > MODULE_BYTES_MAX) {
    const sizes = `${module.length} bytes, at most ${MODULE_BYTES_MAX}`;
    throw new VmmError("ERR_MODULE", `Cannot use this module: it is too large: ${sizes}`);
  }
  const { custom, ...facts } = readSections(module, MANIFEST_SECTION);
  const hint = "build it with `bulkhead build`";
  need(custom.length > 0, `no custom section "${MANIFEST_SECTION}", ${hint}`);
  need(custom.length === 1, `${custom.length} custom sections "${MANIFEST_SECTION}"`);
  const manifest = manifestOf(parseJson(custom[0]!)); // of another contract, it says so first
  checkExports(facts.exports);
  return { manifest, ...facts };
}

/** The manifest alone; see inspectModule(). */
export function parseManifest(module: Uint8Array): Manifest {
  return inspectModule(module).manifest;
}
