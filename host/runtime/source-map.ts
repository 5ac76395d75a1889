// From offsets in a debug module to places in its author's source. `bulkhead build` writes the map
// (Source Map format, revision 3) beside the module. All of it is hostile: module, map, and what a
// device says of its end.

import { SourceMap } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { VmmError } from "../errors.js";
import { withSourceMapUrl } from "../sandbox/custom-section.js";
import { readBounded } from "./bounded-file.js";

/** The map of a device is 0.2 MB, sources and all; a hostile one becomes 50 times as large. */
export const SOURCE_MAP_BYTES_MAX = 2 * 1024 * 1024;

/** One frame of last-words.ts, and the word before it. */
const FRAME = /,? (?:in|from) ([!-~]{1,64}?)\[\d{1,7}\]\+0x([0-9a-f]{1,8})/g;

/** What the compiler names so has no file: the SDK and AssemblyScript's own library. */
const LIBRARY = "~lib/";

interface RawMap {
  sources: string[];
  mappings: string;
}

function parse(text: string): RawMap {
  const { sources, mappings } = JSON.parse(text) as Partial<RawMap>;
  const areNames = Array.isArray(sources) && sources.every((name) => typeof name === "string");
  if (!areNames || typeof mappings !== "string") throw new Error("no source map");
  return { sources, mappings };
}

export class TraceMap {
  readonly #map: SourceMap;

  /** @param folder where the map is: its sources are named from there */
  constructor(text: string, folder: string) {
    const { sources, mappings } = parse(text);
    const named = sources.map((name) => nameFor(name, folder));
    this.#map = new SourceMap({
      file: "",
      version: 3,
      sources: named,
      sourcesContent: [],
      names: [],
      mappings,
      sourceRoot: "",
    });
  }

  /**
   * The map beside the module in `file`, or undefined when there is none. Call it before the
   * process is confined.
   *
   * @throws VmmError ERR_FILE when there is one and it cannot be used
   */
  static beside(file: string): TraceMap | undefined {
    const name = `${file}.map`;
    try {
      const bytes = readBounded(name, SOURCE_MAP_BYTES_MAX);
      return bytes && new TraceMap(new TextDecoder().decode(bytes), path.dirname(file));
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      const message = `Cannot use the source map "${name}": ${reason}\nbuild the device again`;
      throw new VmmError("ERR_FILE", message, { cause });
    }
  }

  /** `module`, a file's bytes, as a debugger of this process finds its map and so its sources. */
  static announce(module: Uint8Array, file: string): Uint8Array {
    return withSourceMapUrl(module, pathToFileURL(`${file}.map`).href);
  }

  /** `mine.ts:12:5` for an offset in the module's bytes; undefined where there is no source. */
  placeOf(offset: number): string | undefined {
    const entry = this.#map.findEntry(0, offset);
    if (!("originalSource" in entry) || typeof entry.originalSource !== "string") return undefined;
    return `${entry.originalSource}:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
  }
}

/** A source as a reader finds it: relative to where he is, if it is below. */
function nameFor(source: string, folder: string): string {
  // Names end up in the log, where a line break could forge what we say. (V8 takes a millisecond
  // for such a set of characters: not at each start, without a debug build.)
  const clean = source.replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, "\ufffd");
  if (clean.startsWith(LIBRARY)) return clean;
  const file = path.resolve(folder, clean);
  const relative = path.relative("", file);
  return relative.startsWith("..") ? file : relative;
}

/** What a device said last, taken apart. */
export interface Trace {
  reason: string;
  /** "mine.ts:12:5 (mine/Mine#serve)", innermost first; names alone where nothing is known. */
  frames: string[];
}

/** Reads a line of lastWords(), or any other, which then has no frames. */
export function traceOf(line: string, map: TraceMap | undefined): Trace {
  const matches = [...line.matchAll(FRAME)];
  const first = matches[0];
  const last = matches.at(-1);
  // Only a whole line of them counts: a log line of the device may happen to look like one.
  if (first === undefined || last!.index + last![0].length !== line.length) {
    return { reason: line, frames: [] };
  }
  const frames = matches.map(([, name = "", offset = ""]) => {
    const place = map?.placeOf(Number.parseInt(offset, 16));
    return place === undefined ? name : `${place} (${name})`;
  });
  return { reason: line.slice(0, first.index), frames };
}
