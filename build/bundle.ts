// Bundles each program of Bulkhead into one script, dist/bundle/LAYER/NAME.script, beside it what
// V8 has compiled of it, NAME.cache, and NAME.js, which loads both. Node takes half a millisecond
// to find, read and link a module, and as long to parse some of our code, in each thread and each
// process anew: together that was most of the time from exec to the first guest instruction. And
// the root of a device's process then holds a few files of ours.

import assert from "node:assert";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { type BuildOptions, build, type Plugin } from "esbuild";
import { PROGRAMS } from "./programs.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const BUNDLE = path.join(ROOT, "dist/bundle");
const CODE_CACHE = fileURLToPath(new URL("code-cache.js", import.meta.url));

/** What a program imports from the package: the types of its sources are copied beside it. */
const IMPORTED = "testing/main";

/** Copies the declarations in `file`, a path below dist/host, and those that it imports. */
function copyDeclarations(file: string, copied = new Set<string>()): void {
  if (copied.has(file)) return;
  copied.add(file);
  const text = fs.readFileSync(path.join(ROOT, "dist/host", file), "utf8");
  const copy = path.join(BUNDLE, file);
  fs.mkdirSync(path.dirname(copy), { recursive: true });
  fs.writeFileSync(copy, text);
  for (const [, specifier] of text.matchAll(/ from "(\.[^"]+)\.js"/g)) {
    copyDeclarations(path.join(path.dirname(file), `${specifier}.d.ts`), copied);
  }
}

/**
 * Packages that stay where they are: they have machine code, or are loaded by the few commands that
 * need them. Commander is part of every start, and so of the bundle.
 */
const EXTERNAL = ["@koromix/*", "assemblyscript", "cli-table3", "koffi", "wabt"];

/** Commander starts subcommands that are programs of their own; there are none. */
const COMMANDER_STARTS_NOTHING: Plugin = {
  name: "commander starts nothing",
  setup: ({ onResolve }) => {
    onResolve({ filter: /^node:child_process$/ }, ({ importer }) => {
      const isCommander = importer.includes("/node_modules/commander/");
      return isCommander ? { path: path.join(ROOT, "dist/build/nothing.js") } : undefined;
    });
  },
};

/** A program has the WebAssembly of the runtime inside, not in files. */
const WASM_INSIDE: Plugin = {
  name: "wasm inside",
  setup: ({ onLoad }) => {
    onLoad({ filter: /\/host\/runtime\/wasm-code\.ts$/ }, () => {
      const directory = path.join(ROOT, "dist/host/runtime/assembly");
      const files = fs.readdirSync(directory).filter((file) => file.endsWith(".wasm"));
      const codes = files.map((file) => {
        const code = fs.readFileSync(path.join(directory, file), "base64");
        return [path.basename(file, ".wasm"), code];
      });
      const text = JSON.stringify(Object.fromEntries(codes));
      const decode = 'new Uint8Array(Buffer.from(codes[name], "base64"))';
      return { contents: `const codes = ${text};\nexport const wasmCode = (name) => ${decode};` };
    });
  },
};

/** A script has `require` from its loader; in a device, node:module takes as long as koffi. */
const SCRIPTS_CAN_REQUIRE: Plugin = {
  name: "scripts can require",
  setup: ({ onLoad }) => {
    onLoad({ filter: /\/host\/ffi\/libc\.ts$/ }, ({ path: file }) => {
      const code = fs.readFileSync(file, "utf8");
      const made = "const require = createRequire(import.meta.url);\n";
      assert(code.includes(made), `${file} makes no require`);
      return { contents: code.replace(made, ""), loader: "ts" };
    });
  },
};

/** What begins before the command line is loaded is a script of its own, threads included. */
const EARLY = "./early.js";
const EARLY_COMES_FIRST: Plugin = {
  name: "early comes first",
  setup: ({ onResolve }) => {
    onResolve({ filter: /\/(early|thread)\.js$/ }, ({ importer }) =>
      importer.startsWith(path.join(ROOT, "host/")) ? { path: EARLY, external: true } : undefined,
    );
  },
};

