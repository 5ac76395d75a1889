// Modules whose manifest lies, or is an attack on whoever reads it.

import { withCustomSection } from "../../../host/sandbox/custom-section.js";
import { MANIFEST_SECTION } from "../../../host/sandbox/manifest.js";
import { manifest, moduleWith } from "../../runtime/support.js";
import type { Refusal } from "../support/attack.js";
import { withoutSection } from "../support/encode.js";

/** A module without a manifest. */
function silent(): Uint8Array<ArrayBuffer> {
  return withoutSection(moduleWith(), 0);
}

/** A module whose manifest is this text. */
function saying(text: string): Uint8Array {
  return withCustomSection(silent(), MANIFEST_SECTION, new TextEncoder().encode(text));
}

/** A module whose manifest differs in these keys from a good one. */
function lying(changes: object): () => Uint8Array {
  return () => saying(JSON.stringify({ ...manifest(), ...changes }));
}

const CAPABILITY = { name: "data", kind: "file", rights: ["read"], required: true };

function asking(...capabilities: object[]): () => Uint8Array {
  return lying({ capabilities });
}

const VALUES: readonly (readonly [what: string, changes: object, because: RegExp])[] = [
  ["contract 3", { contract: 3 }, /contract 3, this Bulkhead runs contract 2: build it again/],
  ["contract 3 and a key of it", { contract: 3, new: 1 }, /built for contract 3/],
  ["a contract that is a string", { contract: "2" }, /contract: "2"/],
  ["a contract with a fraction", { contract: 2.5 }, /contract: 2.5/],
  ["a config space of 257 bytes", { config: 257 }, /config: 257/],
  ["a config space of -1 bytes", { config: -1 }, /config: -1/],
  ["a config space of text", { config: "8" }, /config: "8"/],
  ["virtio id 0, which means no device", { virtioId: 0 }, /virtioId: 0/],
  ["virtio id 65536", { virtioId: 65536 }, /virtioId: 65536/],
  ["a negative virtio id", { virtioId: -4 }, /virtioId: -4/],
  ["a virtio id with a fraction", { virtioId: 4.5 }, /virtioId: 4.5/],
  ["no queue", { queues: [] }, /queues: none/],
  ["a queue of size 0", { queues: [0] }, /queues\[0\]: 0/],
  ["a queue of size 3, no power of two", { queues: [64, 3] }, /queues\[1\]: 3/],
  ["a queue of size 32768", { queues: [32768] }, /queues\[0\]: 32768/],
  ["a queue of size 2^31", { queues: [2 ** 31] }, /queues\[0\]: 2147483648/],
  ["a queue of size 2^32 + 64", { queues: [2 ** 32 + 64] }, /queues\[0\]: 4294967360/],
  ["65 queues", { queues: Array(65).fill(64) }, /queues: 65 entries, at most 64/],
  ["queues that are an object with a length", { queues: { 0: 64, length: 1 } }, /queues: no array/],
  ["features as a number", { features: 1 }, /features: 1/],
  ["features of 65 bits", { features: "0x10000000000000000" }, /features/],
  ["the feature of another ring (RING_PACKED)", { features: "0x400000000" }, /features/],
  ["a feature of the transport (VERSION_1)", { features: "0x100000000" }, /features/],
  ["a feature that is reserved (bit 41)", { features: "0x20000000000" }, /features/],
  ["a name with an escape sequence", { name: "\u001b[2J" }, /name: "\\u001b/],
  ["a name with a right-to-left override", { name: "a\u202ecod" }, /name/],
  ["a name that is a path", { name: "../../etc/passwd" }, /name/],
  ["a name of 33 letters", { name: "a".repeat(33) }, /name/],
  ["an empty name", { name: "" }, /name/],
  ["a name with a line break at its end", { name: "rng\n" }, /name/],
  ["a key too many", { trusted: true }, /keys/],
];

const CAPABILITIES: readonly (readonly [
  what: string,
  module: () => Uint8Array,
  because: RegExp,
])[] = [
  ["a capability of unknown kind", asking({ ...CAPABILITY, kind: "process" }), /kind: "process"/],
  ["a kind that every object has", asking({ ...CAPABILITY, kind: "constructor" }), /kind/],
  ["a right that there is not", asking({ ...CAPABILITY, rights: ["execute"] }), /rights: "exec/],
  ["no right at all", asking({ ...CAPABILITY, rights: [] }), /rights: none/],
  ["one right twice", asking({ ...CAPABILITY, rights: ["read", "read"] }), /named twice/],
  ["one name twice", asking(CAPABILITY, CAPABILITY), /one name is used twice/],
  ["a capability named like a path", asking({ ...CAPABILITY, name: "/etc" }), /name/],
  ["a capability without a name", asking({ ...CAPABILITY, name: undefined }), /keys/],
  ["nine capabilities", asking(...Array(9).fill(CAPABILITY)), /9 entries, at most 8/],
];

/** Text that is good JSON but for one thing. */
function textWith(from: string, to: string): () => Uint8Array {
  return () => saying(JSON.stringify(manifest()).replace(from, to));
}

/** Its keys, sorted and joined with blanks, read like those of a good manifest. */
const TWO_IN_ONE = JSON.stringify({
  ...{ "capabilities config": [], contract: 2, features: "0x0" },
  ...{ name: "test", options: [], queues: [64], virtioId: 4 },
});

const TEXTS: readonly (readonly [what: string, module: () => Uint8Array, because: RegExp])[] = [
  ["a __proto__ key", textWith('"name"', '"__proto__":{"contract":2},"name"'), /keys/],
  [
    "a __proto__ in place of its keys",
    () => saying('{"__proto__":{"contract":2}}'),
    /keys "__proto__"/,
  ],
  ["two keys in one, by a blank", () => saying(TWO_IN_ONE), /capabilities: no array/],
  ["JSON of 16 KiB and a byte", () => saying(" ".repeat(16 * 1024 + 1)), /16385 bytes/],
  ["JSON nested 8000 deep", () => saying("[".repeat(8000) + "]".repeat(8000)), /no object/],
  ["no JSON", () => saying("rng"), /no JSON/],
  ["null", () => saying("null"), /no object/],
  ["an array", () => saying("[]"), /no object/],
  ["nothing", () => saying(""), /no JSON/],
  ["no UTF-8", notUtf8, /no JSON/],
];

function notUtf8(): Uint8Array {
  const module = moduleWith();
  module[module.lastIndexOf("}".charCodeAt(0))] = 0xff;
  return module;
}

const sections: Refusal[] = [
  {
    name: "a module without a manifest is refused",
    module: silent,
    because: /no custom section "bulkhead.manifest"/,
  },
  {
    name: "two manifests, a harmless one for the reader, are refused",
    module: () =>
      withCustomSection(moduleWith(), MANIFEST_SECTION, Buffer.from(JSON.stringify(manifest()))),
    because: /2 custom sections/,
  },
  {
    name: "a manifest in a section of almost its name is refused",
    module: () => {
      const module = moduleWith();
      module[Buffer.from(module).indexOf(MANIFEST_SECTION)] = 0x42; // "Bulkhead.manifest"
      return module;
    },
    because: /no custom section "bulkhead.manifest"/,
  },
];

export const MANIFESTS: readonly Refusal[] = [
  ...VALUES.map(([what, changes, because]) => ({
    name: `a manifest with ${what} is refused`,
    module: lying(changes),
    because,
  })),
  ...CAPABILITIES.map(([what, module, because]) => ({
    name: `a manifest that asks for ${what} is refused`,
    module,
    because,
  })),
  ...TEXTS.map(([what, module, because]) => ({
    name: `a manifest with ${what} is refused`,
    module,
    because,
  })),
  ...sections,
];
