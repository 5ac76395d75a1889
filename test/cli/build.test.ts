// bulkhead build, as an author types it.

import fs from "node:fs";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { EXIT } from "../../host/errors.js";
import { parseManifest } from "../../host/sandbox/manifest.js";
import { deviceSource, folderOf } from "../author/support.js";
import { bulkhead, jsonLines } from "../support/bulkhead.js";

/** Asks for two files and uses one of them. */
const MINE = deviceSource(
  "chain.writeFrom(image, chain.writable);",
  'const image = capability.file("image", Rights.Read); capability.file("log", Rights.Write);',
);
const WRONG = deviceSource("\tundeclared();");

/** The least module that could trap in the author's function, and where that is in its source. */
const TRAPPING = deviceSource("chain.read<u64>();");

test("bulkhead build writes a module that inspect takes, and says what to type to run it", () => {
  const cwd = folderOf({ "mine.ts": MINE });
  const { status, stdout, stderr } = bulkhead(["build", "mine.ts"], { cwd });
  assert.is(stderr, "");
  assert.is(status, EXIT.ok);
  const { length } = fs.readFileSync(path.join(cwd, "mine.wasm"));
  assert.match(
    stdout,
    new RegExp(`^\\./mine\\.wasm +${length} +fd_read +image \\(file, read\\), log`, "m"),
  );
  const run = /^ {2}bulkhead run KERNEL (--device .*)$/m.exec(stdout)?.[1];
  assert.is(
    run,
    "--device ./mine.wasm --grant mine0.image=file:PATH:ro --grant mine0.log=file:PATH:wo",
  );
  const words = run!.replaceAll("PATH", "/dev/null").replace("--device ", "").split(" ");
  assert.is(bulkhead(["policy", ...words], { cwd }).status, EXIT.ok);
  const debug = words.map((word) => word.replace("mine.wasm", "mine.debug.wasm"));
  assert.is(bulkhead(["policy", ...debug], { cwd }).status, EXIT.ok);
});

test("bulkhead build tries every file and tells every mistake as FILE:LINE:COLUMN", () => {
  const cwd = folderOf({ "mine.ts": MINE, "wrong.ts": WRONG, "loop/other.ts": WRONG });
  const files = ["wrong.ts", "mine.ts", "loop/other.ts"];
  const { status, stdout, stderr } = bulkhead(["build", ...files], { cwd });
  assert.is(status, EXIT.usage);
  assert.match(stdout, /^\.\/mine\.wasm /m);
  const mistake = "Cannot find name 'undeclared'. (AS2304)";
  const lines = stderr.split("\n");
  assert.is(lines[0], `wrong.ts:5:44: ${mistake}`);
  assert.is(lines[1], "      serve(queue: u32, chain: Chain): void { \tundeclared(); }");
  assert.is(lines[2]?.trimEnd(), `${" ".repeat(4 + 42)}\t^`);
  assert.is(lines[3], `loop/other.ts:5:44: ${mistake}`);
  assert.equal(fs.readdirSync(cwd).sort(), [
    "loop",
    "mine.debug.wasm",
    "mine.debug.wasm.map",
    "mine.ts",
    "mine.wasm",
    "wrong.ts",
  ]);
});

test("bulkhead build --out writes elsewhere, and keeps an old module on a mistake", () => {
  const cwd = folderOf({ "src/mine.ts": MINE });
  const args = ["build", "src/mine.ts", "--out", "a/b"];
  assert.is(bulkhead(args, { cwd }).status, EXIT.ok);
  assert.equal(fs.readdirSync(path.join(cwd, "src")), ["mine.ts"]);
  const module = fs.readFileSync(path.join(cwd, "a/b/mine.wasm"));
  fs.writeFileSync(path.join(cwd, "src/mine.ts"), WRONG);
  assert.is(bulkhead(args, { cwd }).status, EXIT.usage);
  assert.equal(fs.readFileSync(path.join(cwd, "a/b/mine.wasm")), module);
});

/** No file may become larger than that many times 512 bytes: as on a full disk. */
const limited = (blocks: number) => `ulimit -f ${blocks}; exec "$@"`;

test("bulkhead build leaves all as it was where a module cannot be written", () => {
  const cwd = folderOf({ "mine.ts": MINE, "mine.wasm": "old" });
  const { status, stderr } = bulkhead(["build", "mine.ts"], { cwd, shell: limited(1) });
  assert.match(stderr, /^Error: Cannot write "[^"]*mine[^"]*": EFBIG/);
  assert.is(status, EXIT.usage);
  assert.equal(fs.readdirSync(cwd), ["mine.ts", "mine.wasm"]);
  assert.is(fs.readFileSync(path.join(cwd, "mine.wasm"), "utf8"), "old");
});

