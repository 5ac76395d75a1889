// The warden's process: starts the devices that it was told of at its own start, says when one
// ends, and looks at them from outside. It never sees a byte of a guest or of a device.

import { Socket } from "node:net";
import { VmmError } from "../errors.js";
import { getppid, prctl } from "../ffi/libc.js";
import { sendDescriptor } from "../ffi/scm.js";
import { PRCTL, SIGNAL } from "./linux.js";
import { proofOf } from "./proof.js";
import { spawnDevice } from "./spawn.js";
import {
  Lines,
  type WardenAnswer,
  type WardenRequest,
  type WardenSetup,
} from "./warden-messages.js";

export const MESSAGES_FD = 3;
export const DESCRIPTORS_FD = 4;

class Warden {
  readonly #setup: WardenSetup;
  readonly #messages = new Socket({ fd: MESSAGES_FD, readable: true, writable: true });
  /** Processes that it may kill and look at: its own children, and those of the VMM. */
  readonly #pids = new Set<number>();

  constructor(setup: WardenSetup) {
    this.#setup = setup;
    const lines = new Lines();
    this.#messages.setEncoding("utf8");
    this.#messages.on("data", (text: string) => {
      for (const request of lines.take<WardenRequest>(text)) this.#serve(request);
    });
    // The VMM is gone: so are we, and with us every device that we started.
    this.#messages.on("close", () => process.exit(0));
    this.#messages.on("error", () => process.exit(0));
  }

  #tell(answer: WardenAnswer): void {
    this.#messages.write(`${JSON.stringify(answer)}\n`);
  }

  #serve(request: WardenRequest): void {
    switch (request.ask) {
      case "start":
        this.#start(request.device);
        break;
      case "adopt":
        this.#pids.add(request.pid);
        break;
      case "kill":
        if (this.#pids.has(request.pid)) kill(request.pid);
        break;
      case "prove":
        this.#prove(request);
        break;
    }
  }

  #start(device: number): void {
    try {
      const options = this.#setup.devices[device];
      if (options === undefined) throw new VmmError("ERR_INTERNAL", `no device ${device}`);
      const child = spawnDevice(options);
      const { pid, weak } = child;
      this.#pids.add(pid);
      child.onExit((exit) => {
        this.#pids.delete(pid);
        this.#tell({ tell: "exit", pid, exit });
      });
      sendDescriptor(DESCRIPTORS_FD, child.socketFd);
      child.releaseSocket();
      this.#tell({ tell: "started", device, pid, weak });
    } catch (error) {
      this.#tell({ tell: "not-started", device, message: messageOf(error) });
    }
  }

  #prove({ pid, ticket }: { pid: number; ticket: number }): void {
    try {
      if (!this.#pids.has(pid)) throw new VmmError("ERR_SANDBOX", `process ${pid} is not a device`);
      this.#tell({ tell: "proof", ticket, proof: proofOf(pid) });
    } catch (error) {
      this.#tell({ tell: "no-proof", ticket, message: messageOf(error) });
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** SIGKILL; a process that has ended meanwhile is what was wanted. */
function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {}
}

function main(): void {
  const setup = JSON.parse(process.argv[2] ?? "") as WardenSetup;
  prctl(PRCTL.PR_SET_PDEATHSIG, SIGNAL.SIGKILL, 0, 0, 0);
  if (getppid() !== setup.vmmPid) process.exit(0);
  // A terminal's Ctrl-C goes to the whole group: how the VM ends is the VMM's affair.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const)
    process.on(signal, () => {});
  new Warden(setup);
}

main();
