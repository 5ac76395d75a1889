// The scripts that complete a command line, in the shells that they are for.

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { bashCompletion } from "../../host/cli/completion-bash.js";
import { zshCompletion } from "../../host/cli/completion-zsh.js";
import { KINDS } from "../../host/cli/kinds.js";
import { namesOf, offered } from "../../host/cli/verb.js";
import { VERBS } from "../../host/cli/verbs.js";
import { GRANT_KIND_NAMES } from "../../host/machine/config.js";
import { bulkhead } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";

const folder = mkdtempSync(path.join(os.tmpdir(), "bulkhead-completion-"));
test.after(() => rmSync(folder, { recursive: true }));
for (const name of ["vmlinux", "disk.img", "disk two.img", "mine.wasm"]) {
  writeFileSync(path.join(folder, name), "");
}
mkdirSync(path.join(folder, "out"));

/** Words as bash has them in COMP_WORDS: "=" and ":" are words of their own. */
function compWords(line: string): string[] {
  const words = line.split(/\s+/).flatMap((word) => word.split(/([=:]+)/).filter(Boolean));
  return /\s$/.test(line) ? [...words, ""] : words;
}

/** What bash offers at the end of `line`, in a folder with some files. */
function completed(line: string): string[] {
  const words = compWords(line).map((word) => `'${word}'`);
  const program = `source <("${process.execPath}" -e 'process.stdout.write(process.argv[1])' "$1")
    bulkhead() { printf '{"name":"%s","pid":1}\\n' web wiki; } # what bulkhead list --json says
    COMP_WORDS=(${words.join(" ")}) COMP_CWORD=${words.length - 1}
    COMP_LINE=$2 COMP_POINT=\${#2}
    _bulkhead && ((\${#COMPREPLY[@]})) && printf '%s\\n' "\${COMPREPLY[@]}"`;
  const args = ["--norc", "-uc", program, "bash", bashCompletion(VERBS), line];
  const { stdout, stderr } = spawnSync("bash", args, { cwd: folder, encoding: "utf8" });
  assert.is(stderr, "");
  return stdout.split("\n").filter(Boolean).sort();
}

const NAMES = VERBS.map(({ name }) => name);

test("bulkhead completion prints a script for bash and for zsh, and for no other shell", () => {
  assert.is(bulkhead(["completion", "bash"]).stdout, bashCompletion(VERBS));
  assert.is(bulkhead(["completion", "zsh"]).stdout, zshCompletion(VERBS));
  const { status, stderr } = bulkhead(["completion", "fish"]);
  assert.is(status, 2);
  assert.match(stderr, "none of bash, zsh");
});

test("bash completes verbs, and options of bulkhead itself", () => {
  assert.equal(completed("bulkhead "), [...NAMES, "--help", "--version"].sort());
  assert.equal(completed("bulkhead in"), ["inspect"]);
  assert.equal(completed("bulkhead help po"), ["policy"]);
  assert.equal(completed("bulkhead man compl"), ["completion"]);
});

test("bash completes the options of each verb, and none that is not there", () => {
  for (const verb of VERBS) {
    const names = [...offered(verb).flatMap(namesOf), "-h", "--help"].sort();
    assert.equal(completed(`bulkhead ${verb.name} -`), names);
  }
  assert.equal(completed("bulkhead run --net"), []);
  assert.equal(completed("bulkhead run vmlinux --seri"), ["--serial"]);
});

test("bash completes names of VMs that run", () => {
  assert.equal(completed("bulkhead stop w"), ["web", "wiki"]);
  assert.equal(completed("bulkhead top wi"), ["wiki"]);
});

test("bash completes values of options: words, files, directories", () => {
  assert.equal(completed("bulkhead run --isolation "), ["inline", "process"]);
  assert.equal(completed("bulkhead run --isolation=in"), ["inline"]);
  assert.equal(completed("bulkhead run -k vm"), ["vmlinux"]);
  assert.equal(completed("bulkhead run vml"), ["vmlinux"]);
  assert.equal(completed("bulkhead build --out o"), ["out"]);
  assert.equal(completed("bulkhead run -m "), []);
  assert.equal(completed("bulkhead completion "), ["bash", "zsh"]);
});

