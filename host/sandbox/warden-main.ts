// The warden's process: starts again the devices that it was told of at its own start, says when
// one ends, and looks at them from outside. It never sees a byte of a guest or of a device. Whoever
// takes over the VMM can ask it for nothing but that: at most one more process a device, with the
// grants of the command line.

import { Socket } from "node:net";
import { VmmError } from "../errors.js";
import { _exit, close, prctl } from "../ffi/libc.js";
import { sendDescriptor } from "../ffi/scm.js";
import type { SocketFile } from "./grants.js";
import { PRCTL } from "./linux.js";
import { takeTurn } from "./schedule.js";
import type { DeviceProcess } from "./spawn.js";
import { ParentStarter } from "./starter.js";
import { removeSocketFile } from "./unix-socket.js";
import {
  DESCRIPTORS_FD,
  Lines,
  MESSAGES_FD,
  type WardenAnswer,
  type WardenRequest,
  type WardenSetup,
} from "./warden-messages.js";

class Warden {
  readonly #messages = new Socket({ fd: MESSAGES_FD, readable: true, writable: true });
  readonly #starter: ParentStarter;
  /** Devices that it started and that have not ended. */
  readonly #running = new Map<number, DeviceProcess>();

  readonly #socketFiles: readonly SocketFile[];

  constructor({ devices, socketFiles }: WardenSetup) {
    this.#starter = new ParentStarter(devices);
    this.#socketFiles = socketFiles;
    const lines = new Lines();
    this.#messages.setEncoding("utf8");
    this.#messages.on("data", (text: string) => {
      for (const request of lines.take<WardenRequest>(text)) this.#answer(request);
    });
    // From now on the closed socket tells that the VMM is gone, which leaves time for its files.
    prctl(PRCTL.PR_SET_PDEATHSIG, 0, 0, 0, 0);
    this.#messages.on("close", () => this.#leave());
    this.#messages.on("error", () => this.#leave());
  }

  /** The VMM is gone: so is the warden, and with it every device that it started. */
  #leave(): void {
    this.#removeFiles();
    _exit(0);
  }

  #removeFiles(): void {
    for (const file of this.#socketFiles) removeSocketFile(file);
  }

  /** Says why, and ends: a warden that does not know what it does must do nothing. */
  fail(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    const words: WardenAnswer = { tell: "broken", message };
    this.#messages.write(`${JSON.stringify(words)}\n`, () => _exit(1));
  }

  #tell(answer: WardenAnswer): void {
    this.#messages.write(`${JSON.stringify(answer)}\n`);
  }

  #answer(request: WardenRequest): void {
    try {
      this.#tell({ tell: "done", value: this.#serve(request) });
    } catch (error) {
      if (!(error instanceof VmmError)) throw error;
      this.#tell({ tell: "failed", code: error.code, message: error.message });
    }
  }

  #serve({ ask, device, said }: WardenRequest): unknown {
    // What only turns into an index, as [0] does, would be another key of what is running: then
    // there could be any number of processes of a device.
    if (!Number.isInteger(device)) throw new VmmError("ERR_INTERNAL", "A device is a number");
    switch (ask) {
      case "start":
        return this.#start(device);
      case "kill":
        this.#running.get(device)?.kill();
        return null;
      case "verify":
        return this.#starter.verify(device, said ?? []);
      case "prove":
        return this.#starter.prove(device);
      case "leave":
        this.#removeFiles();
        return null;
    }
  }

  #start(device: number): number {
    if (this.#running.has(device)) {
      throw new VmmError("ERR_INTERNAL", `Device ${device} runs already`);
    }
    const child = this.#starter.start(device);
    this.#running.set(device, child);
    child.onExit((exit) => {
      this.#running.delete(device);
      this.#tell({ tell: "exit", device, exit });
    });
    const socketFd = child.takeSocket();
    sendDescriptor(DESCRIPTORS_FD, socketFd);
    close(socketFd);
    return child.pid;
  }
}

takeTurn();
const warden = new Warden(JSON.parse(process.argv[2] ?? "") as WardenSetup);
process.on("uncaughtException", (error) => warden.fail(error));
