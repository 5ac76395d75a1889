// Every block of code in devices-as/GUIDE.md is used as its reader would use it, in order, in an
// empty folder in which this package is installed. What a block is, its first line says:
//
//   ```ts FILE, ```js FILE    is put into that file; a device is checked by the build that follows
//   ```ts top                 declarations of a device, which is compiled
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

/** A device around declarations. */
function around(declarations: string): string {
  const names = "capability Chain configBytes configSpace Device option register Rights";
  return `import { ${names.split(" ").join(", ")} } from "bulkhead/sdk";
    ${declarations}
    class Example extends Device {
      constructor() { super(42, [8]); }
      serve(queue: u32, chain: Chain): void {}
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

/** Uses one block; a kind of block that is not known is an error. */
async function use({ info, text }: Block): Promise<void> {
  const before = printed;
  printed = undefined;
  if (/^(ts|js) [\w.-]+\.(ts|mjs)$/.test(info)) {
    fs.writeFileSync(path.join(folder, info.slice(3)), text);
  } else if (info === "ts top") {
    await compileDevice(path.join(folder, "example.ts"), { source: around(text) });
  } else if (info === "sh" || info === "sh fails" || info === "sh kvm") {
    const { status, output } = run(text);
    assert.is(status === 0, info !== "sh fails", `status ${status}: ${output}`);
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

const blocks = blocksOf(fs.readFileSync(GUIDE, "utf8"));
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

test("every block of the guide has its kind in its first line, and its end", () => {
  const fences = fs.readFileSync(GUIDE, "utf8").match(/^```.*$/gm) ?? [];
  assert.is(fences.length, 2 * blocks.length);
});

test.run();
