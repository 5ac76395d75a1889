// Every block of code in devices-as/GUIDE.md is used as its reader would use it, in order, in an
// empty folder in which this package is installed. What a block is, its first line says:
//
//   ```ts FILE, ```js FILE    is put into that file, which a later command must build or run
//   ```ts top                 declarations of a device, which is compiled; functions take the chain
//   ```sh                     must succeed; `sh fails` must not; `sh kvm` needs /dev/kvm
//   ```text                   what the block before printed; … is anything
//   ```text picture           a drawing

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileDevice } from "../../host/author/device.js";
import { DEATHS_MAX } from "../../host/machine/restart.js";
import { checkImports } from "../../host/sandbox/grants.js";
import * as manifest from "../../host/sandbox/manifest.js";
import { OPTION_TEXT_BYTES_MAX } from "../../host/sandbox/options.js";
import { SYSCALLS_MAX } from "../../host/sandbox/policy.js";
import { MEMORY_PAGES_MAX } from "../../host/sandbox/sections.js";
import { SPIN_CPU_MS_MAX } from "../../host/sandbox/watchdog.js";
import { CONFIG_ANSWER_MS_MAX } from "../../host/virtio/config-writes.js";
import * as format from "../../host/wire/format.js";
import { LINES_BURST_MAX, LINES_PER_SECOND_MAX } from "../../host/wire/line-log.js";
import * as message from "../../host/wire/message.js";
import { skip } from "../support/skip.js";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const GUIDE = path.join(ROOT, "devices-as", "GUIDE.md");

/** One command: a build compiles for 10 s on a busy machine. */
const COMMAND_MS = 120_000;

interface Block {
  /** Where it begins, for messages. */
  line: number;
  info: string;
  text: string;
}

/** The fenced blocks of a text in Markdown. */
function blocksOf(markdown: string): Block[] {
  const found = markdown.matchAll(/^```(.+)\n([\s\S]*?)^```$/gm);
  return [...found].map((match) => ({
    line: markdown.slice(0, match.index).split("\n").length,
    info: match[1]!,
    text: match[2]!,
  }));
}

