// From a kernel image and a machine's layout to a plan: which bytes go where in guest memory, and
// how the first vCPU starts. Pure: no file, no descriptor, no guest memory is touched here.

import { VmmError } from "../errors.js";
import { acpiTables } from "./acpi.js";
import { isBzImage, readBzImage } from "./bzimage.js";
import { commandLine } from "./cmdline.js";
import { isElf, readElf } from "./elf.js";
import { hex, type KernelImage, refuse, type Segment } from "./image.js";
import type { BootLayout, PciHost, VirtioMmioWindow } from "./layout.js";
import {
  type Claim,
  claimKernel,
  claimTable,
  highestFree,
  type MemoryRange,
  memoryMap,
  type RamRange,
  ramRanges,
} from "./memory.js";
import {
  type BootSegments,
  bootSegments,
  GDT_BYTES,
  globalDescriptorTable,
  identityMap,
  PAGE_TABLES_BYTES,
} from "./paging.js";
import { boot_params, bootParams } from "./params.js";
import { startInfo, startInfoBytes } from "./pvh.js";

/** What to boot, and on which machine. */
export interface BootOptions {
  /** The whole kernel file; the plan refers to it, so it must not change. */
  readonly kernel: Uint8Array;
  /** The whole initrd file; none if empty or absent. */
  readonly initrd?: Uint8Array | undefined;
  /** The user's part of the command line. */
  readonly cmdline: string;
  /** A multiple of 4096. */
  readonly memoryBytes: number;
  readonly cpuCount: number;
  readonly layout: BootLayout;
  readonly virtioMmio: readonly VirtioMmioWindow[];
  readonly pci?: PciHost;
}

/** What the plan says whichever way the kernel is entered. All addresses are guest-physical. */
interface CommonPlan {
  /** What to write, none overlapping another, all inside `ram`; memory is zero everywhere else. */
  readonly segments: readonly Segment[];
  /** Where the machine has RAM. */
  readonly ram: readonly RamRange[];
  /** RIP of the first vCPU. */
  readonly entry: number;
  /** GDTR, and the segments that the segment registers start with. */
  readonly gdt: BootSegments & { readonly gpa: number; readonly limit: number };
  readonly rsdpGpa: number;
  /** As the guest will see it, without the final NUL. */
  readonly cmdline: string;
}

/** 64-bit Linux entry: long mode, interrupts off, CR3 = `pageTablesGpa`, RSI = `bootParamsGpa`. */
export interface Long64Plan extends CommonPlan {
  readonly mode: "long64";
  readonly pageTablesGpa: number;
  readonly bootParamsGpa: number;
}

/** PVH: 32-bit protected mode, no paging, interrupts off, EBX = `startInfoGpa`. */
export interface Pvh32Plan extends CommonPlan {
  readonly mode: "pvh32";
  readonly startInfoGpa: number;
}

export type BootPlan = Long64Plan | Pvh32Plan;

/** Everything that the tables of either protocol are made from. */
interface Placed {
  readonly image: KernelImage;
  readonly initrd: Segment | undefined;
  readonly map: readonly MemoryRange[];
  readonly rsdp: number;
  readonly layout: BootLayout;
}

/**
 * Plans how `kernel` boots.
 *
 * @throws VmmError ERR_KERNEL_IMAGE: the file is malformed, or its segments collide
 * @throws VmmError ERR_MEMORY_LAYOUT: kernel, initrd or tables do not fit into the memory
 * @throws VmmError ERR_USAGE: the command line is too long
 */
