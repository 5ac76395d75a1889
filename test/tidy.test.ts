// The style as a test: sizes, what must not be in the sources, and what must stand beside what.

import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { isExportDeclaration, type Node, SyntaxKind } from "typescript/unstable/ast";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  filesBelow,
  lineCountOf,
  lineOf,
  parseSources,
  ROOT,
  readSource,
  type Source,
  walk,
} from "./support/sources.js";

const FUNCTION_LINES_MAX = 70;
const FILE_LINES_MAX = 400;
/** More than 100 columns; characters count, not bytes. */
const LONG_LINE = /^.{101}/u;

/**
 * Files and functions ("FILE NAME()") larger than they may be, with their exact size in lines. The
 * list only shrinks: an exception that is not needed any more, or that is too generous, fails too.
 */
const EXCEPTIONS: Readonly<Record<string, number>> = {};

/** The top level of the checkout, besides dotfiles. */
const TOP_LEVEL = [
  "LICENSE",
  "README.md",
  "build",
  "devices-as",
  "host",
  "package-lock.json",
  "package.json",
  "test",
  "tsconfig.json",
  "wit",
];

/** Files that exist to gather others: what a device author imports, and what a module exports. */
const GATHERING = ["devices-as/sdk/index.ts", "devices-as/sdk/abi.ts"];

const files = filesBelow();
const sources = parseSources();
const codeFiles = files.filter((file) => /\.(ts|c|h|S|wit|wat)$/.test(file));

interface Measured {
  name: string;
  size: number;
}

/** Names and sizes of what is too large; exceptions count with the size that they are allowed. */
function tooLarge(measured: Measured[], sizeMax: number): string[] {
  return measured
    .filter(({ name, size }) => size > (EXCEPTIONS[name] ?? sizeMax))
    .map(({ name, size }) => `${name}: ${size}`);
}

function hasBody(node: Node): boolean {
  return "body" in node && node.body !== undefined && "parameters" in node;
}

/** A function's place: by its name where it has one, which survives edits above it. */
function nameOf({ path: file, tree }: Source, node: Node): string {
  const name = "name" in node ? (node.name as { text?: string } | undefined)?.text : undefined;
  return name === undefined ? `${file}:${lineOf(tree, node.getStart(tree))}` : `${file} ${name}()`;
}

function functionsOf(source: Source): Measured[] {
  const found: Measured[] = [];
  walk(source.tree, (node) => {
    if (!hasBody(node)) return;
    found.push({ name: nameOf(source, node), size: lineCountOf(source.tree, node) });
  });
  return found;
}

function linesOf(file: string): string[] {
  return readSource(file).replace(/\n$/, "").split("\n");
}

/** "file:line" of every line of `paths` that matches. */
function linesMatching(paths: string[], pattern: RegExp): string[] {
  return paths.flatMap((file) =>
    linesOf(file).flatMap((line, index) => (pattern.test(line) ? [`${file}:${index + 1}`] : [])),
  );
}

const functions = sources.flatMap(functionsOf);
const fileSizes = codeFiles.map((name) => ({ name, size: linesOf(name).length }));

test("functions have at most 70 lines", () => {
  assert.ok(functions.length > 100, "no functions found: the parser is not asked right");
  assert.equal(tooLarge(functions, FUNCTION_LINES_MAX), []);
});

test("files have at most 400 lines", () => {
  assert.equal(tooLarge(fileSizes, FILE_LINES_MAX), []);
});

test("lines have at most 100 columns", () => {
  assert.equal(linesMatching(codeFiles, LONG_LINE), []);
});

test("the list of exceptions holds only what is still too large", () => {
  const sizes = new Map([...functions, ...fileSizes].map(({ name, size }) => [name, size]));
  const needless = Object.entries(EXCEPTIONS).filter(([name, size]) => sizes.get(name) !== size);
  assert.equal(needless, []);
});

test("nothing is left to be done later in the sources", () => {
  assert.equal(linesMatching(codeFiles, /\b(TO[D]O|FIX[M]E|X[X]X)\b/), []);
});

test("no file only gathers others, except the two ends of the SDK", () => {
  const gathering = sources.filter(({ path: file, tree }) => {
    const reexports = tree.statements.filter(
      (statement) => isExportDeclaration(statement) && statement.moduleSpecifier !== undefined,
    );
    const all = reexports.length > 0 && reexports.length === tree.statements.length;
    const star = reexports.some((each) => isExportDeclaration(each) && !each.exportClause);
    return !GATHERING.includes(file) && (all || star);
  });
  assert.equal(
    gathering.map(({ path: file }) => file),
    [],
  );
});

test("any is a type in host/ffi only", () => {
  const found: string[] = [];
  for (const { path: file, tree } of sources) {
    if (file.startsWith("host/ffi/")) continue;
    walk(tree, (node) => {
      if (node.kind === SyntaxKind.AnyKeyword) found.push(`${file}:${lineOf(tree, node.pos)}`);
    });
  }
  assert.equal(found, []);
});

test("the top level holds what the design names, and nothing else", () => {
  const found = readdirSync(ROOT).filter((name) => !name.startsWith("."));
  const generated = ["dist", "node_modules"];
  assert.equal(found.filter((name) => !generated.includes(name)).sort(), TOP_LEVEL);
});

test("every path that README names exists", () => {
  const words = readSource("README.md").match(/[\w.@/-]+/g) ?? [];
  const tops = [...TOP_LEVEL.filter((name) => !name.includes(".")), "dist"];
  const paths = words
    .filter((word) => tops.some((top) => word.startsWith(`${top}/`)))
    .map((word) => word.replace(/[./]+$/, ""));
  const missing = paths.filter((name) => !existsSync(path.join(ROOT, name)));
  assert.equal(missing, []);
});

test("every device has a test and a line in README", () => {
  const readme = readSource("README.md");
  const devices = files.filter((file) => /^devices-as\/(examples\/)?[\w-]+\.ts$/.test(file));
  assert.ok(devices.length > 0, "no device found");
  const missing = devices.flatMap((device) => {
    const name = path.basename(device, ".ts");
    const hasTest = files.includes(`test/${device.replace(/\.ts$/, ".test.ts")}`);
    const hasLine = new RegExp(`\\b${name}\\b`).test(readme);
    return [
      ...(hasTest ? [] : [`${name}: no test`]),
      ...(hasLine ? [] : [`${name}: not in README`]),
    ];
  });
  assert.equal(missing, []);
});

test("no file names the host of a package registry", () => {
  const pattern = /\bregistry\.[\w-]+\.[a-z]{2}|\bnpmmirror\.|\bartifactory\b|:4873\b/i;
  const texts = files.filter((file) => !/\.(elf|wasm|png|svg)$/.test(file));
  const others = texts.filter((file) => file !== "LICENSE" && file !== "test/tidy.test.ts");
  assert.equal(linesMatching(others, pattern), []);
});

test("package-lock.json does not say where packages come from", () => {
  assert.equal(linesMatching(["package-lock.json"], /"resolved"/), []);
});

test.run();
