// Imports run one way: each directory below host/ may use only what stands beside its name here.

import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { importsOf, parseSources, type Source } from "./support/sources.js";

/** host/errors.ts is open to all and uses nothing. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  ffi: [],
  kvm: ["ffi"],
  wire: ["ffi"],
  boot: ["ffi"],
  sandbox: ["ffi"],
  virtio: ["wire"],
  runtime: ["wire", "ffi", "sandbox"],
  // runtime: an inline device runs in the I/O worker.
  machine: ["kvm", "boot", "virtio", "wire", "sandbox", "ffi", "runtime"],
  fuzz: ["runtime", "virtio", "wire"],
  // What the tests of device authors import: a driver and an outside world, both in memory.
  testing: ["runtime", "virtio", "wire", "sandbox", "ffi"],
  author: ["sandbox", "runtime", "wire"],
  cli: ["machine", "fuzz", "author"],
};

/** Packages from the registry, by the directory that may use them. */
const MAY_USE: Readonly<Record<string, readonly string[]>> = {
  ffi: ["koffi"],
  author: ["assemblyscript/asc"],
  cli: ["commander", "cli-table3", "wabt"],
};

const sources = parseSources();
const host = sources.filter((source) => source.path.startsWith("host/"));
const devices = sources.filter((source) => source.path.startsWith("devices-as/"));

/** Directory below host/ that a path is in; undefined for host/errors.ts and what is elsewhere. */
function layerOf(file: string): string | undefined {
  const [top, layer, ...rest] = file.split("/");
  return top === "host" && rest.length > 0 ? layer : undefined;
}

/** Path of a relative import from the checkout's top, as the compiled name. */
function targetOf(source: Source, specifier: string): string {
  return path.join(path.dirname(source.path), specifier);
}

function isRelative(specifier: string): boolean {
  return specifier.startsWith(".");
}

/** Every import of `files` that `isWrong`, as "file imports specifier". */
function wrongImports(
  files: Source[],
  isWrong: (source: Source, specifier: string) => boolean,
): string[] {
  return files.flatMap((source) =>
    importsOf(source.tree)
      .filter((specifier) => isWrong(source, specifier))
      .map((specifier) => `${source.path} imports ${specifier}`),
  );
}

test("the layers of host/ are known", () => {
  const found = new Set(host.map((source) => layerOf(source.path)));
  found.delete(undefined);
  const unknown = [...found].filter((layer) => !Object.hasOwn(MAY_IMPORT, layer ?? ""));
  assert.equal(unknown, []);
});

test("host/ imports run one way", () => {
  const wrong = wrongImports(host, (source, specifier) => {
    if (!isRelative(specifier)) return false;
    const target = targetOf(source, specifier);
    if (target === "host/errors.js") return false;
    const from = layerOf(source.path);
    const to = layerOf(target);
    if (from === undefined || to === undefined) return true;
    return from !== to && !(MAY_IMPORT[from] ?? []).includes(to);
  });
  assert.equal(wrong, []);
});

test("host/ uses packages only where they belong: koffi in host/ffi alone", () => {
  const wrong = wrongImports(host, (source, specifier) => {
    if (isRelative(specifier) || specifier.startsWith("node:")) return false;
    return !(MAY_USE[layerOf(source.path) ?? ""] ?? []).includes(specifier);
  });
  assert.equal(wrong, []);
});

test("host/boot opens nothing: it turns bytes into bytes", () => {
  const boot = host.filter((source) => layerOf(source.path) === "boot");
  const wrong = wrongImports(boot, (_, specifier) =>
    ["node:fs", "node:fs/promises", "node:child_process", "node:net"].includes(specifier),
  );
  assert.equal(wrong, []);
});

/** The folder of a device's other files: `devices-as/blk` for blk.ts, and for what is in it. */
function ownFolder(file: string): string {
  const isDevice = /^devices-as\/((examples|template)\/)?[\w-]+\.ts$/.test(file);
  return isDevice ? file.replace(/\.ts$/, "") : path.dirname(file);
}

test("devices import only the SDK and their own folder, and the SDK only itself", () => {
  const wrong = wrongImports(devices, (source, specifier) => {
    // A device names the SDK as a whole; its files are the SDK's own affair.
    const isSdk = source.path.startsWith("devices-as/sdk/");
    if (specifier === "bulkhead/sdk") return isSdk;
    const own = `${isSdk ? "devices-as/sdk" : ownFolder(source.path)}/`;
    return !isRelative(specifier) || !targetOf(source, specifier).startsWith(own);
  });
  assert.equal(wrong, []);
});

test.run();
