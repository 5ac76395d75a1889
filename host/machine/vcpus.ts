// The vCPU threads, seen from the supervisor: start them, let them go, and get every one of them
// out of KVM_RUN again, whatever the guest does.

import { once } from "node:events";
import type { Worker } from "node:worker_threads";
import { tgkill, viewOf } from "../ffi/libc.js";
import type { Shared } from "./shared.js";
import { threadFor } from "./thread.js";
import type {
  VcpuCommand,
  VcpuExit,
  VcpuMessage,
  VcpuRegisters,
  VcpuWorkerData,
} from "./vcpu-worker.js";
import type { EntryState } from "./x86/cpu.js";

/** Any signal with a handler ends KVM_RUN with EINTR; Node leaves this one to the program. */
const KICK_SIGNAL = "SIGUSR2";
const SIGUSR2 = 12;

/**
 * A kick may fall between the check of `stopping` and KVM_RUN of a string port access: kick again.
 */
const KICK_INTERVAL_MS = 5;

/**
 * How long is waited for vCPUs to halt or to show their registers. One that waits for whoever reads
 * the serial output, or for a device that answers, does so when it is done with that.
 */
const OBEY_MS_MAX = 2000;

interface Thread {
  worker: Worker;
  tid: number;
  immediateExit: Uint8Array;
  left: boolean;
  /** Its registers when they were asked for last, and at which inspection that was. */
  registers?: VcpuRegisters;
  inspection: number;
  /** Resolves when the thread is gone, whatever ended it. */
  ended: Promise<void>;
}

/** All vCPUs of a VM. */
export class Vcpus {
  readonly #shared: Shared;
  readonly #threads: Thread[];
  #running = false;
  /** The first exit that a vCPU reports. */
  readonly exit: Promise<VcpuExit>;

  private constructor(shared: Shared, threads: Thread[]) {
    this.#shared = shared;
    this.#threads = threads;
    this.exit = Promise.race(threads.map((thread) => exitOf(thread)));
  }

  /**
   * Starts a thread a vCPU; resolves when every vCPU exists, waiting in its thread.
   *
   * @param onOutputLost called with an errno when the serial output cannot be written
   */
  static async start(
    shared: Shared,
    data: Omit<VcpuWorkerData, "index">,
    onOutputLost: (errno: number) => void = () => {},
  ): Promise<Vcpus> {
    process.on(KICK_SIGNAL, ignoreKick);
    const indices = Array.from({ length: data.cpuCount }, (_, index) => index);
    const threads = await Promise.all(indices.map((index) => startThread({ ...data, index })));
    for (const { worker } of threads) {
      worker.on("message", (message: VcpuMessage) => {
        if (message.type === "output-lost") onOutputLost(message.errno);
      });
    }
    return new Vcpus(shared, threads);
  }

  /** The first vCPU enters the kernel as `entry` says; the others wait for its INIT and SIPI. */
  go(entry: EntryState): void {
    this.#running = true;
    for (const [index, { worker }] of this.#threads.entries()) {
      const firstEntry = index === 0 ? entry : undefined;
      worker.postMessage({ type: "start", entry: firstEntry } satisfies VcpuCommand);
    }
    this.#shared.go();
  }

  /**
   * Halts every vCPU. Returns whether all are; one that is not yet will halt when it can, unless
   * resume() comes before.
   */
  pause(): Promise<boolean> {
    this.#shared.paused = true;
    return this.#kickUntil(() => !this.#shared.paused || this.halted);
  }

  /** Lets the vCPUs go on. */
  resume(): void {
    this.#shared.paused = false;
  }

  /** Whether they are to be halted. */
  get paused(): boolean {
    return this.#shared.paused;
  }

  /** Whether every vCPU is halted. */
  get halted(): boolean {
    return this.#shared.haltedCount === this.#threads.length;
  }

  /** The registers of each vCPU, undefined for one that does not get to it in time. */
  async registers(): Promise<(VcpuRegisters | undefined)[]> {
    const asked = this.#shared.inspect();
    await this.#kickUntil(() =>
      this.#threads.every(({ left, inspection }) => left || inspection >= asked),
    );
    return this.#threads.map(({ inspection, registers }) =>
      inspection >= asked ? registers : undefined,
    );
  }

  /** Gets the vCPUs out of the guest until `done`, or it is too late: returns which. */
  async #kickUntil(done: () => boolean): Promise<boolean> {
    const end = performance.now() + OBEY_MS_MAX;
    while (!done()) {
      if (performance.now() > end || this.#shared.stopping) return false;
      if (this.#running) for (const thread of this.#threads) kick(thread);
      await new Promise((resolve) => setTimeout(resolve, KICK_INTERVAL_MS));
    }
    return true;
  }

  /** Gets every vCPU out of the guest and ends its thread. */
  async close(): Promise<void> {
    this.#shared.stop();
    while (this.#running && this.#threads.some((thread) => !thread.left)) {
      for (const thread of this.#threads) kick(thread);
      await new Promise((resolve) => setTimeout(resolve, KICK_INTERVAL_MS));
    }
    await Promise.all(this.#threads.map(closeThread));
    process.off(KICK_SIGNAL, ignoreKick);
  }
}

function ignoreKick(): void {
  // The signal has done its work when KVM_RUN returned EINTR.
}

async function startThread(data: VcpuWorkerData): Promise<Thread> {
  const worker = threadFor("vcpu", data);
  const ended = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  const [message] = (await once(worker, "message")) as [VcpuMessage];
  if (message.type !== "created") throw new Error(`vCPU ${data.index} left before it ran`);
  const immediateExit = new Uint8Array(viewOf(message.immediateExitAddress, 1));
  const thread: Thread = {
    worker,
    tid: message.tid,
    immediateExit,
    left: false,
    inspection: 0,
    ended,
  };
  worker.on("message", (told: VcpuMessage) => {
    if (told.type !== "registers") return;
    thread.registers = told.registers;
    thread.inspection = told.inspection;
  });
  return thread;
}

/** Lets a thread that is out of KVM_RUN release its vCPU: the VM lives as long as one is open. */
async function closeThread({ worker, ended }: Thread): Promise<void> {
  worker.postMessage({ type: "close" } satisfies VcpuCommand);
  await ended;
}

/** Resolves with why the vCPU left its loop; a thread that dies of our own bug counts as such. */
function exitOf(thread: Thread): Promise<VcpuExit> {
  return new Promise((resolve) => {
    thread.worker.on("message", (message: VcpuMessage) => {
      if (message.type !== "exit") return;
      thread.left = true;
      resolve(message.exit);
    });
    thread.worker.on("error", (error) => {
      thread.left = true;
      resolve({ reason: "internal-error", detail: String(error.stack ?? error) });
    });
    thread.worker.on("exit", () => {
      thread.left = true;
    });
  });
}

/** immediate_exit first: a signal alone is lost when it arrives just before KVM_RUN. */
function kick(thread: Thread): void {
  if (thread.left) return;
  thread.immediateExit[0] = 1;
  tgkill(process.pid, thread.tid, SIGUSR2);
}
