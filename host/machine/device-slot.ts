// One device of a VM, seen from the supervisor: check what it asks for against what it is granted,
// start it where it shall run, and measure from outside what it really got.

import { VmmError } from "../errors.js";
import { close } from "../ffi/libc.js";
import type { Vm } from "../kvm/kvm.js";
import { TraceMap, traceOf } from "../runtime/source-map.js";
import { STATUS } from "../runtime/status.js";
import { compilePolicy, SECCOMP_RET_USER_NOTIF } from "../sandbox/bpf.js";
import { kindRow } from "../sandbox/grant-kinds.js";
import { openGrants, rewindGrants } from "../sandbox/grant-open.js";
import { fdsOf, type GrantedFd, type ResolvedGrant, type SocketFile } from "../sandbox/grants.js";
import { foresee } from "../sandbox/live-filter.js";
import type { Manifest } from "../sandbox/manifest.js";
import { type OptionValue, resolveOptions } from "../sandbox/options.js";
import { describeWeakness } from "../sandbox/pieces.js";
import type { DeviceExit } from "../sandbox/spawn.js";
import type { DevicePlan, DeviceStarter, StartedDevice } from "../sandbox/starter.js";
import { weaknessesIn } from "../sandbox/verify.js";
import type { InlineDevice } from "../sandbox/vmm-policy.js";
import type { DeviceConfig, UntimedEvent } from "./config.js";
import type { DeviceStatus } from "./control.js";
import { EventFd } from "./eventfd.js";
import { type Inspection, inspectDevice } from "./inspect.js";
import type { IoCommand, IoDeviceData } from "./io-worker.js";
import { virtioMmioWindow } from "./layout.js";
import { RestartPolicy } from "./restart.js";

/** virtio-mmio QueueNotify (virtio v1.2 §4.2.2). */
const QUEUE_NOTIFY = 0x50;

/** How an inline device ends: its instance is dropped, there is no process to reap. */
const INLINE_EXIT: DeviceExit = {
  status: undefined,
  signal: undefined,
  reason: "its module stopped",
  stderr: "",
};

/**
 * A directory is opened from again and again, and its wall is a mount: a VMM has none, and once its
 * guest runs it opens nothing.
 */
function checkInline(id: string, grants: readonly ResolvedGrant[]): void {
  const directory = grants.find(({ kind }) => kindRow(kind).isDirectory === true);
  if (directory === undefined) return;
  const { name, kind, what } = directory;
  const problem = `Cannot grant ${id}.${name}=${kind}:${what} to an inline device`;
  const message = `${problem}: only a process of its own is kept inside a directory`;
  throw new VmmError("ERR_GRANT", `${message}, leave --isolation inline out`);
}

/** A device before and while it runs, and across the deaths of its process. */
export class DeviceSlot {
  readonly index: number;
  readonly config: DeviceConfig;
  readonly restarts = new RestartPolicy();
  /** The device said READY and was found confined, at least once. */
  ready = false;
  /** The same of the process that there is now. */
  confined = false;
  /** Given up: it will not be started again. */
  failed = false;
  /** The last thing that the device said: before it is ready, why it cannot be. */
  lastLog: string | undefined;
  readonly #inspection: Inspection;
  /** Of a debug build: read now, for when it breaks this process can open nothing any more. */
  readonly #map: TraceMap | undefined;
  readonly #allowWeak: boolean;
  readonly #options: OptionValue[];
  readonly #notify: EventFd[];
  readonly #interrupt = EventFd.create();
  #process: StartedDevice | undefined;
  /** Of an inline device: open for as long as the VM, which may open nothing when it runs. */
  #inlineGrants: GrantedFd[] | undefined;
  #startedAt = 0;
  /** How often it was started: what was found out about one process says nothing of the next. */
  generation = 0;
  /** The two ends of a death: its process was reaped, and the I/O worker let go of its socket. */
  #exit: DeviceExit | undefined;
  #answered: number | undefined;
  /** Why it was ended, when it did not end by itself. */
  #condemned: string | undefined;

  /** Reads and checks module and grants; ERR_MODULE, ERR_GRANT or ERR_FILE when they do not fit. */
  constructor(config: DeviceConfig, options: { index: number; allowWeak: boolean }) {
    this.index = options.index;
    this.#allowWeak = options.allowWeak;
    this.config = config;
    this.#inspection = inspectDevice(config.module, config);
    if (config.isolation === "inline") checkInline(config.id, this.#inspection.grants);
    this.#map = TraceMap.beside(config.module);
    this.#options = resolveOptions(this.#manifest, config.options ?? {});
    this.#notify = this.#manifest.queues.map(() => EventFd.create());
  }

  get #manifest(): Manifest {
    return this.#inspection.facts.manifest;
  }

