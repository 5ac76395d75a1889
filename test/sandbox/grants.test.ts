// Ask, then grant; and what one row of the table becomes.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { VmmError } from "../../host/errors.js";
import { fcntl } from "../../host/ffi/libc.js";
import {
  formsOf,
  GRANT_KIND_NAMES,
  kindRow,
  rightsOf,
  rightsOfWord,
  wordOfRights,
} from "../../host/sandbox/grant-kinds.js";
import {
  closeGrants,
  openFlagsOf,
  openGrants,
  rewindGrants,
} from "../../host/sandbox/grant-open.js";
import {
  checkImports,
  fdsOf,
  type GrantSpec,
  importsOf,
  NO_FD,
  placeGrants,
  type ResolvedGrant,
  resolveGrants,
  wasiFdOf,
} from "../../host/sandbox/grants.js";
import {
  type Capability,
  CONTRACT,
  type Manifest,
  type Right,
} from "../../host/sandbox/manifest.js";
import { skip } from "../support/skip.js";
import { arpRequest, newTap, untilAnswered, whyNoTap } from "../support/tap.js";
import { freeTerminal } from "../support/terminal.js";
import { temporaryFile } from "./support.js";

const F_GETFL = 3;
/** Long after a start that does not wait is over. */
const RESCUE_SECONDS = 20;

function capability(name: string, changes: Partial<Capability> = {}): Capability {
  return { name, kind: "file", rights: ["read"], required: true, ...changes };
}

function asking(...capabilities: Capability[]): Manifest {
  return {
    contract: CONTRACT,
    name: "disk",
    virtioId: 2,
    queues: [64],
    features: "0x0",
    config: 0,
    capabilities,
    options: [],
  };
}

function file(what: string, ...rights: Right[]): GrantSpec {
  return { kind: "file", what, rights };
}

function refused(code: string, pattern: RegExp, action: () => unknown): void {
  assert.throws(action, (error: unknown) => {
    assert.instance(error, VmmError);
    assert.is((error as VmmError).code, code);
    assert.match((error as VmmError).message, pattern);
    return true;
  });
}

test("resolveGrants() returns what was asked for and given, in the order of the manifest", () => {
  const manifest = asking(capability("a"), capability("b"));
  const given = { b: file("/b", "read"), a: file("/a", "read") };
  assert.equal(
    resolveGrants(manifest, given).map(({ name, what }) => [name, what]),
    [
      ["a", "/a"],
      ["b", "/b"],
    ],
  );
});

test("resolveGrants() refuses a missing grant by name, unless it is optional", () => {
  const missing = () => resolveGrants(asking(capability("image")), {});
  refused("ERR_GRANT", /device disk: image is missing/, missing);
  assert.equal(resolveGrants(asking(capability("image", { required: false })), {}), []);
});

test("resolveGrants() refuses a grant that was not asked for", () => {
  const manifest = asking(capability("image"));
  const given = { image: file("/a", "read"), secret: file("/b", "read") };
  refused("ERR_GRANT", /grant secret .* asks for image/, () => resolveGrants(manifest, given));
});

test("resolveGrants() refuses rights that were not asked for, and a grant without rights", () => {
  const manifest = asking(capability("image"));
  const more = () => resolveGrants(manifest, { image: file("/a", "read", "write") });
  refused("ERR_GRANT", /image with write: the device asks for read/, more);
  refused("ERR_GRANT", /image: without any right/, () =>
    resolveGrants(manifest, { image: file("/a") }),
  );
});

test("resolveGrants() refuses another kind than was asked for", () => {
  const manifest = asking(capability("image"));
  const dir = { ...file("/a", "read"), kind: "dir" as GrantSpec["kind"] };
  refused("ERR_GRANT", /image=dir:\/a: the device asks for file/, () =>
    resolveGrants(manifest, { image: dir }),
  );
});

test("resolveGrants() gives fewer rights than were asked for", () => {
  const manifest = asking(capability("image", { rights: ["read", "write"] }));
  const [grant] = resolveGrants(manifest, { image: file("/a", "read") });
  assert.equal(grant?.rights, ["read"]);
});

test("resolveGrants() is not confused by names of Object.prototype", () => {
  const manifest = asking(capability("constructor", { required: false }));
  assert.equal(resolveGrants(manifest, {}), []);
});

