// What a user is told about each mistake, and with which exit status, by the real command line.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { EXIT } from "../../host/errors.js";
import { bulkhead, ENTROPY_GUEST, jsonLines, whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";

const scratch = mkdtempSync(path.join(os.tmpdir(), "bulkhead-errors-"));
test.after(() => rmSync(scratch, { recursive: true }));

interface Mistake {
  name: string;
  args: string[];
  status: number;
  stderr: RegExp;
}

const GUEST = ENTROPY_GUEST;

const MISTAKES: Mistake[] = [
  {
    name: "a command that does not exist",
    args: ["rnu"],
    status: EXIT.usage,
    stderr: /^Error: Cannot parse the command line: unknown command 'rnu'\n {2}did you mean run\?/,
  },
  {
    name: "an option that does not exist",
    args: ["run", GUEST, "--ballon"],
    status: EXIT.usage,
    stderr: /^Error: .*unknown option '--ballon'\n {2}see: bulkhead run --help/,
  },
  {
    name: "an option without its value",
    args: ["run", "-k"],
    status: EXIT.usage,
    stderr:
      /^Error: .*option '-k, --kernel <kernel>' argument missing\n {2}see: bulkhead run --help/,
  },
  {
    name: "no kernel",
    args: ["run"],
    status: EXIT.usage,
    stderr: /^Error: Cannot run a guest: no kernel is named\n {2}name an ELF or bzImage file/,
  },
  {
    name: "a kernel that is missing",
    args: ["run", "/nowhere/vmlinux"],
    status: EXIT.usage,
    stderr: /^Error: Cannot open kernel "\/nowhere\/vmlinux": ENOENT, there is no such file\n/,
  },
  {
    name: "a kernel that is a directory",
    args: ["run", "/"],
    status: EXIT.usage,
    stderr: /^Error: Cannot open kernel "\/": EISDIR, it is a directory\n/,
  },
  {
    name: "an initrd that is missing",
    args: ["run", GUEST, "-i", "/nowhere/initrd"],
    status: EXIT.usage,
    stderr: /^Error: Cannot open initrd "\/nowhere\/initrd": ENOENT/,
  },
  {
    name: "a memory size that is none",
    args: ["run", GUEST, "-m", "lots"],
    status: EXIT.usage,
    stderr: /^Error: Cannot use memory size "lots": .*\n {2}write it as in -m 512M or -m 1G/,
  },
  {
    name: "too little memory",
    args: ["run", GUEST, "-m", "4M"],
    status: EXIT.usage,
    stderr: /^Error: Cannot use memory size "4M": too little\n {2}a guest has from 16M to 1T/,
  },
  {
    name: "a CPU count out of range",
    args: ["run", GUEST, "-c", "0"],
    status: EXIT.usage,
    stderr: /^Error: Cannot use CPU count "0": out of range\n {2}a guest has from 1 to \d+ CPUs/,
  },
  {
    name: "a device that does not exist",
    args: ["run", GUEST, "--device", "rgn"],
    status: EXIT.usage,
    stderr: /^Error: Cannot find device "rgn": no such kind, did you mean "rng"\?/,
  },
  {
    name: "a malformed --device",
    args: ["run", GUEST, "--device", "rng,sorce=/dev/urandom"],
    status: EXIT.usage,
    stderr:
      /^Error: Cannot parse --device "rng,sorce=.*": unknown key "sorce", did you mean "source"/,
  },
  {
    name: "a malformed --grant",
    args: ["run", GUEST, "--rng", "--grant", "rng0:source"],
    status: EXIT.usage,
    stderr: /^Error: Cannot parse --grant "rng0:source": it is not ID\.NAME=KIND:WHAT\[:RIGHTS\]/,
  },
  {
    name: "a grant that is missing",
    args: ["policy", new URL("../../devices/examples/mixer.wasm", import.meta.url).pathname],
    status: EXIT.usage,
    stderr:
      /^Error: Cannot start device mixer: one is missing, try --grant mixer0\.one=file:PATH:ro/,
  },
  {
    name: "a grant to a device that is not there",
    args: ["run", GUEST, "--rng", "--grant", "rng1.source=file:/dev/urandom"],
    status: EXIT.usage,
    stderr: /^Error: Cannot grant rng1\.source: no device "rng1", did you mean "rng0"\?/,
  },
  {
    name: "a source that is missing",
    args: ["run", GUEST, "--device", "rng,source=/nowhere/entropy"],
    status: EXIT.usage,
    stderr: /^Error: Cannot grant rng0\.source "\/nowhere\/entropy": ENOENT, there is no such file/,
  },
  {
    name: "a grant that the device does not ask for",
    args: ["policy", "rng", "--grant", "rng0.disk=file:/dev/null"],
    status: EXIT.usage,
    stderr: /^Error: Cannot grant disk to device rng: it asks for source\n {2}.*bulkhead inspect/,
  },
  {
    name: "more rights than the device asks for",
    args: ["policy", "rng", "--grant", "rng0.source=file:/dev/null:rw"],
    status: EXIT.usage,
    stderr: /^Error: Cannot grant source with write: the device asks for read/,
  },
  {
    name: "a module that is missing",
    args: ["inspect", "./nowhere.wasm"],
    status: EXIT.usage,
    stderr: /^Error: Cannot open the module of \.\/nowhere\.wasm .*: ENOENT/,
  },
  {
    name: "a module that is none",
    args: ["inspect", "/etc/passwd"],
    status: EXIT.usage,
    stderr: /^Error: Cannot use this module: /,
  },
  {
    name: "more memory than this machine has",
    args: ["run", GUEST, "-m", "900G"],
    status: EXIT.usage,
    stderr: /^Error: Cannot give a guest 900G of memory: this machine has \d+M, .*see -m/,
  },
  {
    name: "9999 CPUs",
    args: ["run", GUEST, "-c", "9999"],
    status: EXIT.usage,
    stderr: /^Error: Cannot use CPU count "9999": out of range\n {2}.*from 1 to 254/,
  },
  {
    name: "a transport that does not exist",
    args: ["run", GUEST, "--transport", "isa"],
    status: EXIT.usage,
    stderr: /^Error: .*--transport "isa".*none of mmio, pci/,
  },
  {
    name: "a serial file that cannot be written",
    args: ["run", GUEST, "--serial", "/nowhere/serial.log"],
    status: EXIT.usage,
    stderr: /^Error: Cannot write the serial output to "\/nowhere\/serial\.log": ENOENT/,
  },
];

for (const { name, args, status, stderr } of MISTAKES) {
  test(`bulkhead explains ${name}`, () => {
    const result = bulkhead(args);
    assert.match(result.stderr, stderr);
    assert.is(result.status, status);
    assert.is(result.stdout, "");
  });
}

test("bulkhead explains that a debugger needs a VMM without its filter", () => {
  const launcher = ["env", "NODE_OPTIONS=--inspect=127.0.0.1:0"];
  const nowhere = ["run", "/nowhere/vmlinux"];
  for (const args of [nowhere, [...nowhere, "--isolation", "inline"], ["demo"]]) {
    const { status, stderr, stdout } = bulkhead(args, { launcher });
    const refusal =
      /^Error: Cannot run with --seccomp enforce and Node's inspector at 127\.0\.0\.1:\d+: /m;
    assert.match(stderr, refusal);
    assert.match(stderr, /^ {2}add --seccomp off, or leave --inspect out/m);
    assert.is(status, EXIT.usage);
    assert.is(stdout, "");
  }
  for (const mode of ["log", "off"]) {
    const { stderr } = bulkhead([...nowhere, "--seccomp", mode], { launcher });
    assert.match(stderr, /^Error: Cannot open kernel "\/nowhere\/vmlinux": ENOENT/m);
  }
});

test("bulkhead --json reports an error as an event as well", () => {
  const result = bulkhead(["run", "/nowhere/vmlinux", "--json"]);
  assert.is(result.status, EXIT.usage);
  const [event] = jsonLines(result.stdout);
  assert.is(event?.event, "error");
  assert.is(event?.code, "ERR_FILE");
  assert.is(event?.exitStatus, EXIT.usage);
  assert.type(event?.time, "number");
});

test("bulkhead escapes control characters in what it quotes", () => {
  const { stderr } = bulkhead(["run", "/nowhere/\x1b]0;owned\x07"]);
  assert.match(stderr, "\\x1b]0;owned\\x07");
  assert.not.match(stderr, "\x1b");
});

/** An ELF64 kernel of nothing but its header that wants `memoryBytes` of memory from 1 MiB on. */
function kernelWanting(memoryBytes: number): Uint8Array {
  const image = new DataView(new ArrayBuffer(120));
  image.setUint32(0, 0x7f454c46);
  new Uint8Array(image.buffer, 4).set([2, 1, 1]); // 64 bits, little-endian, version 1
  image.setUint16(16, 2, true); // ET_EXEC
  image.setUint16(18, 62, true); // EM_X86_64
  image.setUint32(20, 1, true);
  image.setBigUint64(24, 0x100000n, true); // e_entry
  image.setBigUint64(32, 64n, true); // e_phoff
  image.setUint16(52, 64, true); // e_ehsize
  image.setUint16(54, 56, true); // e_phentsize
  image.setUint16(56, 1, true); // e_phnum
  image.setUint32(64, 1, true); // PT_LOAD
  image.setUint32(68, 7, true);
  image.setBigUint64(80, 0x100000n, true); // p_vaddr
  image.setBigUint64(88, 0x100000n, true); // p_paddr
  image.setBigUint64(96, 120n, true); // p_filesz
  image.setBigUint64(104, BigInt(memoryBytes), true); // p_memsz
  return new Uint8Array(image.buffer);
}

test("bulkhead explains a kernel that needs more memory than the guest has", () => {
  const reason = whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const kernel = path.join(scratch, "large.elf");
  writeFileSync(kernel, kernelWanting(64 * 1024 ** 2));
  const { status, stderr } = bulkhead(["run", kernel, "-m", "32M"]);
  assert.match(stderr, /^Error: Cannot place kernel .*enough memory\?\n {2}give .* -m 1G\n$/);
  assert.is(status, EXIT.usage);
});

for (const isolation of ["process", "inline"]) {
  test(`bulkhead tells a device that refuses its option from a sandbox, ${isolation}`, () => {
    const reason = whyNoKvm();
    if (reason !== undefined) return skip(reason);
    const module = new URL("../../devices/examples/ramdisk.wasm", import.meta.url).pathname;
    const device = ["--device", `${module},size=13M`, "--isolation", isolation];
    const { status, stderr } = bulkhead(["run", GUEST, ...device]);
    assert.match(stderr, /ramdisk0: device says: .*size: at most 12/);
    assert.match(
      stderr,
      /^Error: Device ramdisk0 ended before it was ready: .*start: unreachable/m,
    );
    assert.match(stderr, /^ {2}its code ended itself: the lines above may say why/m);
    assert.is(status, EXIT.deviceFailed);
  });
}

test("bulkhead explains a file that is no kernel", () => {
  const reason = whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const { status, stderr } = bulkhead(["run", "/etc/passwd"]);
  assert.match(stderr, /^Error: Cannot load .*: .*neither ELF64 nor bzImage.*\n {2}a kernel is/);
  assert.is(status, EXIT.usage);
});

/** An empty /dev in a mount namespace of our own, prepared by `script`. */
function inOwnDev(script: string, args: string[]) {
  const launcher = ["unshare", "--mount", ...(process.getuid?.() === 0 ? [] : ["-Ur"])];
  const shell = `exec 3<>/dev/null; mount -t tmpfs tmpfs /dev; ${script}; exec "$@"`;
  return bulkhead(args, { shell, launcher });
}

function whyNoMount(): string | undefined {
  const root = process.getuid?.() === 0;
  const command = ["--mount", ...(root ? [] : ["-Ur"]), "mount", "-t", "tmpfs", "tmpfs", "/dev"];
  if (spawnSync("unshare", command).status === 0) return undefined;
  return "no mount namespace can be had here: run as root, or allow user namespaces";
}

test("bulkhead explains that /dev/kvm is missing, and how to get it", () => {
  const reason = whyNoMount();
  if (reason !== undefined) return skip(reason);
  for (const args of [["run", GUEST], ["demo"]]) {
    const { status, stderr } = inOwnDev(": > /dev/null; : > /dev/urandom", args);
    assert.match(stderr, /^Error: Cannot open "\/dev\/kvm": ENOENT, .*\n {2}.*modprobe kvm-intel/);
    assert.is(status, EXIT.kvmUnavailable);
  }
});

test("bulkhead explains that this user may not open /dev/kvm", () => {
  const reason = process.getuid?.() === 0 ? whyNoMount() : "only root can become another user";
  if (reason !== undefined) return skip(reason);
  const shell = ": > /dev/null; : > /dev/urandom; : > /dev/kvm; chmod 600 /dev/kvm";
  const nobody = "exec setpriv --reuid 65534 --regid 65534 --clear-groups";
  const { status, stderr } = inOwnDev(`${shell}; ${nobody} "$@"`, ["run", GUEST]);
  assert.match(stderr, /^Error: Cannot open "\/dev\/kvm": EACCES, .*kvm.*\n {2}.*usermod/);
  assert.is(status, EXIT.kvmUnavailable);
});

test("bulkhead explains a /dev/kvm that is no KVM", () => {
  const reason = whyNoMount();
  if (reason !== undefined) return skip(reason);
  const shell =
    ": > /dev/null; : > /dev/urandom; : > /dev/kvm; mount --bind /proc/self/fd/3 /dev/kvm";
  const { status, stderr } = inOwnDev(shell, ["run", GUEST]);
  assert.match(stderr, /^Error: Cannot use "\/dev\/kvm": .*is it KVM\?/);
  assert.is(status, EXIT.kvmUnavailable);
});

test.run();
