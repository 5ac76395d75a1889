// An author steps through a device in its source: Node's inspector stops at a breakpoint in a line
// of rng.ts, in a test of the device and in a VM, and finds that line by what the module says of
// itself.

import fs from "node:fs";
import { SourceMap } from "node:module";
import os from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { BULKHEAD, ENTROPY_GUEST, whyNoKvm } from "../support/bulkhead.js";
import { begin, Debugged, type Params, type Session } from "../support/inspector.js";
import { skip } from "../support/skip.js";
import { ROOT, readSource } from "../support/sources.js";

const MODULE = path.join(ROOT, "dist/devices/rng.debug.wasm");
const SOURCE = path.join(ROOT, "devices-as/rng.ts");
/** Line of rng.ts in serve(), from 0. */
const LINE = readSource("devices-as/rng.ts")
  .split("\n")
  .findIndex((l) => l.includes("wanted ="));

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-debugger-"));
test.after(() => fs.rmSync(directory, { recursive: true }));

/** The map that a debugger finds at `url`, with sources by their paths. */
function mapAt(url: string): { map: SourceMap; sources: string[] } {
  const text = fs.readFileSync(fileURLToPath(url), "utf8");
  const json = JSON.parse(text) as ConstructorParameters<typeof SourceMap>[0];
  const sources = json.sources.map((source) => new URL(source, url).pathname);
  return { map: new SourceMap({ ...json, sources }), sources };
}

/** Where the code of LINE begins in the module. */
function offsetOf(map: SourceMap): number {
  const { size } = fs.statSync(MODULE);
  for (let offset = 0; offset < size; offset++) {
    const entry = map.findEntry(0, offset);
    if (!("originalSource" in entry) || entry.generatedColumn !== offset) continue;
    if (entry.originalSource === SOURCE && entry.originalLine === LINE) return offset;
  }
  throw new Error(`no code of line ${LINE + 1}`);
}

const OFFSET = offsetOf(mapAt(pathToFileURL(`${MODULE}.map`).href).map);

/** Asks for a stop at LINE in whatever module will be loaded. */
async function breakAtLine(session: Session): Promise<void> {
  const place = { urlRegex: "^wasm://", lineNumber: 0, columnNumber: OFFSET };
  await session.ask("Debugger.setBreakpointByUrl", place);
}

/** Asserts that a thread stops at LINE, and that its debugger can find the source. */
async function stopsAtLine(session: Session): Promise<void> {
  const isDevice = ({ sourceMapURL }: Params) => /rng\.debug/.test(String(sourceMapURL));
  const script = await session.event("Debugger.scriptParsed", isDevice);
  const inDevice = ({ callFrames }: Params) => locationOf(callFrames).scriptId === script.scriptId;
  const paused = await session.event("Debugger.paused", inDevice);
  const { columnNumber } = locationOf(paused.callFrames);
  const { map, sources } = mapAt(String(script.sourceMapURL));
  assert.ok(sources.includes(SOURCE), `${sources}`);
  const entry = map.findEntry(0, columnNumber);
  assert.ok("originalSource" in entry);
  assert.is((entry as { originalSource: string }).originalSource, SOURCE);
  assert.is((entry as { originalLine: number }).originalLine, LINE);
}

interface Location {
  scriptId: string;
  columnNumber: number;
}

function locationOf(callFrames: unknown): Location {
  return (callFrames as { location: Location }[])[0]!.location;
}

async function debugged(
  args: readonly string[],
  run: (node: Debugged) => Promise<void>,
): Promise<void> {
  const node = await Debugged.start(args);
  try {
    await run(node);
  } finally {
    node.close();
  }
}

test("a breakpoint in a device's source stops its test", async () => {
  const program = path.join(directory, "rng.test.mjs");
  const testing = pathToFileURL(path.join(ROOT, "dist/bundle/testing/main.js")).href;
  const text = `
    import { endless, openDevice } from ${JSON.stringify(testing)};
    const device = openDevice(${JSON.stringify(MODULE)}, { source: endless() });
    device.negotiate();
    device.request(0, "", 8);`;
  fs.writeFileSync(program, text);
  await debugged([program], async (node) => {
    await breakAtLine(node.session);
    await begin(node.session);
    await stopsAtLine(node.session);
  });
});

test("a breakpoint in a device's source stops it in a VM", async () => {
  const noKvm = whyNoKvm();
  if (noKvm !== undefined) return skip(noKvm);
  const device = ["--device", MODULE, "--grant", "rng0.source=file:/dev/urandom"];
  const options = ["--isolation", "inline", "--seccomp", "off"];
  await debugged([BULKHEAD, "run", ENTROPY_GUEST, ...device, ...options], async (node) => {
    const found = node.worker("io-worker");
    await begin(node.session);
    const worker = await found;
    await worker.ask("Debugger.enable");
    await breakAtLine(worker);
    await begin(worker);
    await stopsAtLine(worker);
  });
});

test.run();
