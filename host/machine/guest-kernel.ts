// The kernel of a guest: what kind it is, and how it comes into RAM with all that it is told.

import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { BZIMAGE_HEAD_BYTES, isBzImage } from "../boot/bzimage.js";
import { type BootOptions, planBoot } from "../boot/plan.js";
import { VmmError } from "../errors.js";
import type { Transport, VmConfig } from "./config.js";
import { BOOT_LAYOUT, PCI_HOST, pciPlace, virtioMmioWindow } from "./layout.js";
import type { Ram } from "./ram.js";
import { type EntryState, entryStateOf } from "./x86/cpu.js";

/** Reads `path` whole, or names what it is to the user. */
function readInput(path: string, what: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new VmmError("ERR_FILE", `Cannot read the ${what} "${path}": ${reason}`, { cause });
  }
}

/** A distribution's kernel is a bzImage, and looks for its devices on PCI. */
export function usualTransport(kernel: string): Transport {
  const head = new Uint8Array(BZIMAGE_HEAD_BYTES);
  try {
    const fd = openSync(kernel, "r");
    readSync(fd, head);
    closeSync(fd);
  } catch {
    return "mmio"; // whoever reads all of it will say why
  }
  return isBzImage(head) ? "pci" : "mmio";
}

/** How the guest is told of its devices. */
function announced(
  { devices }: VmConfig,
  transport: Transport,
): Pick<BootOptions, "virtioMmio" | "pci"> {
  if (transport === "mmio") return { virtioMmio: devices.map((_, i) => virtioMmioWindow(i)) };
  const places = devices.map((_, i) => pciPlace(i));
  // A routing table has one entry for all functions of a slot.
  const slots = places.filter((place) => place.function === 0);
  return { virtioMmio: [], pci: { ...PCI_HOST, slots } };
}

/** Puts kernel, initrd and tables into RAM; returns how the first CPU enters the kernel. */
export function loadKernel(
  config: VmConfig,
  { ram, transport }: { ram: Ram; transport: Transport },
): EntryState {
  const initrd = config.initrd === undefined ? undefined : readInput(config.initrd, "initrd");
  const plan = planBoot({
    kernel: readInput(config.kernel, "kernel"),
    ...(initrd === undefined ? {} : { initrd }),
    cmdline: config.cmdline,
    memoryBytes: config.memoryBytes,
    cpuCount: config.cpuCount,
    layout: BOOT_LAYOUT,
    ...announced(config, transport),
  });
  for (const segment of plan.segments) ram.write(segment.gpa, segment.bytes);
  return entryStateOf(plan);
}