test("one row gives the access mode and the functions that link", () => {
  const { O_RDONLY, O_WRONLY, O_RDWR, O_APPEND } = fs.constants;
  assert.is(openFlagsOf(["read"]), O_RDONLY);
  assert.is(openFlagsOf(["write"]), O_WRONLY);
  assert.is(openFlagsOf(["read", "write"]), O_RDWR);
  assert.is(openFlagsOf(["append"]), O_WRONLY | O_APPEND);
  assert.is(openFlagsOf(["read", "append"]), O_RDWR | O_APPEND);
  assert.equal(importsOf("file", ["read"]), ["fd_read", "fd_pread", "fd_filestat_get"]);
  const appended = ["fd_write", "fd_filestat_get", "fd_datasync", "fd_sync"];
  assert.equal(importsOf("file", ["append"]), appended);
  assert.equal(
    importsOf("file", ["write"]).filter((name) => !appended.includes(name)),
    ["fd_pwrite", "fd_filestat_set_size"],
  );
});

for (const kind of GRANT_KIND_NAMES) {
  test(`each word of ${kind} stands for rights of its own, and each right has a word`, () => {
    const { words } = kindRow(kind);
    const meant = Object.values(words).map((rights) => [...rights].sort().join());
    assert.is(new Set(meant).size, meant.length);
    assert.equal(new Set(Object.values(words).flat()), new Set(rightsOf(kind)));
    assert.is(new Set(formsOf(kind)).size % meant.length, 0);
    assert.equal(rightsOfWord(kind), [...Object.values(words)[0]!]);
    for (const [word, rights] of Object.entries(words)) assert.is(wordOfRights(kind, rights), word);
  });
}

test("wasiFdOf() numbers capabilities from 3, granted or not", () => {
  const manifest = asking(capability("a", { required: false }), capability("b"));
  assert.is(wasiFdOf(manifest, "b"), 4);
  assert.is(wasiFdOf(manifest, "c"), -1);
});

test("checkImports() refuses a function that no capability links", () => {
  const manifest = asking(capability("image"));
  const facts = (module: string, name: string) => ({
    manifest,
    imports: [{ module, name }],
    exports: [],
  });
  checkImports(facts("wasi_snapshot_preview1", "fd_read"));
  for (const [module, name] of [
    ["wasi_snapshot_preview1", "fd_pwrite"],
    ["wasi_snapshot_preview1", "path_open"],
    ["env", "fd_read"],
  ] as const) {
    const check = () => checkImports(facts(module, name));
    refused("ERR_MODULE", new RegExp(`imports ${module}.${name}`), check);
  }
});

test("openGrants() opens no more than the rights say", () => {
  const what = temporaryFile("data", "content");
  const [readable] = openGrants([{ name: "a", ...file(what, "read") }]);
  assert.is(fs.readSync(readable!.fd, Buffer.alloc(7)), 7);
  assert.throws(() => fs.writeSync(readable!.fd, "x"), /EBADF/);
  fs.closeSync(readable!.fd);
  const [writable] = openGrants([{ name: "a", ...file(what, "write") }]);
  assert.throws(() => fs.readSync(writable!.fd, Buffer.alloc(1)), /EBADF/);
  fs.closeSync(writable!.fd);
});

test("openGrants() lets append write at the end of a file and nowhere else", () => {
  const what = temporaryFile("data", "content");
  const [{ fd } = { fd: -1 }] = openGrants([{ name: "a", ...file(what, "append") }]);
  fs.writeSync(fd, "!", 0);
  assert.throws(() => fs.readSync(fd, Buffer.alloc(1)), /EBADF/);
  fs.closeSync(fd);
  assert.is(fs.readFileSync(what, "utf8"), "content!");
});

