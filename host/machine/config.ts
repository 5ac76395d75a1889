// What a VM is made of, and what it tells of itself: the interface between command line and
// machine.

import type { GrantSpec } from "../sandbox/grants.js";
import type { OptionWord } from "../sandbox/options.js";
import type { ControlConfig } from "./control-socket.js";

/** What a user may grant, and the words for it. */
export {
  exampleOf,
  faultOfWhat,
  formsOf,
  GRANT_KIND_NAMES,
  kindRow,
  rightsOfWord,
  wordOfRights,
} from "../sandbox/grant-kinds.js";

export type Isolation = "process" | "inline";
export type Transport = "mmio" | "pci";
export type SeccompMode = "enforce" | "log" | "off";

export interface DeviceConfig {
  /** Unique name, `rng0`: events, errors and grants use it. */
  id: string;
  /** Path of the device module, a `.wasm` with a manifest. */
  module: string;
  /** What the command line grants, by the names in the module's manifest. */
  grants: Record<string, GrantSpec>;
  /** What the command line sets, by the names in the module's manifest. */
  options?: Record<string, OptionWord>;
  isolation: Isolation;
  seccomp: SeccompMode;
  /**
   * Descriptors that can be read when the device shall look again at what it was granted; what is
   * read there means nothing. They stay the caller's.
   */
  wakeFds?: number[];
}

export interface VmConfig {
  /** Path of the kernel image: ELF or bzImage. */
  kernel: string;
  initrd?: string;
  /** Kernel parameters; those that announce virtio-mmio devices are added to them. */
  cmdline: string;
  memoryBytes: number;
  cpuCount: number;
  devices: DeviceConfig[];
  /** How the guest finds its devices; by default PCI for a bzImage and virtio-mmio for an ELF. */
  transport?: Transport;
  /** Port 0x501 ends the VM, as QEMU's isa-debug-exit does. */
  debugExit: boolean;
  /** Descriptor that the serial console writes to; -1 delivers its text as `serial` events. */
  serialFd: number;
  /** Start although this kernel lacks a piece of the sandbox; the report then says so. */
  allowWeakSandbox: boolean;
  /**
   * What a system call does that the VMM has no need of once the guest runs: it ends the VMM, is
   * noted in the kernel's log, or is made. The filter is for the rest of the process's life, so
   * this must be "off" for whoever goes on to do anything else in it, a second VM for one.
   */
  seccomp: SeccompMode;
  /** What a device that dies again and again means: the VM goes on without it, or stops. */
  onDeviceFailure: "continue" | "stop";
  /** Its name, and the socket at which it is asked and told; without one when it is left out. */
  control?: ControlConfig;
}

/** Why a guest ended. */
export type GuestExitReason =
  | "poweroff"
  | "reboot"
  | "debug-exit"
  | "triple-fault"
  | "internal-error"
  | "device-failed"
  | "stopped";

export interface GuestExit {
  reason: GuestExitReason;
  /** Exit status for the process: see EXIT in errors.ts. */
  status: number;
  /** What a person should know besides: the signal, the failed device, the registers at a crash. */
  detail?: string;
}

/** Everything that happens to a VM; `time` is milliseconds since the epoch. */
export type VmEvent = { time: number } & (
  | {
      event: "vmm-ready";
      /** Of the VMM itself, with the number of system calls that are left to it. */
      seccomp: SeccompMode;
      syscalls: number | null;
      startMs: number;
      /** Its name, and the path of its control socket, if it has one. */
      name?: string;
      socket?: string;
    }
  | {
      event: "device-ready";
      id: string;
      pid: number;
      isolation: Isolation;
      /** System calls that the device's filter lets through; null where there is no filter. */
      syscalls: number | null;
      fds: number;
      wxPages: number;
      startMs: number;
      /** Pieces of the sandbox that it lacks, and why; there only if there are any. */
      weak?: string[];
    }
  | { event: "device-exit"; id: string; reason: string }
  | { event: "device-restart"; id: string; pid: number }
  /** Where a grant leads that is a pseudo-terminal of its own. */
  | { event: "pty"; id: string; grant: string; path: string }
  | { event: "guest-exit"; reason: GuestExitReason; detail?: string }
  | { event: "serial"; text: string }
  | { event: "log"; level: "info" | "warning"; id?: string; text: string }
);

type DistributiveOmit<T, K extends string> = T extends unknown ? Omit<T, K> : never;
/** An event before the supervisor stamps it. */
export type UntimedEvent = DistributiveOmit<VmEvent, "time">;
