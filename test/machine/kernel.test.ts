// Debian's unmodified kernel as a guest: its own virtio drivers against our devices, with
// interrupts.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { note, skip } from "../support/skip.js";
import {
  bulkhead,
  emulationWanted,
  type Job,
  type JobResult,
  machineUnavailable,
  type Place,
  runInMachine,
} from "./machine.js";
import { withoutSigns } from "./tries.js";

/**
 * A guest reads 64 bytes at a time, so a MiB is 16,384 requests and interrupts. On an emulated host
 * that is a minute and a half when the machine is busy, and its faults come by the interrupt.
 */
const SAMPLE_BYTES = emulationWanted() ? 256 * 1024 : 1024 * 1024;

/** Between a guest's clock and this machine's: an emulated host runs for minutes in between. */
const CLOCK_MS_MAX = 1_200_000;

/** A guest that oopses reboots at once, instead of staying there until its time is over. */
const PARAMETERS = `console=ttyS0 quiet oops=panic panic=-1 test.bytes=${SAMPLE_BYTES}`;

/** Whether the guest read something else than that many random bytes. */
function isWrong(output: string): boolean {
  const read = /^guest: read (\d+) bytes/m.exec(output);
  const gzipped = /^guest: gzipped (\d+) bytes/m.exec(output);
  if (read !== null && Number(read[1]) !== SAMPLE_BYTES) return true;
  return gzipped !== null && Number(gzipped[1]) <= SAMPLE_BYTES;
}

/** What a guest is run with besides, and the kind of interrupt that its devices have then. */
const WAYS = {
  msix: { args: ["-p", PARAMETERS], interrupt: /PCI-MSI.*virtio0/ },
  intx: { args: ["-p", `${PARAMETERS} pci=nomsi`], interrupt: /IO-APIC.*fasteoi.*virtio0/ },
  mmio: {
    args: ["-p", PARAMETERS, "--transport", "mmio", "--isolation", "inline"],
    interrupt: /IO-APIC.*edge.*virtio0/,
  },
};
type Way = keyof typeof WAYS;

function stockKernel(way: Way): Job {
  const args = ({ kernel, initrd }: Place) => [
    ...["run", "-k", kernel, "-i", initrd, "-m", "256M", "-c", "2", "--rng", ...WAYS[way].args],
  ];
  return { ...bulkhead(args), isWrong };
}

/** What the guest says of itself, as guest-init.sh prints it. */
function guestLines({ output }: JobResult): string[] {
  return withoutSigns(output)
    .replaceAll("\r", "")
    .split("\n")
    .filter((line) => line.startsWith("guest: "));
}

function checkGuest(result: JobResult, way: Way): void {
  const lines = guestLines(result);
  note(`${way}: status ${result.status}, ${result.seconds.toFixed(1)} s`);
  note(lines.join("\n"));
  const text = lines.join("\n");
  if (!text.includes("guest: done")) note(result.output);
  assert.match(text, /guest: kernel \S+, 2 cpus/);
  assert.match(text, /guest: rng_current virtio_rng\.0/);
  assert.match(text, new RegExp(`guest: read ${SAMPLE_BYTES} bytes`));
  assert.match(text, /guest: sha256 [0-9a-f]{64}/);
  assert.ok(Number(/gzipped (\d+)/.exec(text)?.[1]) > SAMPLE_BYTES, "random bytes do not compress");
  assert.match(text, WAYS[way].interrupt);
  assert.not.match(text, /MMCONFIG.* not |BAR.*(no|fail)|_OSC.*fail/i, "PCI that it complains of");
  assert.match(text, /guest: slept/, "its timer interrupts");
  assert.match(text, /guest: done/);
  assert.is(result.status, 0);
}

/**
 * As many CPUs as anybody tests with, RAM on both sides of the hole for devices, and a console
 * whose output goes to a file.
 */
