// The kinds of device that ship with Bulkhead, and what the words of a --device option stand for.
// No other place knows a device by name: below here, a kind is just the path of a module.

import { fileURLToPath } from "node:url";
import type { DeviceConfig } from "../machine/config.js";

/** What the user grants a device under one name. */
export type GrantSpec = DeviceConfig["grants"][string];
export type OptionWord = NonNullable<DeviceConfig["options"]>[string];
export type GrantKind = GrantSpec["kind"];
export type Right = GrantSpec["rights"][number];

/** `key=WHAT`: that is granted under the name of a capability. */
export interface GrantKey {
  /**
   * Names of capabilities in the module's manifest: the first such word is granted under the first
   * of them, the next one under the next.
   */
  grants: readonly string[];
  kind: GrantKind;
  rights: Right[];
  /** What is granted when the user names nothing. */
  fallback?: string;
  /** Options of the module that follow from the end of WHAT, where the user does not set them. */
  endings?: Readonly<Record<string, Readonly<Record<string, OptionWord>>>>;
  summary: string;
}

/** A word alone: what is granted under the name of a capability has these rights only. */
export interface NarrowKey {
  narrows: string;
  rights: Right[];
  summary: string;
}

/** `key=VALUE`, or a word alone: an option of the module of the same name. */
export interface OptionKey {
  /** What VALUE is in a help text; without it there is none. */
  value?: string;
  summary: string;
}

/** What a word behind a kind in --device means. */
export type Key = GrantKey | NarrowKey | OptionKey;

export interface Kind {
  summary: string;
  keys: Readonly<Record<string, Key>>;
}

export const KINDS: Readonly<Record<string, Kind>> = {
  blk: {
    summary: "disk in a file or block device (virtio v1.2 §5.2)",
    keys: {
      image: {
        grants: ["image"],
        kind: "file",
        rights: ["read", "write"],
        // Never by what is in it, which the guest writes.
        endings: { ".qcow2": { format: "qcow2" } },
        summary: "image that the disk is in",
      },
      ro: { narrows: "image", rights: ["read"], summary: "the guest may not write" },
      format: { value: "raw|qcow2", summary: "format of the image (default: by its name)" },
      backing: {
        grants: ["backing0", "backing1", "backing2", "backing3"],
        kind: "file",
        rights: ["read"],
        summary: "backing file of the image, then that of the backing file",
      },
      "backing-format": {
        value: "raw|qcow2",
        summary: "format of backing files, where the image does not say",
      },
      serial: { value: "TEXT", summary: "serial number, at most 20 characters" },
      queues: { value: "1..8", summary: "queues, one a CPU at best (default: 1)" },
      block: { value: "512|4096", summary: "logical block size (default: 512)" },
      physical: { value: "512|4096", summary: "physical block size (default: 4096)" },
    },
  },
  console: {
    summary: "console and named ports (virtio v1.2 §5.3)",
    keys: {
      tty: {
        grants: ["tty"],
        kind: "tty",
        rights: ["read", "write"],
        summary: "a terminal; pty: a new one (default: this one, by way of a pseudo-terminal)",
      },
      file: {
        grants: ["file"],
        kind: "file",
        rights: ["append"],
        summary: "file that the output is appended to",
      },
      unix: {
        grants: ["socket"],
        kind: "unix",
        rights: ["listen"],
        summary: "unix socket to which somebody connects",
      },
      connect: {
        grants: ["socket"],
        kind: "unix",
        rights: ["connect"],
        summary: "unix socket to which the device connects",
      },
      port: {
        grants: ["port1", "port2", "port3", "port4"],
        kind: "unix",
        rights: ["listen"],
        summary: "unix socket of a port besides the console, or pty; up to four",
      },
      name1: { value: "NAME", summary: "name of the first such port in the guest" },
      name2: { value: "NAME", summary: "name of the second" },
      name3: { value: "NAME", summary: "name of the third" },
      name4: { value: "NAME", summary: "name of the fourth" },
    },
  },
  rng: {
    summary: "entropy source (virtio v1.2 §5.4)",
    keys: {
      source: {
        grants: ["source"],
        kind: "file",
        rights: ["read"],
        fallback: "/dev/urandom",
        summary: "file that the entropy is read from",
      },
    },
  },
};

/** How a key is written: `source=PATH`, `ro`. */
export function keyForm(name: string, key: Key): string {
  const value = "grants" in key ? "PATH" : "value" in key ? key.value : undefined;
  return value === undefined ? name : `${name}=${value}`;
}

/** Path of the module of a kind: the build puts it beside the compiled host. */
export function modulePath(kind: string): string {
  return fileURLToPath(new URL(`../../devices/${kind}.wasm`, import.meta.url));
}

/** Whether a value follows behind `=`. */
export function keyTakesValue(key: Key): boolean {
  return "grants" in key || "value" in key;
}

/** What the value of a key can be, where a few words say it: `raw|qcow2`. */
export function keyWords(key: Key): string[] {
  const value = "value" in key ? (key.value ?? "") : "";
  return value.includes("|") ? value.split("|") : [];
}