/** What matches `text`, in which … is anything. */
function patternOf(text: string): RegExp {
  const parts = text.trim().split("…");
  const escaped = parts.map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${escaped.map((part) => part.replaceAll(/ {2,}/g, " +")).join("[^]*")}$`);
}

/**
 * A device around declarations. It calls their functions: the compiler does not look into what
 * nobody calls.
 */
function around(declarations: string): string {
  const names = "capability Chain configBytes configSpace Device Need option register Rights";
  const functions = [...declarations.matchAll(/^function (\w+)/gm)].map(([, name]) => name);
  return `import { ${names.split(" ").join(", ")} } from "bulkhead/sdk";
    ${declarations}
    class Example extends Device {
      constructor() { super(42, [8]); }
      serve(queue: u32, chain: Chain): void { ${functions.map((f) => `${f}(chain);`).join(" ")} }
    }
    register(new Example());`;
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-guide-"));
test.after(() => fs.rmSync(folder, { recursive: true }));

/** As `npm install` leaves it, but for a link in the place of a copy. */
function install(): void {
  const modules = path.join(folder, "node_modules");
  fs.mkdirSync(path.join(modules, ".bin"), { recursive: true });
  fs.symlinkSync(ROOT, path.join(modules, "bulkhead"));
  fs.symlinkSync(
    path.join(ROOT, "dist", "bundle", "cli", "main.js"),
    path.join(modules, ".bin", "bulkhead"),
  );
}

function run(command: string): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync("sh", ["-c", `exec 2>&1; ${command}`], {
    cwd: folder,
    encoding: "utf8",
    timeout: COMMAND_MS,
    env: { ...process.env, NODE_TEST_CONTEXT: undefined },
  });
  return { status, output: stdout + stderr };
}

let printed: string | undefined;

/** Files that no command has built or run since they were written: the lines of their blocks. */
const unused = new Map<string, number>();

/** A command that succeeded used the files that it builds, or runs. */
function noteUse(command: string): void {
  for (const [, file] of command.matchAll(/(?:bulkhead build|node --test|node) ([\w.-]+)/g)) {
    unused.delete(file!);
    if (!file!.endsWith(".ts")) continue;
    const module = fs.readFileSync(path.join(folder, file!.replace(/\.ts$/, ".wasm")));
    checkImports(manifest.inspectModule(module));
  }
}

/** Uses one block; a kind of block that is not known is an error. */
async function use({ line, info, text }: Block): Promise<void> {
  const before = printed;
  printed = undefined;
  if (/^(ts|js) [\w.-]+\.(ts|mjs)$/.test(info)) {
    const file = info.slice(3);
    assert.is(unused.get(file), undefined, `${file} is written again, and was not used`);
    fs.writeFileSync(path.join(folder, file), text);
    unused.set(file, line);
  } else if (info === "ts top") {
    const source = around(text);
    const { module } = await compileDevice(path.join(folder, "example.ts"), { source });
    checkImports(manifest.inspectModule(module));
  } else if (info === "sh" || info === "sh fails" || info === "sh kvm") {
    const { status, output } = run(text);
    assert.is(status === 0, info !== "sh fails", `status ${status}: ${output}`);
    if (status === 0) noteUse(text);
    printed = output;
  } else if (info === "text") {
    assert.match((before ?? "").trim(), patternOf(text));
  } else {
    assert.is(info, "text picture", "a block of no known kind");
  }
}

const canRun = (() => {
  try {
    fs.accessSync("/dev/kvm", fs.constants.R_OK | fs.constants.W_OK);
    return true;
  } catch {
    return false;
  }
})();

const guide = fs.readFileSync(GUIDE, "utf8");
const blocks = blocksOf(guide);
install();

test("the guide has code of every kind", () => {
  for (const kind of ["ts drip.ts", "js drip.test.mjs", "ts top", "sh", "sh kvm", "text"]) {
    assert.ok(
      blocks.some(({ info }) => info === kind),
      kind,
    );
  }
});

let isSkipped = false;
for (const block of blocks) {
  const what = `${block.info}, line ${block.line}`;
  const needsKvm: boolean = block.info === "sh kvm" || (isSkipped && block.info === "text");
  isSkipped = needsKvm && !canRun;
  if (isSkipped) skip(`the guide's block ${what}: no /dev/kvm`);
  else test(`the guide's block: ${what}`, () => use(block));
}

test("every file of the guide is built or run", () => {
  assert.equal([...unused], []);
});

test("every block of the guide has its kind in its first line, and its end", () => {
  const fences = guide.match(/^\s*(```|~~~).*$/gm) ?? [];
  assert.is(fences.length, 2 * blocks.length);
});

/** What the guide may say of, by name. */
const LIMITS: Readonly<Record<string, unknown>> = {
  ...manifest,
  ...format,
  ...message,
  CONFIG_ANSWER_MS_MAX,
  DEATHS_MAX,
  LINES_BURST_MAX,
  LINES_PER_SECOND_MAX,
  MEMORY_PAGES_MAX,
  OPTION_TEXT_BYTES_MAX,
  SPIN_CPU_MS_MAX,
  SYSCALLS_MAX,
};
const UNITS: Readonly<Record<string, number>> = { KiB: 1024, MiB: 1024 * 1024 };

test("every limit in the guide is what the code has", () => {
  const rows = guide.slice(guide.indexOf("\n## Limits\n")).match(/^\| .*[^ |\n-].*$/gm) ?? [];
  assert.ok(rows.length >= 16, `${rows.length} limits`);
  for (const row of rows) {
    const [, name, count, unit] = /\| `(\w+)` \| (\d+) ?(\w*)/.exec(row) ?? [];
    assert.ok(name !== undefined && name in LIMITS, row);
    assert.is(Number(count) * (UNITS[unit!] ?? 1), LIMITS[name], row);
  }
});

test.run();