test("openGrants() opens a directory, and only one that the device will have a right to", () => {
  const what = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-dir-"));
  const grant = (...rights: Right[]): ResolvedGrant => ({ name: "d", kind: "dir", what, rights });
  const file = { ...grant("read"), what: "/etc/passwd" };
  refused("ERR_GRANT", /d=dir:.*passwd: ENOTDIR/, () => openGrants([file]));
  if (process.geteuid?.() !== 0) return fs.rmdirSync(what);
  for (const [mode, reads, writes] of [
    [0o700, false, false],
    [0o755, true, false],
    [0o777, true, true],
  ] as const) {
    fs.chmodSync(what, mode);
    for (const [rights, isRight] of [
      [["read"], reads],
      [["read", "write"], writes],
    ] as const) {
      const open = () => closeGrants(openGrants([grant(...rights)]));
      if (isRight) open();
      else refused("ERR_GRANT", /nobody there, who has no right to it; chown nobody/, open);
    }
  }
  fs.rmdirSync(what);
});

test("openGrants() gives random bytes of the kernel for random:urandom", () => {
  const grant = { name: "a", kind: "random" as const, what: "urandom", rights: ["read" as const] };
  const [{ fd } = { fd: -1 }] = openGrants([grant]);
  assert.is(fs.readlinkSync(`/proc/self/fd/${fd}`), "/dev/urandom");
  assert.throws(() => fs.writeSync(fd, "x"), /EBADF/);
  fs.closeSync(fd);
});

test("openGrants() closes everything again when one cannot be opened, and names that one", () => {
  const open = () => fs.readdirSync("/proc/self/fd").length;
  const what = temporaryFile("data", "content");
  const before = open();
  const grants = [
    { name: "good", ...file(what, "read") },
    { name: "bad", ...file("/nonexistent", "read") },
  ];
  refused("ERR_GRANT", /bad=file:\/nonexistent: ENOENT/, () => openGrants(grants));
  assert.is(open(), before);
});

test("openGrants() gives a descriptor that waits, as read(2) of a device is expected to", () => {
  const what = temporaryFile("data", "content");
  const [{ fd } = { fd: -1 }] = openGrants([{ name: "a", ...file(what, "read") }]);
  assert.is(fcntl(fd, F_GETFL, 0) & fs.constants.O_NONBLOCK, 0);
  fs.closeSync(fd);
});

test("openGrants() refuses a directory", () => {
  const grants = [{ name: "image", ...file("/tmp", "read") }];
  refused("ERR_GRANT", /neither a file nor a device/, () => openGrants(grants));
});

test("rewindGrants() lets the next instance read from the start", () => {
  const what = temporaryFile("data", "entropy");
  const [granted] = openGrants([{ name: "data", kind: "file", what, rights: ["read"] }]);
  const buffer = Buffer.alloc(3);
  const next = () => buffer.toString("latin1", 0, fs.readSync(granted!.fd, buffer));
  assert.equal([next(), next()], ["ent", "rop"]);
  rewindGrants([granted!]);
  assert.is(next(), "ent");
  fs.closeSync(granted!.fd);
});

test("openGrants() refuses a FIFO, and does not wait for somebody to write to it", async () => {
  const what = `${temporaryFile("data", "")}.fifo`;
  execFileSync("mkfifo", [what]);
  // Whoever waits is freed in the end, and finds that somebody came.
  const script = `sleep ${RESCUE_SECONDS}; exec > "$0"; : > "$0.came"`;
  const writer = spawn("sh", ["-c", script, what], { stdio: "ignore" });
  const grants = [{ name: "image", ...file(what, "read") }];
  refused("ERR_GRANT", /neither a file nor a device/, () => openGrants(grants));
  assert.is(writer.kill("SIGKILL"), true);
  await once(writer, "exit");
  assert.is(writer.signalCode, "SIGKILL", "it waited for a writer");
});

test("openGrants() gives a VMM that leads a session no controlling terminal", async () => {
  const { master, name } = freeTerminal();
  const opener = new URL("../../host/sandbox/grant-open.js", import.meta.url);
  const program = `import { readFileSync } from "node:fs";
    import { openGrants } from ${JSON.stringify(opener)};
    openGrants([{ name: "tty", kind: "file", what: ${JSON.stringify(name)}, rights: ["read"] }]);
    const [, , , , terminal] = readFileSync("/proc/self/stat", "latin1").split(") ")[1].split(" ");
    console.log("terminal", terminal);`;
  const node = spawn(process.execPath, ["--input-type=module", "-e", program], { detached: true });
  const [said] = (await once(node.stdout, "data")) as [Buffer];
  assert.is(said.toString(), "terminal 0\n");
  fs.closeSync(master);
});