const large: Job = {
  command: (place) => {
    const run = bulkhead(({ kernel, initrd }) => [
      ...["run", "-k", kernel, "-i", initrd, "-m", "5G", "-c", "8", "--rng", "--console", "OUT"],
      ...["-p", "'console=ttyS0 quiet oops=panic panic=-1 test.bytes=4096'"],
    ]).command(place);
    const line = run.join(" ").replace("OUT", "$out");
    const shown = 'status=$?; sed "s/^/console: /" $out; rm $out; exit $status';
    return ["sh", "-c", `out=$(mktemp); ${line}; ${shown}`];
  },
};

/** A kernel whose drivers of disks are in an initramfs that nobody gave it. */
const rootless: Job = bulkhead(({ kernel }) => [
  ...["run", "-k", kernel, "-m", "256M", "-p", "console=ttyS0 quiet root=/dev/vda panic=-1"],
]);

/** The entropy guest on a host whose C library must ask the kernel for the time. */
const withoutVdsoClock: Job = {
  command: (place) => {
    const clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    const run = bulkhead(({ guest }) => ["run", guest, "--rng"]).command(place);
    return ["sh", "-c", `echo hpet >${clock}; exec ${run.join(" ")}`];
  },
};

const unavailable = machineUnavailable();
if (unavailable === undefined) {
  let results: JobResult[] = [];

  test.before(async () => {
    results = await runInMachine([
      stockKernel("msix"),
      stockKernel("mmio"),
      stockKernel("intx"),
      bulkhead(({ guest }) => ["run", guest, "--rng"]),
      large,
      rootless,
      ...(emulationWanted() ? [withoutVdsoClock] : []),
    ]);
  });

  test("a stock kernel with 2 cpus reads /dev/hwrng from a confined device on PCI", () => {
    checkGuest(results[0]!, "msix");
  });

  test("a stock kernel with 2 cpus reads /dev/hwrng from an inline device over mmio", () => {
    checkGuest(results[1]!, "mmio");
  });

  test("a stock kernel without MSI reads /dev/hwrng from a device with an interrupt pin", () => {
    checkGuest(results[2]!, "intx");
  });

  test("two guests get different bytes", () => {
    const [one, two] = results.map((result) => /sha256 (\S+)/.exec(result.output)?.[1]);
    assert.is.not(one, two);
  });

  test("a stock kernel has 8 cpus, 5 GiB, the right time, and a virtio console", () => {
    const { output, status, seconds } = results[4]!;
    note(`large: status ${status}, ${seconds.toFixed(1)} s`);
    const text = withoutSigns(output);
    assert.match(text, /guest: kernel \S+, 8 cpus/, output);
    const [, memory] = /guest: online 0-7, MemTotal: (\d+) kB/.exec(text) ?? [];
    // Of 5 GiB the kernel itself keeps some.
    assert.ok(Number(memory) > 4.7 * 1024 ** 2, text);
    const [, clock, epoch] = /guest: clock (\S+), epoch (\d+)/.exec(text) ?? [];
    assert.is(clock, "kvm-clock");
    const apart = Math.abs(Number(epoch) * 1000 - Date.now());
    assert.ok(apart < CLOCK_MS_MAX, `its clock is ${apart} ms off`);
    assert.match(text, /guest: read 4096 bytes/);
    assert.match(text, /^console: this is Linux on its console\r?$/m);
    assert.is(status, 0);
  });

  test("a stock kernel without a driver of its root says so, and ends as panic= says", () => {
    const { output, status } = results[5]!;
    assert.match(output, /Kernel panic - not syncing: VFS: Unable to mount root fs/, output);
    assert.match(output, /^# the guest rebooted/m, output);
    assert.is(status, 0);
  });

  test("the entropy guest passes on a real KVM", () => {
    assert.match(results[3]!.output, /1 passed, 0 failed: PASS/);
    assert.is(results[3]!.status, 0);
  });

  // The vDSO reads a TSC and little else; then clock_gettime(2) is a system call (vdso(7)).
  if (emulationWanted()) {
    test("a device works where the clock source is none that the vDSO can read", () => {
      const { output, status } = results[6]!;
      assert.match(output, /1 passed, 0 failed: PASS/, output);
      assert.is(status, 0);
    });
  } else {
    skip("a device where the vDSO has no clock: it would change this machine's clock source");
  }
} else {
  skip(unavailable);
}

test.run();
