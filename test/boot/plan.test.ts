import assert from "node:assert/strict";
import { test } from "uvu";
import { commandLine, virtioMmioParameter } from "../../host/boot/cmdline.js";
import { boot_params } from "../../host/boot/params.js";
import type { BootPlan } from "../../host/boot/plan.js";
import { bzImage, elf, GIB, LAYOUT, load, MIB, plan, segment, throwsVmmError } from "./fixtures.js";

const CODE = new Uint8Array(64).fill(0xf4);
const KERNEL = elf([load(MIB, CODE)]);

function e820Of(result: BootPlan): [bigint, bigint, number][] {
  const params = boot_params.read(segment(result, "boot_params").view, 0);
  return params.e820_table
    .slice(0, params.e820_entries)
    .map(({ addr = 0n, size = 0n, type = 0 }) => [addr, addr + size, type]);
}

test("planBoot() maps memory below the device windows around the hole under 1 MiB", () => {
  const result = plan(KERNEL, { memoryBytes: 512 * MIB });
  assert.deepEqual(result.ram, [{ gpa: 0, bytes: 512 * MIB }]);
  assert.deepEqual(e820Of(result), [
    [0n, 0xa0000n, 1],
    [0xa0000n, 0x100000n, 2],
    [0x100000n, BigInt(512 * MIB), 1],
  ]);
});

test("planBoot() maps memory that does not fit below the device windows from 4 GiB", () => {
  const result = plan(KERNEL, { memoryBytes: 6 * GIB });
  const highBytes = 6 * GIB - 0xd0000000;
  assert.deepEqual(result.ram, [
    { gpa: 0, bytes: 0xd0000000 },
    { gpa: 4 * GIB, bytes: highBytes },
  ]);
  assert.deepEqual(e820Of(result).slice(2), [
    [0x100000n, 0xd0000000n, 1],
    [BigInt(4 * GIB), BigInt(4 * GIB + highBytes), 1],
  ]);
});

test("planBoot() makes no high memory when memory ends where the device windows start", () => {
  assert.equal(plan(KERNEL, { memoryBytes: 0xd0000000 }).ram.length, 1);
  assert.equal(plan(KERNEL, { memoryBytes: 0xd0001000 }).ram.length, 2);
});

for (const memoryBytes of [0, -4096, MIB, 2 * MIB - 4096]) {
  test(`planBoot() refuses ${memoryBytes} bytes of memory as too small`, () => {
    throwsVmmError(() => plan(KERNEL, { memoryBytes }), "ERR_MEMORY_LAYOUT", /at least 2097152/);
  });
}

for (const memoryBytes of [2 * MIB + 1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60]) {
  test(`planBoot() refuses ${memoryBytes} bytes of memory as no size`, () => {
    throwsVmmError(() => plan(KERNEL, { memoryBytes }), "ERR_MEMORY_LAYOUT", /not a multiple/);
  });
}

test("planBoot() refuses more memory than has addresses", () => {
  const more = () => plan(KERNEL, { memoryBytes: 2 ** 45 + 4096 });
  throwsVmmError(more, "ERR_MEMORY_LAYOUT", /at most/);
});

test("planBoot() keeps all segments apart and inside RAM", () => {
  const windows = [{ base: 0xd0000000, bytes: 4096, gsi: 16 }];
  const result = plan(bzImage(), { initrd: new Uint8Array(5 * MIB), virtioMmio: windows });
  const ranges = result.segments
    .map(({ gpa, bytes, zeroBytes }) => ({ gpa, end: gpa + bytes.length + zeroBytes }))
    .sort((a, b) => a.gpa - b.gpa);
  let end = 0;
  for (const range of ranges) {
    assert.ok(range.gpa >= end, `0x${range.gpa.toString(16)} starts before the last one ends`);
    end = range.end;
  }
  assert.ok(end <= 64 * MIB);
});

