// The project's own files, and the syntax trees of its TypeScript and AssemblyScript, for the tests
// that hold the code to its style and its layers.

import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import {
  isCallExpression,
  isExportDeclaration,
  isImportDeclaration,
  isStringLiteral,
  type Node,
  type SourceFile,
  SyntaxKind,
} from "typescript/unstable/ast";
import { API } from "typescript/unstable/sync";

/** The top of the checkout; this file runs from dist/test/support. */
export const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** What git ignores (.gitignore), and git's own directory. */
const IGNORED = new Set([".git", "node_modules", "dist"]);

/** Paths of all files below `directory`, relative to the checkout, without what git ignores. */
export function filesBelow(directory = ""): string[] {
  return readdirSync(path.join(ROOT, directory)).flatMap((name) => {
    const relative = path.join(directory, name);
    if (IGNORED.has(name) || name.endsWith(".tgz")) return [];
    return statSync(path.join(ROOT, relative)).isDirectory() ? filesBelow(relative) : [relative];
  });
}

export function readSource(relative: string): string {
  return readFileSync(path.join(ROOT, relative), "utf8");
}

/** A parsed file, with its path relative to the checkout. */
export interface Source {
  path: string;
  tree: SourceFile;
}

/** Parses every .ts file of the checkout; AssemblyScript has the same syntax. */
export function parseSources(): Source[] {
  const paths = filesBelow().filter((file) => file.endsWith(".ts"));
  // No types are asked for, so this project need not know what AssemblyScript's i32 is.
  const config = path.join(ROOT, "dist", "tidy.tsconfig.json");
  const files = paths.map((file) => path.join(ROOT, file));
  const compilerOptions = { noLib: true, noResolve: true, types: [] };
  writeFileSync(config, JSON.stringify({ compilerOptions, files }));
  const api = new API({ cwd: ROOT });
  try {
    const program = api.updateSnapshot({ openProjects: [config] }).getProject(config)?.program;
    return paths.map((file) => {
      const tree = program?.getSourceFile(path.join(ROOT, file));
      if (tree === undefined) throw new Error(`Cannot parse ${file}`);
      return { path: file, tree };
    });
  } finally {
    api.close();
  }
}

/** Calls `visit` for `node` and everything below it. */
export function walk(node: Node, visit: (node: Node) => void): void {
  visit(node);
  node.forEachChild((child) => walk(child, visit));
}

/** Line of `position` in `tree`, from 1. */
export function lineOf(tree: SourceFile, position: number): number {
  return tree.text.slice(0, position).split("\n").length;
}

/** Lines that `node` covers, its comments not counted. */
export function lineCountOf(tree: SourceFile, node: Node): number {
  return lineOf(tree, node.end) - lineOf(tree, node.getStart(tree)) + 1;
}

/** What a file imports or re-exports, `import()` included: the specifiers as written. */
export function importsOf(tree: SourceFile): string[] {
  const specifiers: string[] = [];
  walk(tree, (node) => {
    const isImport = isImportDeclaration(node) || isExportDeclaration(node);
    const specifier = isImport ? node.moduleSpecifier : dynamicImport(node);
    if (specifier !== undefined && isStringLiteral(specifier)) specifiers.push(specifier.text);
  });
  return specifiers;
}

function dynamicImport(node: Node): Node | undefined {
  const isImport = isCallExpression(node) && node.expression.kind === SyntaxKind.ImportKeyword;
  return isImport ? node.arguments[0] : undefined;
}
