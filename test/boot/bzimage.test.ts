import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "uvu";
import { debianKernel } from "../../build/machine.js";
import { boot_params, HDR_OFFSET } from "../../host/boot/params.js";
import { skip } from "../support/skip.js";
import {
  BZIMAGE_SECTS,
  bzImage,
  GIB,
  KIB,
  LAYOUT,
  MIB,
  plan,
  segment,
  throwsVmmError,
} from "./fixtures.js";

type Options = Parameters<typeof plan>[1];

function paramsOf(kernel: Uint8Array, options?: Options) {
  return boot_params.read(segment(plan(kernel, options), "boot_params").view, 0);
}

function refused(kernel: Uint8Array, message: RegExp): void {
  throwsVmmError(() => plan(kernel), "ERR_KERNEL_IMAGE", message);
}

/** Where an initrd of `bytes` goes. */
function initrdAt(kernel: Uint8Array, bytes: number, options?: Options): number {
  return segment(plan(kernel, { ...options, initrd: new Uint8Array(bytes) }), "initrd").gpa;
}

test("planBoot() loads a bzImage at pref_address and enters it 0x200 above", () => {
  const result = plan(bzImage());
  assert.equal(result.mode, "long64");
  assert.equal(result.entry, 0x1000200);
  const kernel = result.segments.find(({ name }) => name === "kernel");
  assert.equal(kernel?.gpa, 0x1000000);
  assert.equal(kernel?.bytes.length, 8 * KIB);
  assert.equal(kernel?.bytes[0], 0xf4);
  assert.equal(kernel?.zeroBytes, MIB - 8 * KIB);
});

test("planBoot() rounds the address of a relocatable kernel up to kernel_alignment", () => {
  assert.equal(plan(bzImage({ pref_address: 0x1000001n })).entry, 0x1200200);
});

test("planBoot() leaves a kernel that is not relocatable at pref_address", () => {
  const header = { relocatable_kernel: 0, pref_address: 0x123450n, kernel_alignment: 3 };
  assert.equal(plan(bzImage(header)).entry, 0x123650);
});

test("planBoot() loads a bzImage without preference at 1 MiB", () => {
  assert.equal(plan(bzImage({ relocatable_kernel: 0, pref_address: 0n })).entry, 0x100200);
});

test("planBoot() copies the setup header and nothing else of the real-mode code", () => {
  const params = paramsOf(bzImage());
  assert.equal(params.sentinel, 0);
  assert.equal(params.hdr.version, 0x20f);
  assert.equal(params.hdr.init_size, 0x100000);
  // jump says that the header ends at 0x26c: kernel_info_offset is the last field of it.
  assert.equal(params._pad7[0], 0);
});

test("planBoot() copies a setup header that is longer than any known today", () => {
  const view = segment(plan(bzImage({ jump: 0x8eeb })), "boot_params").view;
  assert.equal(view.getUint8(0x28f), 0xcc);
  assert.equal(view.getUint8(0x290), 0);
});

test("planBoot() fills in what the boot protocol obliges a loader to", () => {
  const { hdr } = paramsOf(bzImage());
  assert.equal(hdr.type_of_loader, 0xff);
  assert.equal(hdr.loadflags, 0x01); // LOADED_HIGH, without the kernel's own KASLR_FLAG
  assert.equal(hdr.vid_mode, 0xffff);
  assert.equal(hdr.code32_start, 0x1000000);
  assert.equal(hdr.cmd_line_ptr, LAYOUT.cmdline);
  assert.equal(hdr.ramdisk_image, 0);
  assert.equal(hdr.ramdisk_size, 0);
  assert.equal(hdr.setup_data, 0n);
});

test("planBoot() keeps the initrd below initrd_addr_max", () => {
  const kernel = bzImage({ initrd_addr_max: 0x2ffffff, xloadflags: 1 });
  assert.equal(initrdAt(kernel, 4097), 0x3000000 - 8192);
});

test("planBoot() keeps the initrd out of the kernel's init_size", () => {
  const kernel = bzImage({ init_size: 48 * MIB - 4096, xloadflags: 1 });
  assert.equal(initrdAt(kernel, 4096), 64 * MIB - 4096);
  assert.equal(initrdAt(kernel, 4097), 0x1000000 - 8192);
});

test("planBoot() puts the initrd above initrd_addr_max if the kernel says that it may be", () => {
  const kernel = bzImage({ initrd_addr_max: 0x1ffff, xloadflags: 3 });
  assert.equal(initrdAt(kernel, 4096), 64 * MIB - 4096);
});

test("planBoot() puts the initrd above 4 GiB only if it has to be there", () => {
  const memoryBytes = 8 * GIB;
  assert.equal(initrdAt(bzImage(), MIB, { memoryBytes }), 2 * GIB - MIB);
  // Fills all that the kernel leaves free below the device windows.
  const header = { init_size: 0xd0000000 - 0x1000000, initrd_addr_max: 0xffffffff };
  const highest = LAYOUT.highRamStart + memoryBytes - LAYOUT.lowRamEnd;
  const options = { memoryBytes, initrd: new Uint8Array(16 * MIB) };
  const { hdr, ...params } = paramsOf(bzImage(header), options);
  const gpa = params.ext_ramdisk_image * 2 ** 32 + (hdr.ramdisk_image ?? 0);
  assert.equal(gpa, highest - 16 * MIB);
  assert.equal(params.ext_ramdisk_size, 0);
  assert.equal(hdr.ramdisk_size, 16 * MIB);
});

