// Who starts devices and looks at them from outside: the VMM itself until it has a filter, and from
// then on its warden (warden.ts).

import { VmmError } from "../errors.js";
import { close } from "../ffi/libc.js";
import { kindRow } from "./grant-kinds.js";
import { openGrants } from "./grant-open.js";
import type { GrantedFd, ResolvedGrant, SocketFile } from "./grants.js";
import type { Weakness } from "./pieces.js";
import { type Proof, proofOf } from "./proof.js";
import { type DeviceExit, type DeviceProcess, type SpawnOptions, spawnDevice } from "./spawn.js";
import { type Verified, verifyDevice } from "./verify.js";

/** All that it takes to start a device process, and to find out whether it is confined. */
export interface DevicePlan extends SpawnOptions {
  /** System calls of its policy: what its filter may let through. */
  syscalls: string[];
}

/** A device process that was started, whoever is its parent. */
export interface StartedDevice {
  readonly pid: number;
  /** Hands the VMM's end of the socket over: whoever takes it closes it. */
  takeSocket(): number;
  /** Calls `listener` when the process has ended and was reaped, at once if it has already. */
  onExit(listener: (exit: DeviceExit) => void): void;
  /** Ends the process; the exit is reported as any other. */
  kill(): void;
  /** Ends the process and closes the VMM's end of its socket, unless somebody took it. */
  close(): void;
}

/** A device to be started, by index, and where it runs now. */
export interface Placed {
  /** null for a device that runs inside the VMM and cannot be started elsewhere. */
  plan: DevicePlan | null;
  pid: number;
}

export interface DeviceStarter {
  /**
   * Starts the process of a device whose last one has ended; it says READY on its socket.
   *
   * @throws VmmError ERR_FILE (module), ERR_GRANT, or ERR_SANDBOX
   */
  start(device: number): Promise<StartedDevice> | StartedDevice;
  /**
   * Verifies the device's process from outside; ERR_SANDBOX when it is not confined.
   *
   * @param said what the process says that it had to do without
   */
  verify(device: number, said: readonly Weakness[]): Promise<Verified> | Verified;
  /** What the kernel says of the process that the device runs in. */
  prove(device: number): Promise<Proof> | Proof;
}

/** Whether a grant is opened once and stays open, whatever becomes of the device's processes. */
function stays({ kind, rights }: ResolvedGrant): boolean {
  return kindRow(kind).stays?.some((right) => rights.includes(right)) === true;
}

/** Starts devices as children of this process: the VMM without a filter, and the warden. */
export class ParentStarter implements DeviceStarter {
  readonly #devices: Placed[];
  /** What the start of each device had to do without. */
  readonly #weak = new Map<number, readonly Weakness[]>();
  /** What was granted and stays open while processes come and go. */
  #held: GrantedFd[] = [];

  /** @param devices where each device runs now, or this process for one that runs nowhere yet */
  constructor(devices: readonly Placed[]) {
    this.#devices = devices.map((device) => ({ ...device }));
  }

  /** Where each device runs now. */
  get placed(): readonly Placed[] {
    return this.#devices;
  }

  /** Files of the sockets that listen here. */
  get socketFiles(): SocketFile[] {
    return this.#held.flatMap(({ socketFile }) => socketFile ?? []);
  }

  start(device: number): DeviceProcess {
    this.#hold(this.#at(device));
    const process = spawnDevice(this.#planOf(device));
    this.#at(device).pid = process.pid;
    this.#weak.set(device, process.weak);
    return process;
  }

  verify(device: number, said: readonly Weakness[]): Verified {
    const known = this.#weak.get(device) ?? [];
    return verifyDevice(this.#at(device).pid, this.#planOf(device), { known, said });
  }

  prove(device: number): Proof {
    return proofOf(this.#at(device).pid);
  }

  /** Closes what it holds: whoever starts devices from now on has it, or nobody needs it. */
  letGo(): void {
    for (const { fd } of this.#held) close(fd);
    this.#held = [];
  }

  /** Opens what is to stay open, at the first start of a device. */
  #hold(placed: Placed): void {
    const { plan } = placed;
    if (plan === null) return;
    const grants = plan.grants.map((grant) => {
      if (grant.held !== undefined || !stays(grant)) return grant;
      const opened = openGrants([grant]);
      this.#held.push(...opened);
      return { ...grant, held: opened[0]!.fd };
    });
    placed.plan = { ...plan, grants };
  }

  #at(device: number): Placed {
    const placed = this.#devices[device];
    if (placed !== undefined) return placed;
    throw new VmmError("ERR_INTERNAL", `There is no device ${device}`);
  }

  #planOf(device: number): DevicePlan {
    const { plan } = this.#at(device);
    if (plan !== null) return plan;
    throw new VmmError("ERR_INTERNAL", `Device ${device} has no process of its own`);
  }
}