  /**
   * virtio-mmio: kicks become events and events interrupts, without a vCPU leaving the kernel.
   * Those of PCI are where the guest wants them, which the I/O worker sees to.
   */
  connectMmio(vm: Vm): void {
    const { base, gsi } = virtioMmioWindow(this.index);
    for (const [queue, notify] of this.#notify.entries()) {
      vm.ioeventfd(notify.fd, { gpa: base + QUEUE_NOTIFY, value: queue });
    }
    vm.irqfd(this.#interrupt.fd, gsi);
  }

  /** What it may do inside the VMM's own process, if that is where it runs. */
  get inline(): InlineDevice | undefined {
    if (this.#inlineGrants === undefined) return undefined;
    const { imports } = this.#inspection.facts;
    return { id: this.config.id, grants: this.#inlineGrants, imports };
  }

  /** Files of the sockets on which it listens inside the VMM. */
  get socketFiles(): SocketFile[] {
    return (this.#inlineGrants ?? []).flatMap(({ socketFile }) => socketFile ?? []);
  }

  get ioData(): IoDeviceData {
    return {
      id: this.config.id,
      manifest: this.#manifest,
      notifyFds: this.#notify.map((notify) => notify.fd),
      interruptFd: this.#interrupt.fd,
      wakeFds: this.config.wakeFds ?? [],
    };
  }

  /** How its process is started and what it must be found to be; null for an inline device. */
  get plan(): DevicePlan | null {
    const { id, module, seccomp, isolation } = this.config;
    if (isolation === "inline") return null;
    const { grants, syscalls } = this.#inspection;
    const options = this.#options;
    return { id, module, grants, options, seccomp, allowWeak: this.#allowWeak, syscalls };
  }

  /** Starts the device's code; what the I/O worker must know of it is in attachCommand(). */
  async start(starter: DeviceStarter, onExit: (exit: DeviceExit) => void): Promise<void> {
    this.generation += 1;
    this.#startedAt = performance.now();
    this.#exit = this.config.isolation === "inline" ? INLINE_EXIT : undefined;
    this.#answered = undefined;
    this.#condemned = undefined;
    this.#process = undefined;
    this.confined = false;
    if (this.config.isolation === "inline") {
      if (this.#inlineGrants === undefined)
        this.#inlineGrants = openGrants(this.#inspection.grants);
      else rewindGrants(this.#inlineGrants);
      return;
    }
    this.#process = await starter.start(this.index);
    this.#process.onExit(onExit);
  }

  /** Tells the I/O worker where to reach the device; it closes the socket in the command. */
  attachCommand(): IoCommand {
    const device = this.index;
    if (this.#process === undefined) {
      const { module: bytes } = this.#inspection;
      const module = this.#map ? TraceMap.announce(bytes, this.config.module) : bytes;
      const grants = this.#inlineGrants ?? [];
      return { type: "attach-inline", device, module, grants, options: this.#options };
    }
    const { pid } = this.#process;
    const { seccomp } = this.config;
    return { type: "attach-process", device, socketFd: this.#process.takeSocket(), pid, seccomp };
  }

  /** A line that the device said: of its end, with the places in the author's source. */
  explain(line: string): string {
    const { reason, frames } = traceOf(line, this.#map);
    return [reason, ...frames].join("\n    at ");
  }

  /** Does of its verification, while it starts, what needs no process to look at. */
  foresee(): void {
    const { isolation, seccomp } = this.config;
    if (isolation !== "process" || seccomp !== "enforce") return;
    foresee(compilePolicy(this.#inspection.policy, SECCOMP_RET_USER_NOTIF));
  }

  /** Pid of the process in which the device's code runs. */
  get pid(): number {
    return this.#process?.pid ?? process.pid;
  }

  get status(): DeviceStatus {
    const { id, isolation } = this.config;
    const { pid } = this;
    return { id, state: this.#state, isolation, pid };
  }

  get #state(): DeviceStatus["state"] {
    if (this.failed) return "failed";
    return this.confined ? "running" : "starting";
  }

  /** Ends its process; the first `reason` of several is the one that is told. */
  kill(reason?: string): void {
    this.#condemned ??= reason;
    this.#process?.kill();
  }

  /**
   * Notes one end of a death. When both are known, its process is reaped and nobody uses its socket
   * any more, so that a successor can never work beside it: then returns how it ended.
   */
  died(end: { exit: DeviceExit } | { answered: number }): Death | undefined {
    if ("exit" in end) this.#exit = end.exit;
    else this.#answered = end.answered;
    this.confined = false;
    if (this.#exit === undefined || this.#answered === undefined) return undefined;
    const reason = this.#condemned ?? this.#exit.reason;
    const trapped = this.#exit === INLINE_EXIT || this.#exit.status === STATUS.trapped;
    return { reason, trapped, answered: this.#answered };
  }

  /**
   * The event that tells of a confined device, from what the kernel says of its process.
   *
   * @param report what the process says of itself: believed only in what it lacks
   * @throws VmmError ERR_SANDBOX when it is less confined than was asked for
   */
  async readyEvent(starter: DeviceStarter, report: object): Promise<UntimedEvent> {
    const { id, isolation } = this.config;
    const startMs = performance.now() - this.#startedAt;
    const { proof, syscalls, weak } =
      isolation === "process"
        ? await starter.verify(this.index, weaknessesIn(report))
        : { proof: await starter.prove(this.index), syscalls: null, weak: [] };
    const { pid, wxPages } = proof;
    return {
      event: "device-ready",
      id,
      pid,
      isolation,
      syscalls,
      fds: proof.fds.length,
      wxPages,
      startMs,
      ...(weak.length > 0 ? { weak: weak.map(describeWeakness) } : {}),
    };
  }

  /** Ends the device; resolves when its process is reaped, so that none is left behind. */
  async close(): Promise<void> {
    const device = this.#process;
    device?.close();
    await new Promise<void>((resolve) => {
      if (device === undefined) resolve();
      else device.onExit(() => resolve());
    });
    for (const fd of fdsOf(this.#inlineGrants ?? [])) close(fd);
    for (const notify of this.#notify) notify.close();
    this.#interrupt.close();
  }
}

/** How a device process ended, and how many requests it had answered. */
export interface Death {
  reason: string;
  /** Its module trapped, by what its process says. */
  trapped: boolean;
  answered: number;
}