test("planBoot() maps the first 4 GiB to themselves in 2 MiB pages", () => {
  const { gpa, view } = segment(plan(KERNEL), "page tables");
  const entryAt = (table: number, index: number) => {
    return Number(view.getBigUint64(table - gpa + index * 8, true));
  };
  const frame = (entry: number) => entry - (entry % 4096);
  for (const address of [0, 0x1fffff, 0x200000, 0xd0000000, 0xfee00000, 0xffffffff]) {
    const pml4e = entryAt(LAYOUT.pageTables, Math.floor(address / 2 ** 39));
    const pdpte = entryAt(frame(pml4e), Math.floor(address / 2 ** 30) % 512);
    const pde = entryAt(frame(pdpte), Math.floor(address / 2 ** 21) % 512);
    assert.deepEqual([pml4e % 4096, pdpte % 4096, pde % 4096], [0x03, 0x03, 0x83]);
    assert.equal(frame(pde) + (address % 0x200000), address);
  }
  assert.equal(entryAt(LAYOUT.pageTables, 1), 0, "nothing above 512 GiB");
});

test("planBoot() puts flat 64-bit segments at the boot protocol's selectors", () => {
  const { gdt, ...result } = plan(KERNEL);
  assert.equal(result.mode, "long64");
  const { gpa, view } = segment(result as BootPlan, "GDT");
  assert.equal(gpa, gdt.gpa);
  assert.equal(view.byteLength, gdt.limit + 1);
  assert.equal(view.getBigUint64(0, true), 0n);
  // The values that every 64-bit boot loader ends up with (Intel SDM vol. 3A, figure 3-8).
  assert.equal(view.getBigUint64(gdt.code.selector, true), 0x00af_9b00_0000_ffffn);
  assert.equal(view.getBigUint64(gdt.data.selector, true), 0x00cf_9300_0000_ffffn);
  assert.deepEqual([gdt.code.selector, gdt.data.selector], [0x10, 0x18]);
});

test("planBoot() ends the command line with a NUL that no table may take", () => {
  const result = plan(KERNEL, { cmdline: "quiet" });
  const line = result.segments.find(({ name }) => name === "command line");
  assert.equal(Buffer.from(line?.bytes ?? []).toString(), "quiet");
  assert.equal(line?.zeroBytes, 1);
});

const WINDOWS = [
  { base: 0xd0000000, bytes: 4096, gsi: 16 },
  { base: 0xd0001000, bytes: 512, gsi: 5 },
];

function built(cmdline: string, bytesMax = 2047): string {
  return new TextDecoder().decode(commandLine(cmdline, { windows: WINDOWS, bytesMax }));
}

test("virtioMmioParameter() says size, base and interrupt as Linux reads them", () => {
  assert.deepEqual(WINDOWS.map(virtioMmioParameter), [
    "virtio_mmio.device=4K@0xd0000000:16",
    "virtio_mmio.device=512@0xd0001000:5",
  ]);
});

const PARAMETERS = WINDOWS.map(virtioMmioParameter).join(" ");

test("commandLine() appends a parameter for each window", () => {
  assert.equal(built("console=ttyS0  quiet "), `console=ttyS0  quiet ${PARAMETERS}`);
});

test("commandLine() is the parameters alone when the user gave nothing", () => {
  assert.equal(built(""), PARAMETERS);
});

test("commandLine() keeps the parameters out of what Linux hands to init", () => {
  assert.equal(built("quiet -- -v"), `quiet ${PARAMETERS} -- -v`);
  assert.equal(built("quiet --"), `quiet ${PARAMETERS} --`);
  assert.equal(built("-- a -- b"), `${PARAMETERS} -- a -- b`);
});

test("commandLine() takes no quoted or glued -- for the end of the kernel's part", () => {
  assert.equal(built('a="b -- c" --d e--'), `a="b -- c" --d e-- ${PARAMETERS}`);
});

test("commandLine() counts bytes, not characters", () => {
  const bytesMax = PARAMETERS.length + 1 + 4;
  assert.equal(built("äö", bytesMax), `äö ${PARAMETERS}`);
  throwsVmmError(() => built("äöx", bytesMax), "ERR_USAGE", /with 2 virtio_mmio.device/);
});

test("commandLine() refuses a NUL, behind which Linux would read nothing", () => {
  throwsVmmError(() => built("quiet\0"), "ERR_USAGE", /NUL/);
});

test.run();
