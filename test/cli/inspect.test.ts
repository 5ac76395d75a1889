import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { EXIT } from "../../host/errors.js";
import { withCustomSection } from "../../host/sandbox/custom-section.js";
import { MANIFEST_SECTION, MODULE_BYTES_MAX } from "../../host/sandbox/manifest.js";
import { withoutSection } from "../breach/support/encode.js";
import { builtDevice, manifest, moduleWith } from "../runtime/support.js";
import { bulkhead, jsonLines } from "../support/bulkhead.js";

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-inspect-"));
test.after(() => fs.rmSync(directory, { recursive: true }));

/** A module that asks for a disk, under the name `disk.wasm`. */
function disk(): string {
  const file = path.join(directory, "disk.wasm");
  const image = { name: "image", kind: "file" as const, required: true };
  const log = { ...image, name: "log", required: false };
  const capabilities = [
    { ...image, rights: ["read", "write"] as ("read" | "write")[] },
    { ...log, rights: ["write"] as "write"[] },
    { name: "time", kind: "clock" as const, required: true, rights: ["read"] as "read"[] },
  ];
  const options = [
    { name: "rate", type: "number" as const },
    { name: "verbose", type: "flag" as const },
  ];
  fs.writeFileSync(file, moduleWith({}, manifest({ config: 60, capabilities, options })));
  return file;
}

test("bulkhead inspect rng shows what is in it, what it asks for and the policy", () => {
  const { status, stdout } = bulkhead(["inspect", "rng"]);
  assert.is(status, 0);
  assert.match(stdout, /^module +.*rng\.wasm, \d+ bytes$/m);
  assert.match(stdout, /^contract +2$/m);
  assert.match(stdout, /^virtio id +4$/m);
  assert.match(stdout, /^memory +64 KiB at first, at most 16384 KiB$/m);
  assert.match(stdout, /^imports +wasi_snapshot_preview1\.fd_read$/m);
  assert.match(stdout, /^serve +\(i32 i32 i32 i32 i32\) -> \(i32\)$/m);
  const option = "--grant rng0\\.source=file:PATH:ro \\(else /dev/urandom\\)";
  assert.match(stdout, new RegExp(`^source +file +read +required +5 +${option}$`, "m"));
  assert.match(stdout, /^recvmsg +fd = 3 /m);
});

test("bulkhead inspect FILE shows the option that grants each capability", () => {
  const { status, stdout } = bulkhead(["inspect", disk()]);
  assert.is(status, 0);
  assert.match(stdout, /^config +60 bytes$/m);
  assert.match(stdout, /^image .* required .* --grant disk0\.image=file:PATH:rw$/m);
  assert.match(stdout, /^options +--device .*disk\.wasm,rate=NUMBER,verbose$/m);
  assert.match(stdout, /^time .* required +--grant disk0\.time=clock:monotonic$/m);
  assert.match(stdout, /^log .* optional .* --grant disk0\.log=file:PATH:wo$/m);
});

test("bulkhead inspect --json prints one object", () => {
  const [object, ...others] = jsonLines(bulkhead(["inspect", disk(), "--json"]).stdout);
  assert.is(others.length, 0);
  const keys = "module moduleBytes manifest imports exports memory grants policy";
  assert.is(Object.keys(object!).join(" "), keys);
  assert.equal(object!.memory, { initialPages: 64, maximumPages: 256 });
  assert.equal(object!.grants, [
    { name: "image", option: "--grant disk0.image=file:PATH:rw" },
    { name: "log", option: "--grant disk0.log=file:PATH:wo" },
    { name: "time", option: "--grant disk0.time=clock:monotonic" },
  ]);
  const exports = object!.exports as { name: string; type: string }[];
  assert.is(exports.find(({ name }) => name === "activate")?.type, "(i64) -> ()");
});