export function planBoot(options: BootOptions): BootPlan {
  const { layout } = options;
  const ram = ramRanges(options.memoryBytes, layout);
  const map = memoryMap(ram, {
    layout,
    ...(options.pci === undefined ? {} : { pci: options.pci }),
  });
  const image = readKernel(options.kernel);
  const bytesMax = Math.min(image.cmdlineBytesMax, layout.cmdlineBytes - 1);
  const cmdline = commandLine(options.cmdline, { windows: options.virtioMmio, bytesMax });
  const segments = bootSegments(image.mode);
  const acpi = acpiTables(options);
  const tables = [
    segmentOf("GDT", layout.gdt, globalDescriptorTable(segments)),
    { ...segmentOf("command line", layout.cmdline, cmdline), zeroBytes: 1 },
    acpi,
  ];

  const claims: Claim[] = [];
  for (const table of tables) claimTable(claims, table);
  for (const table of protocolRoom(image, { layout, map })) claimTable(claims, table);
  const below = layout.highRamStart;
  for (const segment of image.segments) claimKernel(claims, segment, { map, below });
  const initrd = placeInitrd(claims, { file: options.initrd, image, layout, ram });

  const placed = { image, initrd, map, rsdp: acpi.gpa, layout };
  const all = [...tables, ...image.segments, ...(initrd === undefined ? [] : [initrd])];
  const common = {
    ram,
    entry: image.entry,
    gdt: { gpa: layout.gdt, limit: GDT_BYTES - 1, ...segments },
    rsdpGpa: acpi.gpa,
    cmdline: new TextDecoder().decode(cmdline),
  };
  if (image.mode === "pvh32") {
    return {
      ...common,
      mode: "pvh32",
      segments: [...all, ...pvhTables(placed)],
      startInfoGpa: layout.startInfo,
    };
  }
  return {
    ...common,
    mode: "long64",
    segments: [...all, ...linuxTables(placed)],
    pageTablesGpa: layout.pageTables,
    bootParamsGpa: layout.bootParams,
  };
}

function segmentOf(name: string, gpa: number, bytes: Uint8Array): Segment {
  return { name, gpa, bytes, zeroBytes: 0 };
}

function readKernel(file: Uint8Array): KernelImage {
  if (isElf(file)) return readElf(file);
  if (isBzImage(file)) return readBzImage(file);
  const start = Array.from(file.subarray(0, 4), (byte) => byte.toString(16).padStart(2, "0"));
  return refuse(
    `it starts with [${start.join(" ")}], neither ELF64 nor bzImage, ` +
      "is it compressed or truncated?",
  );
}

/** The kernel must not land on the tables that are made last, when the initrd has its place. */
function protocolRoom(
  { mode }: KernelImage,
  { layout, map }: { layout: BootLayout; map: readonly MemoryRange[] },
): Segment[] {
  const empty = new Uint8Array(0);
  const room = (name: string, gpa: number, zeroBytes: number): Segment => {
    return { name, gpa, bytes: empty, zeroBytes };
  };
  if (mode === "pvh32") {
    return [room("hvm_start_info", layout.startInfo, startInfoBytes(map.length))];
  }
  return [
    room("boot_params", layout.bootParams, boot_params.size),
    room("page tables", layout.pageTables, PAGE_TABLES_BYTES),
  ];
}

function pvhTables({ initrd, map, rsdp, layout }: Placed): Segment[] {
  const { startInfo: gpa, cmdline } = layout;
  return [segmentOf("hvm_start_info", gpa, startInfo({ gpa, cmdline, initrd, rsdp, map }))];
}

function linuxTables({ image, initrd, map, rsdp, layout }: Placed): Segment[] {
  const { setupHeader, segments } = image;
  const kernel = Math.min(...segments.map(({ gpa }) => gpa));
  const params = bootParams({ setupHeader, kernel, cmdline: layout.cmdline, initrd, rsdp, map });
  return [
    segmentOf("boot_params", layout.bootParams, params),
    segmentOf("page tables", layout.pageTables, identityMap(layout.pageTables)),
  ];
}

interface InitrdOptions {
  readonly file: Uint8Array | undefined;
  readonly image: KernelImage;
  readonly layout: BootLayout;
  readonly ram: readonly RamRange[];
}

/** As high as the kernel allows, where it is least likely to be in the way of anything. */
function placeInitrd(claims: readonly Claim[], options: InitrdOptions): Segment | undefined {
  const { file, image, layout, ram } = options;
  if (file === undefined || file.length === 0) return undefined;
  const reachable = ram.map(({ gpa, bytes }) => ({
    from: Math.max(gpa, layout.extendedStart),
    to: gpa + bytes,
  }));
  const limit = image.initrdAddrMax + 1;
  const ranges = reachable.map(({ from, to }) => ({ from, to: Math.min(to, limit) }));
  for (const range of image.initrdAnywhere ? [...ranges, ...reachable] : ranges) {
    const gpa = highestFree(claims, file.length, range);
    if (gpa !== undefined) return segmentOf("initrd", gpa, file);
  }
  throw new VmmError(
    "ERR_MEMORY_LAYOUT",
    `Cannot place the initrd: ${file.length} bytes, no such room below ${hex(limit)} beside the ` +
      "kernel, has the guest enough memory?",
  );
}
