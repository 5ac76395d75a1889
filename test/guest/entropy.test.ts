// The entropy guest, under QEMU, which says that the guest is right, and under Bulkhead.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileGuest, findCompiler, guestPath } from "../../build/guest.js";
import { missing } from "../support/debian.js";
import { skip } from "../support/skip.js";

const MAIN = fileURLToPath(new URL("../../bundle/cli/main.js", import.meta.url));
const ELF = guestPath("entropy");
const LIMIT_MS = 60_000;
const GIB = 2 ** 30;
const PT_NOTE = 4;
const PT_NULL = 0;

const hasKvm = fs.existsSync("/dev/kvm");
const noQemu = missing("qemu-system-x86_64", "qemu-system-x86");

interface Run {
  status: number | null;
  output: string;
}

function run(program: string, args: string[]): Run {
  const { status, stdout, stderr } = spawnSync(program, args, {
    encoding: "utf8",
    timeout: LIMIT_MS,
    killSignal: "SIGKILL",
    stdio: ["ignore", "pipe", "pipe"],
  });
  return { status, output: stdout.replaceAll("\r", "") + stderr };
}

/** Runs the guest on QEMU microvm; `source` is the file that entropy comes from. */
function qemu(accel: "tcg" | "kvm", source = "/dev/urandom"): Run {
  // A software KVM has no IA32_ARCH_CAPABILITIES, which QEMU would insist on.
  const cpu = accel === "kvm" ? "host,-arch-capabilities" : "max";
  const args = [
    ["-M", "microvm,x-option-roms=off", "-accel", accel, "-cpu", cpu, "-m", "128"],
    ["-nodefaults", "-no-user-config", "-nographic", "-serial", "stdio", "-no-reboot"],
    ["-kernel", ELF, "-append", "mmio=0xfeb00000,512,24 exit=debug depth=8"],
    ["-global", "virtio-mmio.force-legacy=false", "-device", "isa-debug-exit,iobase=0x501"],
    ["-object", `rng-random,filename=${source},id=r`, "-device", "virtio-rng-device,rng=r"],
  ];
  return run("qemu-system-x86_64", args.flat());
}

function bulkhead(params: string, { elf = ELF, args = ["--rng"] } = {}): Run {
  return run(process.execPath, [MAIN, "run", elf, "-m", "128M", "-p", params, ...args]);
}

const PASSED = /^entropy guest: 1 passed, 0 failed: PASS$/m;

function withQemu(name: string, body: () => void): void {
  if (noQemu === undefined) test(name, body);
  else skip(`${name}: ${noQemu}`);
}

function withKvm(name: string, body: () => void): void {
  if (hasKvm) test(name, body);
  else skip(`${name}: no /dev/kvm, is the module kvm-intel or kvm-amd loaded?`);
}

withQemu("entropy guest passes on QEMU's rng device, through iretq", () => {
  const { status, output } = qemu("tcg");
  assert.match(output, PASSED);
  assert.is(status, 1);
});

withQemu("entropy guest fails when QEMU's rng device gives zeros", () => {
  const { status, output } = qemu("tcg", "/dev/zero");
  assert.match(output, /NOT RANDOM/);
  assert.is(status, 3);
});

if (hasKvm) {
  withQemu("entropy guest passes on QEMU's rng device under KVM", () => {
    const { status, output } = qemu("kvm");
    assert.match(output, PASSED);
    assert.is(status, 1);
  });
}

withKvm("entropy guest reads random bytes through Bulkhead, entered by PVH", () => {
  const { status, output } = bulkhead("");
  assert.match(output, /entered by PVH/);
  assert.match(output, /^rng0: 65536 bytes in \d+ requests, first [0-9a-f]{32}$/m);
  assert.match(output, PASSED);
  assert.is(status, 0);
});

withKvm("entropy guest passes over PCI, where its BAR is and where it moves it to", () => {
  for (const bar of ["", "bar=0xd8000000", "bar=0xdff00000"]) {
    const args = ["--rng", "--rng", "--transport", "pci"];
    const { status, output } = bulkhead(`depth=4 event_idx=1 ${bar}`, { args });
    assert.match(output, /^entropy guest: 2 passed, 0 failed: PASS$/m, output);
    assert.is(status, 0);
  }
});

withKvm("entropy guest reads other bytes each time", () => {
  const first = () => /first ([0-9a-f]{32})/.exec(bulkhead("bytes=64").output)?.[1];
  const [one, two] = [first(), first()];
  assert.ok(one);
  assert.is.not(one, two);
});

withKvm("entropy guest passes when entered in 64-bit mode", () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-guest-"));
  try {
    const elf = path.join(directory, "entropy64.elf");
    fs.writeFileSync(elf, withoutNote(fs.readFileSync(ELF)));
    const { status, output } = bulkhead("", { elf });
    assert.match(output, /entered by the 64-bit Linux entry/);
    assert.match(output, PASSED);
    assert.is(status, 0);
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
});

/** The ELF without its PVH note, so that the loader takes e_entry. */
function withoutNote(elf: Buffer): Buffer {
  const copy = Buffer.from(elf);
  const phoff = Number(copy.readBigUInt64LE(32));
  const [size, count] = [copy.readUInt16LE(54), copy.readUInt16LE(56)];
  for (let at = phoff; at < phoff + size * count; at += size) {
    if (copy.readUInt32LE(at) === PT_NOTE) copy.writeUInt32LE(PT_NULL, at);
  }
  return copy;
}

