// Options of a device: what the user writes behind its module, `--device ./mine.wasm,rate=100`,
// checked against what its manifest declares. An option is a value and no capability: it opens
// nothing, and no wall changes with it.

import { VmmError } from "../errors.js";
import type { Manifest, ModuleOption } from "./manifest.js";

/** One text; a serial number of virtio-blk has 20 bytes, a path on the command line 4096. */
export const OPTION_TEXT_BYTES_MAX = 256;

/** What the command line says: the text behind `=`, or true for a word alone. */
export type OptionWord = string | true;

/** An option that was set, as the runtime hands it to the module (wit/options.wit). */
export interface OptionValue {
  /** Index in the manifest. */
  index: number;
  /** u64 in decimal digits, so that it survives JSON; 1 for a flag, 0 for a text. */
  number: string;
  text: string;
}

const U64_MAX = 2n ** 64n - 1n;
const UNITS: Readonly<Record<string, bigint>> = {
  "": 1n,
  K: 2n ** 10n,
  M: 2n ** 20n,
  G: 2n ** 30n,
};

function refuse(device: string, name: string, cause: string): never {
  throw new VmmError("ERR_USAGE", `Cannot set ${name} of device ${device}: ${cause}`);
}

/** A number as the user writes it: decimal, with K, M or G for powers of 1024. */
function numberOf(word: string): bigint | undefined {
  const match = /^(\d{1,20})([KMG]?)$/i.exec(word);
  if (match === null) return undefined;
  const value = BigInt(match[1]!) * UNITS[match[2]!.toUpperCase()]!;
  return value <= U64_MAX ? value : undefined;
}

function parseWord(device: string, { name, type }: ModuleOption, word: OptionWord) {
  if (type === "flag") {
    if (word !== true) refuse(device, name, `"${word}", but it is a flag and has no value`);
    return { number: "1", text: "" };
  }
  if (word === true) refuse(device, name, `no value, write it as ${name}=${type.toUpperCase()}`);
  if (type === "number") {
    const number = numberOf(word);
    if (number !== undefined) return { number: `${number}`, text: "" };
    refuse(device, name, `"${word}", expected a number below 2^64, with K, M or G if you like`);
  }
  const bytes = Buffer.byteLength(word);
  if (bytes <= OPTION_TEXT_BYTES_MAX) return { number: "0", text: word };
  refuse(device, name, `${bytes} bytes, at most ${OPTION_TEXT_BYTES_MAX}`);
}

function unknown(manifest: Manifest, name: string): never {
  const { options, capabilities, name: device } = manifest;
  const wanted = capabilities.find((each) => each.name === name);
  if (wanted !== undefined) {
    const grant = `--grant ID.${name}=${wanted.kind}:…`;
    refuse(device, name, `it is a capability, and granted with ${grant}`);
  }
  const known = options.map((each) => each.name).join(", ");
  refuse(device, name, known === "" ? "it has no options" : `its options are ${known}`);
}

/**
 * Matches what the command line sets with what the module declares; in the order of the manifest.
 *
 * @throws VmmError ERR_USAGE naming the option: not declared, or not of its type
 */
export function resolveOptions(
  manifest: Manifest,
  given: Readonly<Record<string, OptionWord>>,
): OptionValue[] {
  const names = manifest.options.map((each) => each.name);
  const stray = Object.keys(given).find((name) => !names.includes(name));
  if (stray !== undefined) unknown(manifest, stray);
  return manifest.options.flatMap((option, index) => {
    const word = Object.hasOwn(given, option.name) ? given[option.name] : undefined;
    return word === undefined ? [] : [{ index, ...parseWord(manifest.name, option, word) }];
  });
}
