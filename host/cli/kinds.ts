// The kinds of device that ship with Bulkhead, and what the words of a --device option stand for.
// No other place knows a device by name: below here, a kind is just the path of a module.

import { fileURLToPath } from "node:url";
import type { DeviceConfig } from "../machine/config.js";

/** What the user grants a device under one name. */
export type GrantSpec = DeviceConfig["grants"][string];
export type OptionWord = NonNullable<DeviceConfig["options"]>[string];
export type GrantKind = GrantSpec["kind"];
export type Right = GrantSpec["rights"][number];

/** `key=value` of a --device option: the value is granted under the name of a capability. */
export interface Key {
  /** Name of the capability in the module's manifest. */
  grant: string;
  kind: GrantKind;
  rights: Right[];
  /** What is granted when the user names nothing. */
  fallback?: string;
  summary: string;
}

export interface Kind {
  summary: string;
  keys: Readonly<Record<string, Key>>;
}

export const KINDS: Readonly<Record<string, Kind>> = {
  rng: {
    summary: "entropy source (virtio v1.2 §5.4)",
    keys: {
      source: {
        grant: "source",
        kind: "file",
        rights: ["read"],
        fallback: "/dev/urandom",
        summary: "file that the entropy is read from",
      },
    },
  },
};

/** Path of the module of a kind: the build puts it beside the compiled host. */
export function modulePath(kind: string): string {
  return fileURLToPath(new URL(`../../devices/${kind}.wasm`, import.meta.url));
}