test("bulkhead inspect --wat prints the module as text, alone or in JSON", () => {
  const { status, stdout } = bulkhead(["inspect", disk(), "--wat"]);
  assert.is(status, 0);
  assert.match(stdout, /^\(module\n/);
  assert.match(stdout, /\(export "serve" \(func /);
  const [object] = jsonLines(bulkhead(["inspect", disk(), "--wat", "--json"]).stdout);
  assert.is(object!.wat, stdout);
});

test("bulkhead inspect --wat prints no escape sequence from the names of functions", () => {
  const file = path.join(directory, "escape.wasm");
  const name = "\u001b[2J";
  // The name section: subsection 1 names functions, here the first one.
  const names = [1, 3 + name.length, 1, 0, name.length, ...new TextEncoder().encode(name)];
  fs.writeFileSync(file, withCustomSection(moduleWith(), "name", Uint8Array.from(names)));
  const { status, stdout } = bulkhead(["inspect", file, "--wat"]);
  assert.is(status, 0);
  assert.match(stdout, /\(func \$/); // the name was read
  assert.not.ok(stdout.includes("\u001b"));
});

const module = builtDevice("rng");
const silent = withoutSection(module, 0);

function saying(text: string): Uint8Array {
  return withCustomSection(silent, MANIFEST_SECTION, new TextEncoder().encode(text));
}

const capability = { name: "a", kind: "ether", rights: ["read"], required: true };

const BAD: readonly (readonly [what: string, bytes: Uint8Array, because: RegExp])[] = [
  ["text", new TextEncoder().encode("(module)"), /it is no WebAssembly module/],
  ["an empty file", new Uint8Array(), /it is no WebAssembly module/],
  ["a truncated module", module.subarray(0, 200), /where \d+ are left|ends within/],
  ["a module without a manifest", silent, /no custom section "bulkhead\.manifest"/],
  ["a manifest that is no JSON", saying("{"), /its manifest is no JSON/],
  ["a contract of another version", saying('{"contract":1}'), /built for contract 1/],
  [
    "an unknown kind of capability",
    saying(JSON.stringify({ ...manifest(), capabilities: [{ ...capability }] })),
    /capabilities\[0\]\.kind: "ether", expected one of file/,
  ],
  ["a module without serve()", moduleWith({ serve: "" }), /exports no function "serve"/],
  [
    "a serve() of another type",
    moduleWith({ serve: '(func (export "serve") (param i32))' }),
    /exports serve as \(i32\) -> \(\), which is \(i32 i32 i32 i32 i32\) -> \(i32\)/,
  ],
  [
    "an import that its manifest does not ask for",
    moduleWith({
      imports: `(import "wasi_snapshot_preview1" "fd_read"
        (func (param i32 i32 i32 i32) (result i32)))`,
    }),
    /imports wasi_snapshot_preview1\.fd_read, no capability/,
  ],
  [
    "a module that is too large",
    new Uint8Array(MODULE_BYTES_MAX + 9),
    /1048585 bytes, at most 1048576/,
  ],
];

for (const [what, bytes, because] of BAD) {
  test(`bulkhead inspect refuses ${what}`, () => {
    const file = path.join(directory, "bad.wasm");
    fs.writeFileSync(file, bytes);
    for (const options of [[], ["--json"], ["--wat"]]) {
      const { status, stderr } = bulkhead(["inspect", file, ...options]);
      assert.is(status, EXIT.usage, stderr);
      assert.match(stderr, because);
    }
  });
}

const UNREADABLE: readonly (readonly [what: string, make: (file: string) => void, RegExp])[] = [
  ["a directory", (file) => fs.mkdirSync(file), /EISDIR, it is a directory/],
  ["a dangling link", (file) => fs.symlinkSync("nowhere", file), /ENOENT/],
  ["a device without an end", (file) => fs.symlinkSync("/dev/zero", file), /no regular file/],
  ["a FIFO", (file) => execFileSync("mkfifo", [file]), /no regular file/],
];

for (const [what, make, because] of UNREADABLE) {
  test(`bulkhead inspect refuses ${what}`, () => {
    const file = path.join(directory, what.replaceAll(" ", "-"), "x.wasm");
    fs.mkdirSync(path.dirname(file));
    make(file);
    const { status, stderr } = bulkhead(["inspect", file]);
    assert.is(status, EXIT.usage, stderr);
    assert.match(stderr, because);
  });
}

test.run();