withKvm("entropy guest passes with many chains in flight, direct and indirect", () => {
  for (const params of [
    "depth=64 request=1000",
    "depth=16 request=3000 segments=3 indirect=0",
    "depth=16 request=3000 segments=3 indirect=0 event_idx=0",
    "depth=1 request=65536 bytes=1000000 segments=60",
  ]) {
    const { status, output } = bulkhead(params);
    assert.match(output, PASSED, params);
    assert.is(status, 0, params);
  }
});

// RAM goes on at 4 GiB; a page before 5 GiB, where the VMM sees it through another window. Only the
// pages that the guest touches are taken from this machine.
if (os.totalmem() < 6 * GIB) skip("rings and buffers above 4 GiB: this machine has less than 6");
else {
  withKvm("entropy guest passes with rings and buffers above 4 GiB", () => {
    for (const heap of ["0x100000000", "0x13ffff000", "0x13fffe000", "0x1a0000000"]) {
      for (const transport of ["mmio", "pci"]) {
        const args = ["-m", "6G", "--rng", "--transport", transport];
        const params = `depth=16 request=9000 segments=3 bytes=300000 heap=${heap}`;
        const { status, output } = bulkhead(params, { args });
        assert.match(output, PASSED, `${transport}: ${output}`);
        assert.is(status, 0);
      }
    }
  });
}

withKvm("entropy guest passes on an inline device", () => {
  const { status, output } = bulkhead("", { args: ["--rng", "--isolation", "inline"] });
  assert.match(output, PASSED);
  assert.is(status, 0);
});

withKvm("entropy guest finds every rng device", () => {
  const { status, output } = bulkhead("", { args: ["--rng", "--device", "rng"] });
  assert.match(output, /^rng1: .* looks random$/m);
  assert.match(output, /2 passed, 0 failed: PASS/);
  assert.is(status, 0);
});

withKvm("entropy guest reads from 32 devices, each a process, over mmio and over PCI", () => {
  const args = Array.from({ length: 32 }, () => "--rng");
  for (const options of [["mmio"], ["pci"], ["pci", "bar=0xdff00000"]]) {
    const [transport, bar = ""] = options;
    const all = [...args, "--transport", transport!];
    const { status, output } = bulkhead(`bytes=4096 depth=2 ${bar}`, { args: all });
    const bytes = [...output.matchAll(/^rng(\d+): 4096 bytes .* first ([0-9a-f]{32})$/gm)];
    assert.equal(
      bytes.map(([, number]) => Number(number)),
      args.map((_, index) => index),
      output,
    );
    assert.is(new Set(bytes.map(([, , first]) => first)).size, 32);
    const pids = [...output.matchAll(/^# rng\d+: .* process (\d+):/gm)];
    assert.is(new Set(pids.map(([, pid]) => pid)).size, 32, output);
    assert.match(output, /^entropy guest: 32 passed, 0 failed: PASS$/m);
    assert.is(status, 0);
  }
});

withKvm("entropy guest fails when the granted file gives zeros", () => {
  const { status, output } = bulkhead("exit=debug", {
    args: ["--device", "rng,source=/dev/zero", "--debug-exit"],
  });
  assert.match(output, /NOT RANDOM/);
  assert.is(status, 3);
});

withKvm("entropy guest leaves by power-off, reset, debug exit and triple fault", () => {
  const args = ["--rng", "--debug-exit"];
  const statusOf = (way: string) => bulkhead(`bytes=64 exit=${way}`, { args }).status;
  assert.is(statusOf("poweroff"), 0);
  assert.is(statusOf("reset"), 0);
  assert.is(statusOf("debug"), 1);
  assert.is(statusOf("triplefault"), 4);
});

withKvm("entropy guest names the exception that ends it", () => {
  const { status, output } = bulkhead("bytes=64 exit=exception");
  assert.match(output, /^guest: exception 14 at 0x1[0-9a-f]{5}, error 0x6, cr2 0x10000000000$/m);
  assert.is(status, 4);
});

withKvm("entropy guest measures", () => {
  const { output } = bulkhead("bench count=200 depth=4 request=512");
  assert.match(output, /^rng0: bench depth 4 request 512 .* 102400 bytes in \d+ ns, \d+ kB\/s/m);
});

/** What the guest said, with what differs from run to run replaced. */
function normalised(output: string): string {
  return output
    .replaceAll(/^# .*\n/gm, "")
    .replace(/first [0-9a-f]+/, "first …")
    .replace(/\d+ of \d+ bits set, chi-square \d+/, "…");
}

if (findCompiler() === undefined) {
  skip("entropy guest, rebuilt: no C compiler, run: apt-get install gcc libc6-dev");
} else {
  withKvm("entropy guest, rebuilt, behaves as the committed one", () => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-guest-"));
    try {
      const elf = path.join(directory, "entropy.elf");
      compileGuest("entropy", elf);
      const rebuilt = bulkhead("depth=4", { elf });
      const committed = bulkhead("depth=4");
      assert.match(rebuilt.output, PASSED);
      assert.is(normalised(rebuilt.output), normalised(committed.output));
      assert.is(rebuilt.status, committed.status);
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  });
}

test.run();