test("bulkhead build --json prints an object a file", () => {
  const cwd = folderOf({ "mine.ts": MINE, "wrong.ts": WRONG });
  const { status, stdout } = bulkhead(["build", "wrong.ts", "mine.ts", "--json"], { cwd });
  assert.is(status, EXIT.usage);
  const [wrong, mine] = jsonLines(stdout);
  assert.is(wrong?.event, "error");
  assert.is(wrong?.file, "wrong.ts");
  const diagnostics = wrong?.diagnostics as Record<string, unknown>[] | undefined;
  const { line, column, code } = diagnostics?.[0] ?? {};
  assert.equal({ line, column, code }, { line: 5, column: 44, code: "AS2304" });
  assert.is(mine?.event, "built");
  const module = fs.readFileSync(path.join(cwd, mine?.module as string));
  assert.is(mine?.moduleBytes, module.length);
  assert.equal(mine?.manifest, parseManifest(module));
  assert.equal(mine?.imports, [{ module: "wasi_snapshot_preview1", name: "fd_read" }]);
  assert.match(mine?.run as string, /^bulkhead run KERNEL --device \.\/mine\.wasm /);
});

test("bulkhead build maps the debug module to the author's file, from where it is", () => {
  const cwd = folderOf({ "src/trap.ts": TRAPPING });
  assert.is(bulkhead(["build", "src/trap.ts", "--out", "out"], { cwd }).status, EXIT.ok);
  const module = new WebAssembly.Module(fs.readFileSync(path.join(cwd, "out/trap.debug.wasm")));
  const [section] = WebAssembly.Module.customSections(module, "sourceMappingURL");
  const url = new TextDecoder().decode(section).slice(1); // after its length
  assert.is(url, "./trap.debug.wasm.map");
  const map = JSON.parse(fs.readFileSync(path.join(cwd, "out", url), "utf8"));
  const index = map.sources.indexOf("../src/trap.ts");
  assert.is(map.sourcesContent[index], TRAPPING);
  assert.ok(map.sources.includes("~lib/bulkhead/sdk/chain.ts"));
  assert.is(map.sourceRoot, undefined);
});

const MISTAKES: { name: string; args: string[]; stderr: RegExp }[] = [
  {
    name: "a file without .ts",
    args: ["build", "mine"],
    stderr: /^Error: Cannot build "mine": it is no \.ts file\n {2}did you mean "mine\.ts"\?/,
  },
  {
    name: "a file that is not there",
    args: ["build", "mien.ts"],
    stderr: /^Error: Cannot build "mien\.ts": there is no such file\n {2}did you mean "mine\.ts"\?/,
  },
  {
    name: "a module",
    args: ["build", "mine.wasm"],
    stderr: /^Error: .* it is built already\n {2}see: bulkhead inspect mine\.wasm/,
  },
  {
    name: "two files for one module",
    args: ["build", "mine.ts", "sub/mine.ts", "--out", "out"],
    stderr: /^Error: Cannot build "sub\/mine\.ts" and "mine\.ts": both would become one module/,
  },
  {
    name: "a directory that cannot be made",
    args: ["build", "mine.ts", "--out", "/proc/nowhere"],
    stderr: /^Error: Cannot mkdir "\/proc\/nowhere": ENOENT/,
  },
  {
    name: "no file",
    args: ["build"],
    stderr: /^Error: .*missing required argument 'FILE\.ts'\n {2}see: bulkhead build --help/,
  },
  {
    name: "a source instead of a module",
    args: ["run", "kernel", "--device", "./mine.ts"],
    stderr:
      /^Error: Cannot run "\.\/mine\.ts": .*\n {2}bulkhead build \.\/mine\.ts makes .*mine\.wasm/,
  },
];

const mistaken = folderOf({ "mine.ts": MINE, "sub/mine.ts": MINE });
for (const { name, args, stderr } of MISTAKES) {
  test(`bulkhead explains ${name}`, () => {
    const result = bulkhead(args, { cwd: mistaken });
    assert.match(result.stderr, stderr);
    assert.is(result.status, EXIT.usage);
    assert.is(result.stdout, "");
  });
}

test("bulkhead loads the compiler for nothing but build", () => {
  const hook = `data:text/javascript,${encodeURIComponent(`
    import { register } from "node:module";
    register("data:text/javascript," + encodeURIComponent(\`
      export async function resolve(name, context, next) {
        if (name.startsWith("assemblyscript")) throw new Error("the compiler is not here");
        return next(name, context);
      }\`));`)}`;
  const launcher = ["env", `NODE_OPTIONS=--import=${hook}`];
  for (const args of [["--help"], ["build", "--help"], ["inspect", "rng"], ["policy", "rng"]]) {
    assert.is(bulkhead(args, { launcher }).status, EXIT.ok, args.join(" "));
  }
  const built = bulkhead(["build", "mine.ts"], { launcher, cwd: mistaken });
  assert.match(built.stderr, /the compiler is not here/);
});

test.run();