const monotonic: GrantSpec = { kind: "clock", what: "monotonic", rights: ["read"] };
const now = capability("now", { kind: "clock" });

test("resolveGrants() refuses a clock that does not exist, and shows those that do", () => {
  const sundial = () => resolveGrants(asking(now), { now: { ...monotonic, what: "sundial" } });
  refused("ERR_GRANT", /now=clock:sundial: .* try clock:monotonic or clock:realtime/, sundial);
  const missing = () => resolveGrants(asking(now), {});
  refused("ERR_GRANT", /try --grant ID\.now=clock:monotonic$/, missing);
});

test("a clock has no descriptor, and leaves no gap among those that have one", () => {
  const what = temporaryFile("data", "content");
  const data = file(what, "read");
  const granted = openGrants([
    { name: "a", ...data },
    { name: "now", ...monotonic },
    { name: "b", ...data },
  ]);
  assert.is(granted[1]?.fd, NO_FD);
  assert.is(granted[1]?.clock, "monotonic");
  assert.equal(
    placeGrants(granted, 5).map(({ fd }) => fd),
    [5, NO_FD, 6],
  );
  rewindGrants(granted);
  for (const fd of fdsOf(granted)) fs.closeSync(fd);
});

test("openGrants() opens a terminal for what was granted, and does not wait for keys", () => {
  const { master, name } = freeTerminal();
  const tty = (...rights: Right[]) => openGrants([{ name: "a", kind: "tty", what: name, rights }]);
  const [both] = tty("read", "write");
  assert.throws(() => fs.readSync(both!.fd, Buffer.alloc(9)), /EAGAIN/);
  fs.writeSync(master, "hello\n");
  const buffer = Buffer.alloc(9);
  assert.is(buffer.toString("latin1", 0, fs.readSync(both!.fd, buffer)), "hello\n");
  const [reader] = tty("read");
  assert.throws(() => fs.writeSync(reader!.fd, "x"), /EBADF/);
  const [writer] = tty("write");
  assert.throws(() => fs.readSync(writer!.fd, Buffer.alloc(1)), /EBADF/);
  closeGrants([both!, reader!, writer!]);
  fs.closeSync(master);
});

test("openGrants() refuses a terminal that is none", () => {
  for (const what of ["/dev/null", temporaryFile("data", "content")]) {
    const grant = { name: "a", kind: "tty" as const, what, rights: ["read" as const] };
    refused("ERR_GRANT", /a=tty:.*: it is no terminal$/, () => openGrants([grant]));
  }
});

function tap(what: string): ResolvedGrant {
  return { name: "net", kind: "tap", what, rights: ["read", "write"] };
}

test("openGrants() makes no interface, and says how the user does", () => {
  const hint =
    /net=tap:nowhere0: there is no such interface\n.*ip tuntap add dev nowhere0 mode tap/;
  refused("ERR_GRANT", hint, () => openGrants([tap("nowhere0")]));
});

/** All frames that wait at a tap. */
function framesOf(fd: number): Uint8Array[] {
  const frames: Uint8Array[] = [];
  const frame = Buffer.alloc(2000);
  try {
    for (;;) frames.push(Uint8Array.from(frame.subarray(0, fs.readSync(fd, frame))));
  } catch (error) {
    assert.is((error as NodeJS.ErrnoException).code, "EAGAIN");
  }
  return frames;
}

test("openGrants() takes a tap, of which one read is one frame, and no other has it", async () => {
  const reason = whyNoTap();
  if (reason !== undefined) return skip(reason);
  const name = newTap();
  const [granted] = openGrants([tap(name)]);
  const ask = () => assert.is(fs.writeSync(granted!.fd, arpRequest()), 42);
  const answer = await untilAnswered(ask, () => framesOf(granted!.fd));
  assert.is(answer?.length, 42);
  refused("ERR_GRANT", /TUNSETIFF: EBUSY, another program has it/, () => openGrants([tap(name)]));
  closeGrants([granted!]);
  const none = () => openGrants([tap("lo")]);
  refused("ERR_GRANT", /tap:lo: TUNSETIFF: EINVAL, it is no tap/, none);
});

test.run();
