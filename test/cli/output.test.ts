// What can be written no more: stdout, events and the log of the serial console, on a full disk,
// with a reader that is gone, and on a terminal that hung up. The guest goes on.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { EXIT } from "../../host/errors.js";
import { BULKHEAD, bulkhead, ENTROPY_GUEST, jsonLines, whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";
import { freeTerminal } from "../support/terminal.js";

const RUN = ["run", ENTROPY_GUEST, "--rng"];
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-output-"));
test.after(() => fs.rmSync(scratch, { recursive: true }));

/** A test that runs a guest, and is skipped where none can run. */
function guestTest(name: string, body: () => Promise<void> | void): void {
  test(name, () => {
    const reason = whyNoKvm();
    return reason === undefined ? body() : skip(reason);
  });
}

const FULL = "ENOSPC, the file system is full; the guest goes on";
const GONE = "EPIPE, nobody reads it any more; the guest goes on";

/** Lines about what was lost, and about the end. */
function remarks(stderr: string): string[] {
  return stderr.split("\n").filter((line) => /^# (cannot|\d+ bytes|the guest)/.test(line));
}

guestTest("a full disk under --serial is told, and the guest goes on", () => {
  const { status, stderr } = bulkhead([...RUN, "--serial", "/dev/full"]);
  const [first, lost, end] = remarks(stderr);
  assert.is(first, `# cannot write the serial output: ${FULL}`);
  assert.match(lost!, /^# \d+ bytes of the serial output were lost$/);
  assert.is(end, "# the guest powered off");
  assert.is(status, EXIT.ok);
});

/** The size of a small file system, and what is left of it in a file that is there already. */
const DISK_BYTES = 4096;
const ROOM_BYTES = 250;

/** Runs a guest that appends its output to that file; returns what it appended. */
function onSmallDisk(...args: string[]) {
  const disk = path.join(scratch, "disk");
  const copy = path.join(scratch, "copy");
  fs.mkdirSync(disk, { recursive: true });
  const shell = `mount -t tmpfs -o size=${DISK_BYTES} tmpfs "${disk}"; cd "${disk}"
    head -c ${DISK_BYTES - ROOM_BYTES} /dev/zero > out
    status=0; "$@" >> out || status=$?
    cat out > "${copy}"; exit $status`;
  const result = bulkhead([...RUN, ...args], { shell, launcher: ["unshare", "-m"] });
  return { ...result, text: fs.readFileSync(copy, "utf8").replace(/^\0+/, "") };
}

/** Why no small file system can be mounted here; undefined where one can. */
function whyNoDisk(): string | undefined {
  const mount = `mount -t tmpfs -o size=${DISK_BYTES} tmpfs "${scratch}"`;
  const { status } = spawnSync("unshare", ["-m", "sh", "-c", mount], { stdio: "ignore" });
  return status === 0 ? undefined : "no small file system can be mounted here: it takes root";
}

/** A test for which a file system is mounted. */
function diskTest(name: string, body: () => void): void {
  guestTest(name, () => {
    const reason = whyNoDisk();
    return reason === undefined ? body() : skip(reason);
  });
}

diskTest("a disk that gets full keeps what was written", () => {
  const { status, stderr, text } = onSmallDisk();
  assert.is(text.length, ROOM_BYTES);
  assert.match(text, /^entropy guest, entered by /);
  const [first, lost, end] = remarks(stderr);
  assert.is(first, `# cannot write the serial output: ${FULL}`);
  assert.match(lost!, /^# \d+ bytes of the serial output were lost$/);
  assert.is(end, "# the guest powered off");
  assert.is(status, EXIT.ok);
});

diskTest("a disk that gets full under the events keeps what was written", () => {
  const { status, stderr, text } = onSmallDisk("--json");
  assert.is(text.length, ROOM_BYTES);
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  assert.is(jsonLines(whole)[0]?.event, "device-ready");
  assert.is(stderr, `# cannot write to stdout: ${FULL}\n`);
  assert.is(status, EXIT.ok);
});

test("sayJson() begins a new line behind one that could be written in part", () => {
  const reason = whyNoDisk();
  if (reason !== undefined) return skip(reason);
  const disk = path.join(scratch, "disk");
  fs.mkdirSync(disk, { recursive: true });
  const output = new URL("../../host/cli/output.js", import.meta.url);
  const program = `import fs from "node:fs"; import { sayJson } from "${output}";
    sayJson({ long: "x".repeat(${ROOM_BYTES}) });
    fs.rmSync("fill");
    sayJson({ next: 1 }); sayJson({ next: 2 });`;
  const shell = `mount -t tmpfs -o size=${2 * DISK_BYTES} tmpfs "${disk}"; cd "${disk}"
    head -c ${DISK_BYTES} /dev/zero > fill; head -c ${DISK_BYTES - ROOM_BYTES} /dev/zero > out
    "$@" >> out; tail -n 2 out`;
  const command = ["sh", "-ec", shell, "sh", process.execPath, "--input-type=module"];
  const { stdout } = spawnSync("unshare", ["-m", ...command], { input: program, encoding: "utf8" });
  assert.is(stdout, '{"next":1}\n{"next":2}\n');
});

guestTest("a full disk under the events is told on stderr, and the guest goes on", () => {
  const shell = 'exec "$@" > /dev/full';
  const log = path.join(scratch, "serial");
  const { status, stderr } = bulkhead([...RUN, "--json", "--serial", log], { shell });
  assert.is(stderr, `# cannot write to stdout: ${FULL}\n`);
  assert.match(fs.readFileSync(log, "utf8"), "1 passed, 0 failed: PASS");
  assert.is(status, EXIT.ok);
});

guestTest("a reader that goes away is told of, and the guest goes on", () => {
  for (const [args, what] of [
    [RUN, "write the serial output"],
    [[...RUN, "--json"], "write to stdout"],
  ] as const) {
    // true(1) ends without reading; the guest begins long after.
    const shell = '{ "$@"; echo "status $?" >&2; } | true';
    const { stderr } = bulkhead([...args], { shell });
    assert.match(stderr, `# cannot ${what}: ${GONE}`);
    assert.match(stderr, "status 0");
  }
});

test("a full disk under what is no guest is an error, and a reader that has enough is none", () => {
  const full = bulkhead(["inspect", "rng"], { shell: 'exec "$@" > /dev/full' });
  assert.is(full.stderr, "Error: Cannot write to stdout: ENOSPC, the file system is full\n");
  assert.is(full.status, EXIT.usage);
  const enough = bulkhead(["inspect", "rng"], {
    shell: '{ "$@"; echo "status $?" >&2; } | true',
  });
  assert.is(enough.stderr, "status 0\n");
});

/** Runs a guest that never ends on a terminal that hangs up when the guest is there. */
async function hangUp() {
  const { master, name } = freeTerminal();
  const slave = fs.openSync(name, fs.constants.O_RDWR | fs.constants.O_NOCTTY);
  const events = path.join(scratch, `hung-up-${master}`);
  const stdout = fs.openSync(events, "w");
  const args = [BULKHEAD, ...RUN, "-p", "exit=hang", "--json"];
  const child = spawn(process.execPath, args, { stdio: [slave, stdout, slave] });
  const ended = once(child, "exit");
  fs.closeSync(slave);
  fs.closeSync(stdout);
  while (!fs.readFileSync(events, "utf8").includes("hangs")) {
    assert.is(child.exitCode, null);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  fs.closeSync(master);
  return { pid: child.pid!, ended, events };
}

guestTest("a guest outlives a terminal that hangs up and is not the VMM's own", async () => {
  const { pid, ended, events } = await hangUp();
  // Time for whatever a hang-up may do; nothing is to be seen of it.
  await new Promise((resolve) => setTimeout(resolve, 500));
  process.kill(pid, "SIGTERM");
  assert.equal(await ended, [143, null]);
  const last = jsonLines(fs.readFileSync(events, "utf8")).at(-1);
  assert.is(last?.event, "guest-exit");
  assert.is(last?.detail, "SIGTERM");
});

guestTest("a terminal of the VMM's own that goes away ends the guest in order", async () => {
  const events = path.join(scratch, "own-terminal");
  const said = path.join(scratch, "own-said");
  const run = [process.execPath, BULKHEAD, ...RUN, "-p", "exit=hang", "--json"];
  const quoted = run.map((word) => `"${word}"`).join(" ");
  const command = `sh -c 'echo $$; exec ${quoted} > "${events}" 2> "${said}"'`;
  const child = spawn("script", ["-qfec", command, "/dev/null"], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, SHELL: "/bin/sh" },
  });
  const [first] = (await once(child.stdout, "data")) as [Buffer];
  const pid = Number(first.toString());
  const isThere = (text: string) =>
    fs.existsSync(events) && fs.readFileSync(events, "utf8").includes(text);
  while (!isThere("hangs")) await new Promise((resolve) => setTimeout(resolve, 10));
  child.kill("SIGKILL"); // it has the other end
  while (fs.existsSync(`/proc/${pid}`)) await new Promise((resolve) => setTimeout(resolve, 10));
  const last = jsonLines(fs.readFileSync(events, "utf8")).at(-1);
  assert.is(last?.event, "guest-exit");
  assert.is(last?.detail, "SIGHUP");
  assert.is(fs.readFileSync(said, "utf8"), "", "a crash at the end");
});

test.run();
