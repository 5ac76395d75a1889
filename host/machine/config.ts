// What a virtual machine is made of, what it reports and how it ends: the types between the machine
// and whoever starts one.

import type { GrantSpec } from "../sandbox/grants.js";

/** Guest memory below which no guest can be placed: the boot data and a small kernel need it. */
export const MEMORY_BYTES_MIN = 8 * 1024 * 1024;

/** Guest memory that can be asked for: the most that the memory map is tested with. */
export const MEMORY_BYTES_MAX = 64 * 1024 ** 3;

/** vCPUs of a guest: each is a thread with its own JavaScript heap, a few MB. */
export const CPU_COUNT_MAX = 32;

/** Devices of a guest: each is a process, a page of MMIO and an interrupt line of the one I/O APIC. */
export const DEVICE_COUNT_MAX = 16;

/** Where a device's module runs: in a process of its own, or in the VMM's I/O worker. */
export type Isolation = "process" | "inline";

/** What a forbidden system call does: kill the device, log and go on, or nothing is filtered. */
export type SeccompMode = "enforce" | "log" | "off";

export interface DeviceConfig {
  /** Unique in the machine: kind and index, as in `rng0`. */
  id: string;
  /** Path of the device's .wasm. */
  module: string;
  /** What the user grants, by the name that the module's manifest asks for. */
  grants: Record<string, GrantSpec>;
  isolation: Isolation;
  seccomp: SeccompMode;
}

export interface VmConfig {
  /** Path of an ELF64 or bzImage kernel. */
  kernel: string;
  /** Path of the initial RAM disk. */
  initrd?: string;
  /** Kernel command line; the machine adds what announces its devices. */
  cmdline: string;
  memoryBytes: number;
  cpuCount: number;
  /** In the order of the command line, which is the order on the bus. */
  devices: DeviceConfig[];
  /** Whether a write to port 0x501 ends the guest, as QEMU's isa-debug-exit does. */
  debugExit: boolean;
  /** Descriptor that the serial console is written to; -1: delivered as `serial` events. */
  serialFd: number;
}

/** Something that happened, at `time` (milliseconds since the Unix epoch, with a fraction). */
export type VmEvent = { time: number } & (
  | { event: "vmm-ready"; memoryBytes: number; cpuCount: number }
  | ({ event: "device-ready" } & DeviceReady)
  | { event: "device-exit"; id: string; reason: string }
  | { event: "serial"; text: string }
  | { event: "log"; id?: string; text: string }
  | ({ event: "guest-exit" } & GuestExit)
);

/** What a device reports when its confinement is complete; 0 where nothing is confined. */
export interface DeviceReady {
  id: string;
  /** Process that runs the device: the VMM's own for an inline device. */
  pid: number;
  isolation: Isolation;
  /** Distinct system calls that the filter lets through. */
  syscalls: number;
  /** Open descriptors. */
  fds: number;
  /** Mappings that are both writable and executable. */
  wxPages: number;
  /** From the start of the process to the report. */
  startMs: number;
}

/** How a guest ended. */
export interface GuestExit {
  reason:
    | "poweroff"
    | "reboot"
    | "triple-fault"
    | "debug-exit"
    | "stopped"
    | "internal-error"
    | "device-failed";
  /** Exit status for the process, from EXIT; the guest's own choice after a debug exit. */
  status: number;
  detail?: string;
}

/** A virtual machine whose devices are confined and whose guest has not run yet. */
export interface Vm {
  /** Runs the guest to its end, then releases everything. */
  run(): Promise<GuestExit>;
  /**
   * Bytes typed at the serial console. Whoever feeds a stream waits for the promise before the next
   * chunk, so that a guest that does not read cannot make the VMM buffer without limit.
   */
  serialInput(bytes: Uint8Array): void | Promise<void>;
  /** Asks for a clean end: `run()` resolves with reason `stopped` and `reason` as its detail. */
  stop(reason: string): void;
}
