// The SDK's sources, and the rights that they alone have: whatever folder a device is in, its
// "bulkhead/sdk" is the folder devices-as/sdk of this package.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** Settings of the compiler for every device, and below it the SDK. */
export const COMPILER_CONFIG = fileURLToPath(
  new URL("../../../devices-as/asconfig.json", import.meta.url),
);
const FOLDER = path.join(path.dirname(COMPILER_CONFIG), "sdk");
/** What a device imports. */
const NAME = "bulkhead/sdk";
/** How the compiler names what is no file of the author's: its own library, and here the SDK. */
const LIBRARY_PREFIX = "~lib/";

/** Compiled beside each device: the exports that every module has. */
export const ABI = `${LIBRARY_PREFIX}${NAME}/abi.ts`;

/** `SourceKind` of the compiler: --noUnsafe leaves those from Library on alone. */
const SourceKind = { User: 0, Library: 2 } as const;
/** `DecoratorFlags.Unsafe`: what --noUnsafe refuses in a file of the author's. */
const UNSAFE = 1 << 11;
/**
 * What the compiler forgot to mark as unsafe: changetype makes an object of any address, and
 * `i32.load`, its like and memory.compare read at any.
 */
const FORGOTTEN = /^~lib\/(builtins\/changetype|builtins\/.*\.load\w*|memory\/memory\.compare)$/;

interface Parser {
  sources: { normalizedPath: string; sourceKind: number }[];
}

interface Program {
  elementsByName: Map<string, { decoratorFlags: number }>;
}

/** Text by name without `.ts`, as the compiler lists the files of its library. */
export type Library = Record<string, string>;

/** Adds the SDK to the library of the compiler, where it is found before anything on the disk. */
export function addSdk(library: Library): void {
  for (const file of fs.readdirSync(FOLDER, { recursive: true, encoding: "utf8" })) {
    if (!file.endsWith(".ts")) continue;
    const name = path.posix.join(NAME, file.slice(0, -".ts".length));
    library[name] = fs.readFileSync(path.join(FOLDER, file), "utf8");
  }
}

/** Text of the source that the compiler calls `name`, if it is one of `library`. */
export function librarySource(library: Library, name: string): string | undefined {
  if (!name.startsWith(LIBRARY_PREFIX)) return undefined;
  const key = name.slice(LIBRARY_PREFIX.length).replace(/\.ts$/, "");
  return Object.hasOwn(library, key) ? library[key] : undefined;
}

/**
 * A step of the compiler that lets its own library and the SDK, and nothing else, touch raw memory.
 * It would trust every package that it finds in node_modules.
 */
export function memoryIsFor(library: Library): object {
  return {
    afterParse({ sources }: Parser): void {
      for (const source of sources) {
        const trusted = librarySource(library, source.normalizedPath) !== undefined;
        if (!trusted && source.sourceKind >= SourceKind.Library) {
          source.sourceKind = SourceKind.User;
        }
      }
    },
    afterInitialize({ elementsByName }: Program): void {
      for (const [name, element] of elementsByName) {
        if (FORGOTTEN.test(name)) element.decoratorFlags |= UNSAFE;
      }
    },
  };
}