test("planBoot() refuses an initrd that fits only above 4 GiB, unseen by the kernel", () => {
  const kernel = bzImage({ init_size: 0xd0000000 - 0x1000000, xloadflags: 1 });
  const options = { memoryBytes: 8 * GIB, initrd: new Uint8Array(16 * MIB) };
  throwsVmmError(() => plan(kernel, options), "ERR_MEMORY_LAYOUT", /Cannot place the initrd/);
});

test("planBoot() refuses an initrd larger than the memory", () => {
  const initrd = new Uint8Array(64 * MIB);
  throwsVmmError(() => plan(bzImage(), { initrd }), "ERR_MEMORY_LAYOUT", /67108864 bytes/);
});

test("planBoot() takes a command line of cmdline_size bytes and none longer", () => {
  const kernel = bzImage({ cmdline_size: 20 });
  assert.equal(plan(kernel, { cmdline: "x".repeat(20) }).cmdline.length, 20);
  const long = () => plan(kernel, { cmdline: "x".repeat(21) });
  throwsVmmError(long, "ERR_USAGE", /21 bytes .* this kernel takes 20/);
});

test("planBoot() keeps a command line out of the next table, whatever the kernel says", () => {
  const kernel = bzImage({ cmdline_size: 0xffffffff });
  const long = () => plan(kernel, { cmdline: "x".repeat(4096) });
  throwsVmmError(long, "ERR_USAGE", /this kernel takes 4095/);
});

test("planBoot() refuses a bzImage without a 64-bit entry", () => {
  refused(bzImage({ xloadflags: 0 }), /no 64-bit entry/);
});

test("planBoot() refuses a boot protocol older than 2.12", () => {
  refused(bzImage({ version: 0x20b }), /protocol 2\.11, older than 2\.12/);
});

test("planBoot() refuses a zImage", () => {
  refused(bzImage({ loadflags: 0 }), /a zImage/);
});

test("planBoot() refuses a boot sector without Linux' magic", () => {
  refused(bzImage({ header: 0 }), /neither ELF64 nor bzImage/);
});

test("planBoot() refuses a bzImage cut off in its setup header", () => {
  refused(bzImage().subarray(0, 0x26b), /neither ELF64 nor bzImage.*truncated/);
});

test("planBoot() refuses a bzImage cut off before its kernel", () => {
  refused(bzImage().subarray(0, (1 + BZIMAGE_SECTS) * 512), /protected-mode kernel/);
});

test("planBoot() refuses a bzImage cut off in its kernel", () => {
  const file = bzImage();
  refused(file.subarray(0, file.length - 1), /protected-mode kernel .* is it truncated/);
});

test("planBoot() reads setup_sects 0 as 4", () => {
  assert.equal(plan(bzImage({ setup_sects: 0 })).entry, 0x1000200);
});

test("planBoot() refuses a bzImage whose kernel ends before its entry", () => {
  refused(bzImage({ syssize: 32 }), /syssize 32, no room/);
});

test("planBoot() refuses a setup header that ends before protocol 2.12's last field", () => {
  refused(bzImage({ jump: 0x65eb }), /ends at 0x267, too early/);
});

test("planBoot() refuses a setup header longer than boot_params has room for", () => {
  refused(bzImage({ jump: 0x8feb }), /ends at 0x291, more than/);
});

test("planBoot() refuses a kernel_alignment of zero", () => {
  refused(bzImage({ kernel_alignment: 0 }), /kernel_alignment is 0x0/);
});

test("planBoot() refuses a kernel_alignment that is no power of two", () => {
  refused(bzImage({ kernel_alignment: 0x300000 }), /kernel_alignment is 0x300000/);
});

test("planBoot() takes a kernel_alignment of 2 GiB for what it is", () => {
  const kernel = bzImage({ kernel_alignment: 0x80000000 });
  assert.equal(plan(kernel, { memoryBytes: 3 * GIB }).entry, 0x80000200);
});

test("planBoot() refuses a pref_address that is no number", () => {
  refused(bzImage({ pref_address: 2n ** 64n - 1n }), /pref_address is 0xfff/);
});

test("planBoot() refuses a pref_address that is one only before rounding", () => {
  refused(bzImage({ pref_address: 2n ** 53n - 1n }), /aligned pref_address/);
});

test("planBoot() refuses a kernel on top of the boot tables", () => {
  refused(bzImage({ relocatable_kernel: 0, pref_address: 0x7000n, init_size: 0 }), /boot_params/);
});

test("planBoot() refuses a kernel that needs more than the memory", () => {
  const kernel = bzImage({ init_size: 48 * MIB + 1 });
  throwsVmmError(() => plan(kernel), "ERR_MEMORY_LAYOUT", /has the guest enough memory/);
});

/** A distribution's kernel: one that is installed, or the one that the test machine boots. */
function aKernel(): string {
  const files = readdirSync("/boot").filter((name) => name.startsWith("vmlinuz-"));
  return files.length > 0 ? `/boot/${files[0]}` : debianKernel();
}

test("planBoot() plans a distribution's bzImage", () => {
  let path: string;
  try {
    path = aKernel();
  } catch (error) {
    return skip(`no kernel in /boot, and none to be had: ${(error as Error).message}`);
  }
  const file = readFileSync(path);
  const result = plan(file, { memoryBytes: 512 * MIB, initrd: new Uint8Array(MIB) });
  assert.equal(result.mode, "long64");
  const { hdr } = boot_params.read(segment(result, "boot_params").view, 0);
  assert.equal(hdr.init_size, file.readUInt32LE(HDR_OFFSET - 0x1f1 + 0x260));
  assert.equal(result.entry, Number(hdr.pref_address) + 0x200);
});

test.run();
