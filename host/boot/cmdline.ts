// The kernel's command line: the user's words, and where the virtio-mmio windows are.

import { VmmError } from "../errors.js";
import { hex } from "./image.js";
import type { VirtioMmioWindow } from "./layout.js";

const encoder = new TextEncoder();

/** `virtio_mmio.device=<size>@<base>:<irq>` (Linux drivers/virtio/virtio_mmio.c). */
export function virtioMmioParameter({ base, bytes, gsi }: VirtioMmioWindow): string {
  const size = bytes % 1024 === 0 ? `${bytes / 1024}K` : `${bytes}`;
  return `virtio_mmio.device=${size}@${hex(base)}:${gsi}`;
}

/**
 * The user's command line with a parameter for each window.
 *
 * @throws VmmError ERR_USAGE if it has a NUL or, UTF-8 encoded, more than `bytesMax` bytes
 */
export function commandLine(
  cmdline: string,
  { windows, bytesMax }: { windows: readonly VirtioMmioWindow[]; bytesMax: number },
): Uint8Array {
  if (cmdline.includes("\0")) {
    throw new VmmError("ERR_USAGE", "Cannot pass the command line to the kernel: it has a NUL");
  }
  const end = kernelPartEnd(cmdline);
  const parts = [cmdline.slice(0, end), ...windows.map(virtioMmioParameter), cmdline.slice(end)];
  const whole = encoder.encode(
    parts
      .map((part) => part.trim())
      .filter(Boolean)
      .join(" "),
  );
  if (whole.length > bytesMax) {
    const length = `${whole.length} bytes with ${windows.length} virtio_mmio.device parameters`;
    throw new VmmError(
      "ERR_USAGE",
      `Cannot pass the command line to the kernel: ${length}, this kernel takes ${bytesMax}`,
    );
  }
  return whole;
}

/** Where a bare `--` is: Linux hands everything after it to init and reads none of it. */
function kernelPartEnd(cmdline: string): number {
  let quoted = false;
  let word = "";
  for (let i = 0; i <= cmdline.length; i++) {
    const char = cmdline[i] ?? " ";
    if (char === '"') quoted = !quoted;
    if (/\s/.test(char) && !quoted) {
      if (word === "--") return i - 2;
      word = "";
    } else {
      word += char;
    }
  }
  return cmdline.length;
}