async function bundle(entries: readonly string[], options: BuildOptions): Promise<void> {
  await build({
    absWorkingDir: ROOT,
    entryPoints: entries.map((entry) => `host/${entry}.ts`),
    outbase: "host",
    outdir: BUNDLE,
    bundle: true,
    external: EXTERNAL,
    platform: "node",
    target: "node20",
    logLevel: "warning",
    ...options,
  });
}

/** NAME.js: runs NAME.script, with what is compiled of it if this node can use that. */
const LOADER = `const { readFileSync } = require("node:fs");
const { Script } = require("node:vm");
const base = __filename.slice(0, -".js".length);
let cachedData;
try {
  cachedData = readFileSync(base + ".cache");
} catch {
  // Without it, it is compiled: that takes longer.
}
const script = new Script(readFileSync(base + ".script", "latin1"), {
  filename: base + ".script",
  cachedData,
});
const __load = (specifier) => import(specifier);
script.runInThisContext()(exports, require, module, __filename, __dirname, __load);
`;
const SHEBANG = "#!/usr/bin/env node\n";

/** Turns the bundled CommonJS module of a program into the script, its cache and its loader. */
function finish(program: string): void {
  const base = path.join(BUNDLE, program);
  const code = fs.readFileSync(`${base}.js`, "latin1");
  const isCommand = code.startsWith(SHEBANG);
  const parameters = "exports, require, module, __filename, __dirname, __load";
  // A script that V8 has from a cache does not know how to import: its loader does.
  const body = code.slice(isCommand ? SHEBANG.length : 0).replaceAll('import("', '__load("');
  fs.writeFileSync(`${base}.script`, `(function (${parameters}) {${body}\n})`, "latin1");
  const first = `${SHEBANG}"use strict";\nrequire("${EARLY}");\n`;
  fs.writeFileSync(`${base}.js`, (isCommand ? first : '"use strict";\n') + LOADER);
  execFileSync(process.execPath, [...PROGRAMS[program]!, CODE_CACHE, base], { stdio: "inherit" });
  // The package's modules are ES modules; this folder's are not.
  const scope = path.join(path.dirname(base), "package.json");
  fs.writeFileSync(scope, `${JSON.stringify({ type: "commonjs" })}\n`);
}

/** In a device, node:url is not worth half a millisecond where nobody asks for a place. */
const META =
  'const __meta = { get url() { return require("node:url").pathToFileURL(__filename).href; } };';
/**
 * The global `performance` has Node load 3 ms of code in a device, and 1 ms in a thread. A command
 * says how long it has run; a device makes no system call for it but that for a monotonic clock.
 * The I/O worker reads it with each request, and for that this one is too slow.
 */
const CLOCK = "function __now() { const [s, ns] = process.hrtime(); return s * 1e3 + ns / 1e6; }";
const COMMAND_CLOCK = "function __now() { return process.uptime() * 1e3; }";
const COMMANDS = ["cli/main"];

const IO_WORKER = "machine/io-worker";
const META_URL = { "import.meta.url": "__meta.url" };

const scripts = (clock: string, plugins: Plugin[] = []): BuildOptions => ({
  format: "cjs",
  plugins: [SCRIPTS_CAN_REQUIRE, WASM_INSIDE, ...plugins],
  charset: "ascii", // so that it is read as it is
  define: { ...META_URL, "performance.now": "__now" },
  banner: { js: `${META}\n${clock}` },
});

fs.rmSync(BUNDLE, { recursive: true, force: true });
await bundle([IMPORTED], { format: "esm", plugins: [WASM_INSIDE] });
await bundle(COMMANDS, scripts(COMMAND_CLOCK, [COMMANDER_STARTS_NOTHING, EARLY_COMES_FIRST]));
const others = Object.keys(PROGRAMS).filter((program) => !COMMANDS.includes(program));
const isBusy = (program: string) => program === IO_WORKER;
await bundle(others.filter(isBusy), { ...scripts(CLOCK), define: META_URL });
await bundle(
  others.filter((program) => !isBusy(program)),
  scripts(CLOCK),
);
for (const program of Object.keys(PROGRAMS)) finish(program);
const license = path.join(ROOT, "node_modules/commander/LICENSE");
fs.copyFileSync(license, path.join(BUNDLE, "cli/commander.LICENSE"));
copyDeclarations(`${IMPORTED}.d.ts`);
