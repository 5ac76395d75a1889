import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";

const DIST = fileURLToPath(new URL("../..", import.meta.url));
const RUNNER = path.join(DIST, "build", "test.js");

const PASSES = `import { test } from "uvu";
  test("one", () => {}); test("two", () => {}); test.run();`;
const FAILS = `import { test } from "uvu"; import * as assert from "uvu/assert";
  test("fine", () => {}); test("wrong sum", () => assert.is(1 + 1, 3)); test.run();`;

/** What to make of a checkout: name → content; `stale` files have no source. */
interface Fixture {
  files: Record<string, string>;
  stale?: Record<string, string>;
  args?: string[];
  timeLimitMs?: number;
}

/** Runs the runner over a checkout that has these test files only. */
function run({ files, stale = {}, args = [], timeLimitMs = 20_000 }: Fixture) {
  // Below dist/, so that the files find uvu.
  const root = fs.mkdtempSync(path.join(DIST, "runner-"));
  const put = (name: string, content: string) => {
    fs.mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    fs.writeFileSync(path.join(root, name), content);
  };
  try {
    put("package.json", `{ "type": "module" }`);
    fs.mkdirSync(path.join(root, "test"));
    for (const name of Object.keys(files)) put(`test/${name}.test.ts`, "");
    for (const [name, content] of Object.entries({ ...files, ...stale })) {
      if (content !== "not compiled") put(`dist/test/${name}.test.js`, content);
    }
    const { status, stdout } = spawnSync(process.execPath, [RUNNER, ...args], {
      encoding: "utf8",
      env: {
        ...process.env,
        BULKHEAD_TEST_ROOT: root,
        BULKHEAD_TEST_TIMEOUT_MS: String(timeLimitMs),
      },
    });
    return { status, stdout, last: stdout.trimEnd().split("\n").at(-1) };
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

/** Whether `pid` is there, no zombie, and runs `command`. */
function runs(pid: number, command: string): boolean {
  const file = `/proc/${pid}/cmdline`;
  return fs.existsSync(file) && fs.readFileSync(file, "utf8").startsWith(command);
}

test("runner adds up the files and ends with the totals", () => {
  const { status, last, stdout } = run({ files: { a: PASSES, "virtio/b": PASSES } });
  assert.is(last, "4 passed, 0 failed, 0 skipped");
  assert.is(status, 0);
  assert.match(stdout, /^ok {3}virtio\/b: 2 passed, [0-9.]+ s$/m);
});

test("runner shows a failing test with its file's output and goes on", () => {
  const { status, last, stdout } = run({ files: { a: FAILS, b: PASSES } });
  assert.is(last, "3 passed, 1 failed, 0 skipped");
  assert.is(status, 1);
  assert.match(stdout, /^FAIL a: 1 passed, 1 failed/m);
  assert.match(stdout, /wrong sum/);
});

test("runner counts a file that crashes before its totals as a failure", () => {
  const { status, last, stdout } = run({ files: { a: `throw new Error("no such luck")` } });
  assert.is(last, "0 passed, 1 failed, 0 skipped");
  assert.is(status, 1);
  assert.match(stdout, /crashed: exit status 1/);
  assert.match(stdout, /no such luck/);
});

test("runner counts a file that crashes after its tests passed as a failure", () => {
  const late = `${PASSES} setTimeout(() => process.kill(process.pid, "SIGSEGV"), 200);`;
  const { status, last, stdout } = run({ files: { a: late } });
  assert.is(last, "2 passed, 1 failed, 0 skipped");
  assert.is(status, 1);
  assert.match(stdout, /killed by SIGSEGV/);
});

test("runner ends a file that hangs, and what it started", () => {
  const pidFile = path.join(DIST, `runner-pid-${process.pid}`);
  const hangs = `import { spawn } from "node:child_process"; import fs from "node:fs";
    const child = spawn("sleep", ["1000"], { stdio: "inherit" });
    fs.writeFileSync(${JSON.stringify(pidFile)}, String(child.pid));
    console.log("before the hang");`;
  const { status, last, stdout } = run({ files: { a: hangs }, timeLimitMs: 1500 });
  const pid = Number(fs.readFileSync(pidFile, "utf8"));
  fs.rmSync(pidFile);
  assert.is(last, "0 passed, 1 failed, 0 skipped");
  assert.is(status, 1);
  assert.match(stdout, /FAIL a: .*hung/);
  assert.match(stdout, /before the hang/);
  assert.match(stdout, new RegExp(`hung:[^]* ${pid}: sleep 1000\\n.* ${pid} S .*nanosleep`));
  assert.is(runs(pid, "sleep"), false);
});

test("runner counts a file that ran no test as a failure", () => {
  const { status, last, stdout } = run({ files: { a: `console.log("nothing here")` } });
  assert.is(last, "0 passed, 1 failed, 0 skipped");
  assert.is(status, 1);
  assert.match(stdout, /ran no test/);
});

test("runner counts a test source that was not compiled as a failure", () => {
  const { status, last } = run({ files: { a: PASSES, b: "not compiled" } });
  assert.is(last, "2 passed, 1 failed, 0 skipped");
  assert.is(status, 1);
});

test("runner counts skips and lists their reasons at the end", () => {
  const skips = `${PASSES} console.log("SKIP no /dev/kvm, run: modprobe kvm");`;
  const inside = `import { test } from "uvu";
    test("x", () => {}); test("y", () => process.stdout.write("SKIP no tap\\n")); test.run();`;
  const { status, last, stdout } = run({
    files: { a: skips, b: inside, c: `console.log("SKIP all")` },
  });
  assert.is(last, "4 passed, 0 failed, 3 skipped");
  assert.is(status, 0);
  assert.match(
    stdout,
    /^Skipped:\n {2}a: no \/dev\/kvm, run: modprobe kvm\n {2}b: no tap\n {2}c: all$/m,
  );
});

test("runner shows notes of a file that passes", () => {
  const { stdout } = run({ files: { a: `${PASSES} console.log("NOTE boot took 3 s");` } });
  assert.match(stdout, /^ok .*\n {5}boot took 3 s$/m);
});

test("runner leaves compiled files alone whose source is gone", () => {
  const { last } = run({ files: { a: PASSES }, stale: { old: FAILS } });
  assert.is(last, "2 passed, 0 failed, 0 skipped");
});

test("runner runs what matches the words it is given, and fails when nothing does", () => {
  const files = { a: PASSES, "virtio/queue": PASSES };
  assert.is(run({ files, args: ["queue"] }).last, "2 passed, 0 failed, 0 skipped");
  assert.is(run({ files, args: ["absent"] }).status, 1);
});

test("runner takes pure files first and machines last", () => {
  const names = ["breach/a", "machine/a", "cli/a", "sandbox/a", "elsewhere/a", "virtio/a", "tidy"];
  const { stdout } = run({ files: Object.fromEntries(names.map((name) => [name, PASSES])) });
  const order = [...stdout.matchAll(/^ok {3}([a-z/]+):/gm)].map((match) => match[1]);
  assert.equal(order, names.toReversed());
});

test.run();