test("bash completes kinds of device, their keys, and what these can be", () => {
  assert.equal(completed("bulkhead run --device "), Object.keys(KINDS).sort());
  assert.equal(completed("bulkhead run --device=r"), ["rng"]);
  assert.equal(completed("bulkhead run --device ./m"), ["./mine.wasm"]);
  assert.equal(completed("bulkhead inspect bl"), ["blk"]);
  for (const [kind, { keys }] of Object.entries(KINDS)) {
    const words = completed(`bulkhead run --device ${kind},`);
    const names = words.map((word) => word.replace(`${kind},`, "").replace("=", "")).sort();
    assert.equal(names, Object.keys(keys).sort());
  }
  assert.equal(completed("bulkhead run --device blk,ima"), ["blk,image="]);
  assert.equal(completed("bulkhead run --device blk,image=di"), ["disk two.img", "disk.img"]);
  assert.equal(completed("bulkhead run --device blk,image=disk.img,ba"), [
    "disk.img,backing-format=",
    "disk.img,backing=",
  ]);
  assert.equal(completed("bulkhead run --device blk,format="), ["qcow2", "raw"]);
});

test("bash completes --disk as a device of which the kind is known", () => {
  assert.equal(completed("bulkhead run -d disk."), ["disk.img"]);
  assert.equal(completed("bulkhead run -d disk.img,r"), ["disk.img,ro"]);
  assert.equal(completed("bulkhead run -d disk.img,format=q"), ["qcow2"]);
});

test("bash completes kinds of grants, and what is granted", () => {
  const kinds = GRANT_KIND_NAMES.map((kind) => `${kind}:`).sort();
  assert.equal(completed("bulkhead run --grant mine0.image="), kinds);
  assert.equal(completed("bulkhead policy rng --grant rng0.source=file:vm"), ["vmlinux"]);
  assert.equal(completed("bulkhead run --grant mine0.time=clock:m"), ["monotonic"]);
  assert.equal(completed("bulkhead run --grant mine0"), []);
});

/** Against a hang: what never comes is waited for. */
const WAIT_MS_MAX = 60_000;

/** Whether there is a zsh. */
function hasZsh(): boolean {
  return spawnSync("zsh", ["-c", "exit"]).status === 0;
}

test("zsh takes the script", () => {
  if (!hasZsh()) return skip("zsh is missing: apt install zsh");
  const options = { input: zshCompletion(VERBS), encoding: "utf8" } as const;
  const { status, stderr } = spawnSync("zsh", ["-fn"], options);
  assert.is(stderr, "");
  assert.is(status, 0);
});

/** Whether zsh turns `line` and Tab into `wanted`: a shell on a pseudo-terminal of its own. */
function zshCompletes(line: string, wanted: string): boolean {
  const program = `zmodload zsh/zpty
    zpty it zsh -f
    zpty -w it 'PS1=; autoload -U compinit; compinit -D; source "$BULKHEAD_COMPLETION"'
    zpty -w it 'LISTMAX=1000; stty columns 200; echo re\\ady'
    zpty -r it heard '*ready*'
    zpty -n -w it "$1"$'\\t\\t'
    zpty -r it heard "*$2*"`;
  const file = path.join(folder, "_bulkhead");
  writeFileSync(file, zshCompletion(VERBS));
  const env = { ...process.env, BULKHEAD_COMPLETION: file, TERM: "dumb" };
  const options = { cwd: folder, env, timeout: WAIT_MS_MAX };
  return spawnSync("zsh", ["-fc", program, "zsh", line, wanted], options).status === 0;
}

test("zsh completes verbs, options, devices and grants", () => {
  if (!hasZsh()) return skip("zsh is missing: apt install zsh");
  for (const [line, wanted] of [
    ["bulkhead ins", "inspect"],
    ["bulkhead run --iso", "--isolation"],
    ["bulkhead run --isolation inl", "inline"],
    ["bulkhead run --device blk,form", "format="],
    ["bulkhead run --device blk,image=disk.", "disk.img"],
    ["bulkhead run -d disk.img,format=qc", "qcow2"],
    ["bulkhead run --grant a.b=cl", "clock:"],
    ["bulkhead run --grant a.b=file:vml", "vmlinux"],
  ] as const) {
    assert.ok(zshCompletes(line, wanted), line);
  }
});

test.run();
